"""Everything that is wrong with a file, line by line, each with what mends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nicegui import ui

from tailorbird.studio.controls import attempt, card, heading
from tailorbird.studio.pages.file_rows import File, remedy_of
from tailorbird.studio.visit import Visit

_AT_ONCE = 25


async def problem_list(visit: Visit, file: File) -> None:
    """Some at first, more with each press of the button."""
    t = visit.t
    with card() as place:
        place.props("id=problems")
        told = ui.element("div")
        listed = ui.element("ol").classes("problem-rows")
        foot = ui.element("div")
    after = 0

    async def more() -> None:
        nonlocal after
        work = visit.api.own("GET", f"/files/{file['id']}/problems", params={"limit": _AT_ONCE, "after": after})
        found = await attempt(work, foot)
        if found is None:
            return
        after += len(found["data"])
        foot.clear()
        told.clear()
        with told:
            heading(t("file.problems", count=t.number(found["total"])), 2)
            ui.label(t("file.problems_lead")).classes("quiet")
        with listed:
            for one in found["data"]:
                _problem(visit, one)
        if found["has_more"]:
            rest = t("file.more_problems", count=t.number(min(_AT_ONCE, found["total"] - after)))
            with foot:
                ui.button(rest, on_click=more).props("outline no-caps color=primary")

    await more()


def _problem(visit: Visit, one: Mapping[str, Any]) -> None:
    t = visit.t
    with ui.element("li").classes("problem-row"):
        with ui.element("div").classes("row"):
            line = one["line"]
            ui.label(t("file.line", line=t.number(line)) if line else t("file.whole")).classes("problem-line")
            if one["field"]:
                ui.label(one["field"]).classes("mono problem-field")
        ui.label(one["message"]).classes("problem-text")
        if remedy := remedy_of(one["field"], one["message"]):
            ui.label(t(f"file.remedy_{remedy}")).classes("quiet")
        if one["excerpt"]:
            ui.label(one["excerpt"]).classes("mono problem-excerpt")
