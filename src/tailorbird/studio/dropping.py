"""Where files are dropped or chosen: each is streamed to the service, with a row that shows how far it is."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nicegui import events, ui

from tailorbird.studio.visit import UPLOAD, Visit

LIMIT_BYTES = 512 * 1024 * 1024
"""Azure takes files below this; the service refuses what is not."""

_LIMIT_TEXT = "512 MB"
_UNDER_WAY = frozenset({"waiting", "sending", "saving"})


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A file that the service now has."""

    id: str
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Progress:
    """One file on its way. `state` is waiting, sending, saving, done, large, refused or stopped."""

    key: str
    name: str
    total: int
    state: str = "waiting"
    sent: int = 0
    id: str = ""
    message: str = ""

    @property
    def share(self) -> float:
        """How much of it is sent, from 0 to 1."""
        return 1.0 if self.state in ("saving", "done") else min(1.0, self.sent / self.total) if self.total else 0.0

    @property
    def under_way(self) -> bool:
        return self.state in _UNDER_WAY

    def after(self, news: Mapping[str, Any]) -> Progress:
        """What the browser says next about this file."""
        sent, state = int(news.get("sent") or self.sent), str(news["state"])
        if state == "sending" and sent >= self.total:
            # The last byte left the browser; the service still has to write it down.
            state = "saving"
        return Progress(
            self.key, self.name, self.total, state, sent, str(news.get("id") or ""), str(news.get("message") or "")
        )


@dataclass
class _Row:
    """A file's line in the list, and the parts of it that move."""

    progress: Progress
    element: ui.element
    note: ui.label | None = None
    bar: ui.linear_progress | None = None


class DropZone:
    """Drop or browse, several files; `on_done` hears of each file that arrived and may be a coroutine.

    Without the right to upload it is greyed and says which role it needs."""

    def __init__(self, visit: Visit, on_done: Callable[[Uploaded], Any], *, label: str = "") -> None:
        self._visit = visit
        self._on_done = on_done
        self._rows: dict[str, _Row] = {}
        t = visit.t
        reason = visit.refusal(UPLOAD)
        self.element = ui.element("div").classes("drop").props("role=group")
        self.element.props["aria-label"] = label or t("dropping.zone")
        with self.element:
            ui.icon("upload_file").props('aria-hidden="true"').classes("drop-icon")
            ui.label(label or t("dropping.invite")).classes("drop-text")
            self._input = ui.element("input").props('type=file multiple hidden accept=".jsonl,.json,.txt"')
            browse = ui.button(t("dropping.browse"), icon="folder_open").props("outline no-caps color=primary")
            browse.on("click", js_handler=f"() => document.getElementById('{self._input.html_id}').click()")
            ui.label(reason or t("dropping.limit", size=_LIMIT_TEXT)).classes("reason")
        self._list = ui.element("ul").classes("drop-rows")
        self._heard = ui.label().classes("unheard").props("role=status")
        if reason is not None:
            browse.disable()
            self.element.classes("drop-refused")
            return
        self._input.on("change", self._told, js_handler=f"(e) => studio.dropping.chosen(e.target, {LIMIT_BYTES}, emit)")
        here = "e.currentTarget.classList"
        self.element.on("dragover", js_handler=f"(e) => {{ e.preventDefault(); {here}.add('drop-over'); }}")
        self.element.on("dragleave", js_handler=f"(e) => {here}.remove('drop-over')")
        self.element.on(
            "drop",
            self._told,
            js_handler=f"(e) => {{ e.preventDefault(); {here}.remove('drop-over'); "
            f"studio.dropping.take(e.dataTransfer.files, {LIMIT_BYTES}, emit); }}",
        )

    async def _told(self, event: events.GenericEventArguments) -> None:
        news: dict[str, Any] = event.args
        key = str(news["key"])
        row = self._rows.get(key)
        if row is None:
            now = Progress(key, str(news["name"]), int(news["total"]), str(news["state"]))
            with self._list:
                row = self._rows[key] = _Row(now, ui.element("li").classes("drop-row"))
            self._draw(row)
            return
        before, row.progress = row.progress, row.progress.after(news)
        if row.progress.state == "stopped":
            self._forget(key)
            return
        if row.progress.state == before.state == "sending":
            self._move(row)
            return
        self._draw(row)
        if row.progress.state == "done":
            self._heard.set_text(f"{row.progress.name}: {self._visit.t('dropping.done')}")
            heard = self._on_done(Uploaded(row.progress.id, row.progress.name, row.progress.total))
            if inspect.isawaitable(heard):
                await heard

    def _draw(self, row: _Row) -> None:
        t, now = self._visit.t, row.progress
        row.element.clear()
        with row.element:
            with ui.element("div").classes("spread"):
                ui.label(now.name).classes("drop-name")
                row.note = ui.label(self._note(now)).classes("quiet")
                if now.under_way:
                    stop = _small(t("dropping.stop", name=now.name), "close")
                    stop.on("click", self._told, js_handler=f"() => studio.dropping.stop({json.dumps(now.key)}, emit)")
                else:
                    _small(t("dropping.dismiss", name=now.name), "close").on_click(lambda: self._forget(now.key))
            if now.under_way:
                row.bar = ui.linear_progress(now.share, show_value=False, size="6px").props("rounded")
                row.bar.props["aria-label"] = now.name
            elif now.state != "done":
                ui.label(self._fault(now)).classes("problem").props("role=alert")

    def _move(self, row: _Row) -> None:
        """Only what changes: whoever is on the button to stop it stays there."""
        if row.note is not None and row.bar is not None:
            row.note.set_text(self._note(row.progress))
            row.bar.set_value(row.progress.share)

    def _note(self, now: Progress) -> str:
        t = self._visit.t
        if now.state == "sending":
            return t("dropping.sent", sent=t.size(now.sent), total=t.size(now.total))
        return t(f"dropping.{now.state}") if now.under_way or now.state == "done" else ""

    def _fault(self, now: Progress) -> str:
        t = self._visit.t
        if now.state == "large":
            return t("dropping.large", size=t.size(now.total), limit=_LIMIT_TEXT)
        return now.message or t("dropping.broken")

    def _forget(self, key: str) -> None:
        self._rows.pop(key).element.delete()


def _small(label: str, icon: str) -> ui.button:
    made = ui.button(icon=icon).props("flat round dense size=sm")
    made.props["aria-label"] = label
    return made
