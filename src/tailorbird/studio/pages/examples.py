"""Figures of a training file, and its lines as conversations, a few more with each press of a button."""

from __future__ import annotations

from nicegui import ui

from tailorbird.studio.controls import attempt
from tailorbird.studio.pages.conversation import example
from tailorbird.studio.visit import Visit

_LINES = 5
_FRESH_SECONDS = 600.0
"""A file's bytes never change."""


async def figures(visit: Visit, file_id: str, model: str) -> None:
    """Rows, tokens, the longest line; and what no job could use."""
    t = visit.t
    with ui.element("div").props("aria-live=polite") as place:
        with ui.element("div").classes("row quiet") as waiting:
            ui.spinner(size="20px")
            ui.label(t("file.counting"))
        fault = ui.element("div")
    asked = {"model": model} if model else {}
    found = await attempt(visit.api.fresh(f"/files/{file_id}/statistics", _FRESH_SECONDS, plane="own", **asked), fault)
    waiting.delete()
    if found is None:
        return
    about = "" if found["tokens_are_exact"] else "≈ "
    longest = found["longest"]
    with place:
        with ui.element("dl").classes("file-figures"):
            _figure(t("file.rows"), t.number(found["examples"]))
            _figure(t("file.all_tokens"), about + t.number(found["tokens"]))
            _figure(t("file.trained_tokens"), about + t.number(found["trained_tokens"]))
            if longest is not None:
                note = t("file.in_line", line=t.number(longest["line"]), most=t.number(found["max_tokens"]))
                _figure(t("file.longest"), t.number(longest["tokens"]), note)
        if found["too_long"]:
            told = t("file.too_long", rows=t.number(found["too_long"]), most=t.number(found["max_tokens"]))
            ui.label(told).classes("warning")
        if found["unusable"]:
            ui.label(t("file.unusable", rows=t.number(found["unusable"]))).classes("warning")
        ui.label(t("file.counted_by", model=found["model"])).classes("reason")


def _figure(name: str, value: str, note: str = "") -> None:
    with ui.element("div").classes("figure-box"):
        with ui.element("dt").classes("quiet"):
            ui.label(name)
        with ui.element("dd"):
            ui.label(value).classes("figure")
            if note:
                ui.label(note).classes("reason")


class Examples:
    """Adds to the element it was made in."""

    def __init__(self, visit: Visit, file_id: str, model: str) -> None:
        self._visit = visit
        self._path = f"/files/{file_id}/preview"
        self._asked = {"limit": str(_LINES)} | ({"model": model} if model else {})
        self._after = "0"
        self._place = ui.element("div").classes("example-list")
        self._foot = ui.element("div")

    async def more(self) -> None:
        """The next lines."""
        work = self._visit.api.own("GET", self._path, params={**self._asked, "after": self._after})
        found = await attempt(work, self._foot)
        if found is None:
            return
        self._foot.clear()
        with self._place:
            for line in found["data"]:
                example(self._visit, line)
        if found["has_more"]:
            self._after = found["last_id"]
            with self._foot:
                more = ui.button(self._visit.t("file.more_examples"), on_click=self.more)
                more.props("outline no-caps color=primary")
