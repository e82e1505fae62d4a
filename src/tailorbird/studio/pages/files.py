"""Data files: dropped, browsed for or fetched from a URL; the list of all, live."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from nicegui import ui

from tailorbird.studio.client import Refused
from tailorbird.studio.controls import card, empty, status, title
from tailorbird.studio.dropping import DropZone, Uploaded
from tailorbird.studio.pages.deleting import ask_and_delete
from tailorbird.studio.pages.file_rows import (
    KINDS,
    SORTS,
    UNDER_WAY,
    File,
    can_train,
    chosen,
    kind_of,
)
from tailorbird.studio.pages.importing import ImportForm
from tailorbird.studio.pages.saving import download_link
from tailorbird.studio.visit import DELETE_FILE, TRAIN, Visit

_AT_ONCE = 50
_TICK, _CALM_TICKS = 2.0, 5
"""Seconds between looks while a file is being checked; when none is, only every so many ticks brings a look."""


async def page(visit: Visit) -> None:
    t = visit.t
    title(visit, t("files.title"), t("files.lead"))
    with ui.element("div").classes("grid files-in"):
        with card(t("files.upload")):

            async def arrived(_: Uploaded) -> None:
                await listed.look(now=True)

            DropZone(visit, arrived)
        with card(t("files.import_title")):

            async def begun() -> None:
                ui.notify(t("files.importing"), type="positive")
                await listed.look(now=True)

            ImportForm(visit, begun)
    with card(t("files.list")):
        listed = FileList(visit)
        await listed.look()
    ui.timer(_TICK, listed.tick, immediate=False)


class FileList:
    """Search, filter and order are kept for the person; only rows that changed are sent to the browser."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._kept = visit.kept("files")
        self._files: Sequence[File] = ()
        self._most = _AT_ONCE
        self._ticks = 0
        self._rows: dict[str, tuple[str, ui.element]] = {}
        self._tools()
        # Announced politely: how many there are changes with every letter of a search.
        self._count = ui.label().classes("quiet").props('role=status aria-live="polite"')
        # Greyed icons say why only to a pointer.
        for reason in {visit.refusal(action) or "" for action in (TRAIN, DELETE_FILE)} - {""}:
            ui.label(reason).classes("reason")
        self._place = ui.element("div")
        self._body: ui.element | None = None

    async def tick(self) -> None:
        self._ticks += 1
        if any(file["status"] in UNDER_WAY for file in self._files) or self._ticks % _CALM_TICKS == 0:
            # What cannot be asked now is asked again in a moment; the list stays as it is.
            with suppress(Refused):
                await self.look()

    async def look(self, *, now: bool = False) -> None:
        """Asks and shows what changed. Raises Refused."""
        if now:
            self._visit.api.forget()
        self._files = (await self._visit.api.fresh("/files", _TICK / 2))["data"]
        self._draw()

    def _tools(self) -> None:
        t = self._visit.t
        with ui.element("div").classes("file-tools").props("role=search"):
            search = ui.input(t("files.search"), value=self._kept.get("search", ""), on_change=self._changed("search"))
            search.props("outlined dense clearable debounce=200 type=search")
            for name, values, usual in (("kind", KINDS, "training"), ("sort", SORTS, "newest")):
                select = ui.select(
                    {value: t(f"files.{name}_{value}") for value in values},
                    value=self._kept.get(name, usual),
                    label=t(f"files.{name}"),
                    on_change=self._changed(name),
                )
                select.props("outlined dense options-dense")

    def _changed(self, name: str) -> Any:
        def change(event: Any) -> None:
            self._kept[name] = event.value or ""
            self._most = _AT_ONCE
            self._draw()

        return change

    def _draw(self) -> None:
        t = self._visit.t
        kind = self._kept.get("kind", "training")
        found = chosen(self._files, kind, self._kept.get("search", ""), self._kept.get("sort", "newest"))
        shown = found[: self._most]
        size = t.size(sum(file["bytes"] for file in found))
        self._count.set_text(t("files.count", shown=t.number(len(found)), size=size) if found else "")
        if self._body is not None and list(self._rows) == [file["id"] for file in shown] and shown:
            for file in shown:
                before, row = self._rows[file["id"]]
                if before != _signature(file):
                    row.clear()
                    self._fill(row, file)
            return
        self._place.clear()
        self._rows = {}
        self._body = None
        with self._place:
            if not shown:
                self._nothing()
                return
            self._table(shown)
            if len(found) > len(shown):
                more = t("files.more", count=t.number(min(_AT_ONCE, len(found) - len(shown))))
                ui.button(more, on_click=self._show_more).props("flat no-caps color=primary")

    def _show_more(self) -> None:
        self._most += _AT_ONCE
        self._draw()

    def _nothing(self) -> None:
        t = self._visit.t
        if not self._files:
            empty(t("files.none"))
            return
        with empty(t("files.no_match")):
            ui.button(t("files.clear"), on_click=self._clear).props("flat no-caps color=primary")

    def _clear(self) -> None:
        self._kept.update(search="", kind="all")
        ui.navigate.reload()

    def _table(self, shown: Sequence[File]) -> None:
        t = self._visit.t
        with ui.element("table").classes("file-list") as table:
            table.props["aria-label"] = t("files.list")
            with ui.element("thead"), ui.element("tr"):
                for name in ("name", "status", "purpose", "size", "added", "actions"):
                    with ui.element("th").props("scope=col"):
                        ui.label(t(f"files.{name}")).classes("inline")
            with ui.element("tbody") as self._body:
                for file in shown:
                    row = ui.element("tr")
                    self._fill(row, file)

    def _fill(self, row: ui.element, file: File) -> None:
        t = self._visit.t
        self._rows[file["id"]] = (_signature(file), row)
        with row:
            with _cell("", "th") as cell:
                cell.props("scope=row")
                ui.link(file["filename"], f"/files/{file['id']}").classes("row-name")
                ui.label(file["id"]).classes("row-id")
            with _cell(t("files.status")):
                status(file["status"])
                if file["status"] == "error":
                    ui.link(t("files.see_problems"), f"/files/{file['id']}").classes("row-more")
            with _cell(t("files.purpose")):
                ui.label(t(f"files.purpose_{kind_of(file)}") if kind_of(file) != "other" else file["purpose"])
            with _cell(t("files.size")):
                arrives = not file["bytes"] and file["status"] in UNDER_WAY
                ui.label(t("files.arriving") if arrives else t.size(file["bytes"])).classes("number")
            with _cell(t("files.added")):
                ui.label(t.moment(file["created_at"]))
            with _cell(""), ui.element("div").classes("row-actions"):
                self._actions(file)

    def _actions(self, file: File) -> None:
        t, name = self._visit.t, file["filename"]
        if can_train(file):
            tune = functools.partial(ui.navigate.to, f"/create?training_file={file['id']}")
            _small(self._visit, "auto_fix_high", t("files.use", name=name), tune, TRAIN)
        with download_link(self._visit, file).classes("icon-link") as link:
            link.props["aria-label"] = t("files.download", name=name)
            ui.icon("download").props('aria-hidden="true"')
            ui.tooltip(t("shell.download"))
        _small(self._visit, "delete", t("files.delete", name=name), functools.partial(self._delete, file), DELETE_FILE)

    async def _delete(self, file: File) -> None:
        if await ask_and_delete(self._visit, file):
            await self.look(now=True)


def _signature(file: File) -> str:
    return f"{file['status']} {file['bytes']} {file['filename']}"


def _cell(label: str, tag: str = "td") -> ui.element:
    """Where the table becomes cards, each cell says what it is."""
    cell = ui.element(tag)
    if label:
        cell.props["data-label"] = label
    return cell


def _small(visit: Visit, icon: str, label: str, on_click: Any, action: str) -> None:
    reason = visit.refusal(action)
    made = ui.button(icon=icon, on_click=on_click).props("flat round dense")
    made.props["aria-label"] = label if reason is None else f"{label}. {reason}"
    made.tooltip(label if reason is None else reason)
    if reason is not None:
        made.disable()
