"""Fine-tuning jobs, live, and the account's fine-tuned models: two lists under one heading."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from tailorbird.studio import job_lists
from tailorbird.studio.client import Refused
from tailorbird.studio.controls import empty, status, title
from tailorbird.studio.job_lists import STATES, Row, Wish, title_of
from tailorbird.studio.pages import tuned_models
from tailorbird.studio.sheets import Column, Sheet
from tailorbird.studio.visit import TRAIN, Visit

_LIVE_SECONDS, _QUIET_SECONDS = 2.5, 5.0


async def page(visit: Visit, tab: str = "jobs") -> None:
    t = visit.t
    with ui.element("div").classes("spread"):
        title(visit, t("jobs.title"), t("jobs.lead"))
        new = ui.button(t("jobs.new"), icon="add", on_click=lambda: ui.navigate.to("/create"))
        new.props("no-caps unelevated color=primary")
        if (reason := visit.refusal(TRAIN)) is not None:
            new.disable()
            new.tooltip(reason)
            ui.label(reason).classes("reason")
    models = tab == "models"
    with ui.element("nav").classes("tabs").props(f'aria-label="{t("jobs.tabs")}"'):
        for name, target, here in (
            ("jobs.tab_jobs", "/jobs", not models),
            ("jobs.tab_models", "/jobs?tab=models", models),
        ):
            link = ui.link(t(name), target)
            if here:
                link.props("aria-current=page")
    if models:
        await tuned_models.show(visit)
    else:
        await _Jobs(visit).show()


class _Jobs:
    """The list as it is seen: what was asked for, the rows of the page at hand, and their cells that change."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._draft = visit.kept("jobs")
        self._wish = Wish.kept(self._draft)
        self._page = 0
        self._jobs: list[dict[str, Any]] = []
        self._shown: list[str] = []
        self._cells: dict[str, ui.element] = {}

    async def show(self) -> None:
        self._jobs = await job_lists.all_jobs(self._visit.api, 1.0)
        self._filters()
        t = self._visit.t
        columns = [
            Column(t("jobs.name"), "name"),
            Column(t("jobs.status"), "status"),
            Column(t("jobs.model"), "model"),
            Column(t("jobs.created"), "created"),
        ]
        self._nothing = ui.element("div").classes("maybe")
        self._sheet = Sheet(t("jobs.title"), columns, self._sort)
        self._foot = ui.element("div").classes("row maybe")
        self._draw()
        self._timer = ui.timer(self._pause(), self._refresh, immediate=False)

    def _pause(self) -> float:
        return _LIVE_SECONDS if job_lists.moving(self._jobs) else _QUIET_SECONDS

    def _filters(self) -> None:
        t = self._visit.t
        with ui.element("div").classes("filters").props(f'role=search aria-label="{t("jobs.filters")}"'):
            search = ui.input(t("jobs.search"), value=self._wish.search)
            search.props("dense outlined clearable debounce=250 type=search").classes("grow")
            search.on_value_change(lambda event: self._want(search=event.value or ""))
            states = {state: t(f"jobs.state_{state}") for state in STATES}
            chosen = ui.select(states, value=self._wish.state, label=t("jobs.status"))
            chosen.props("dense outlined options-dense").style("min-width: 170px")
            chosen.on_value_change(lambda event: self._want(state=event.value))
        self._count = ui.label().classes("quiet").props("role=status")

    def _sort(self, key: str) -> None:
        turned = key == self._wish.sort
        self._want(sort=key, descending=not self._wish.descending if turned else key == "created")

    def _want(self, **change: Any) -> None:
        self._wish = dataclasses.replace(self._wish, **change)
        self._draft.update(dataclasses.asdict(self._wish))
        self._page = 0
        self._draw()

    def _turn(self, by: int) -> None:
        self._page += by
        self._draw()

    async def _refresh(self) -> None:
        try:
            jobs = await job_lists.all_jobs(self._visit.api, _LIVE_SECONDS - 0.5)
        except Refused:
            return  # what is shown stays; the next look may do better
        if jobs != self._jobs:
            self._jobs = jobs
            self._draw()
        self._timer.interval = self._pause()

    def _draw(self) -> None:
        """Builds the rows anew where other ones are wanted; where they are the same, changes what changed in them."""
        visit, t = self._visit, self._visit.t
        fitting = job_lists.chosen(self._jobs, self._wish)
        rows, self._page, pages = job_lists.page_of(fitting, self._page)
        self._sheet.sorted_by(self._wish.sort, descending=self._wish.descending)
        self._count.set_text(t("jobs.count", shown=visit.t.number(len(fitting)), all=visit.t.number(len(self._jobs))))
        self._count.set_visibility(bool(self._jobs))
        ids = [str(job["id"]) for job in rows]
        if ids == self._shown:
            for job in rows:
                self._update(job)
        else:
            self._rebuild(rows)
            self._shown = ids
        self._show_nothing(bool(fitting))
        self._show_pages(pages)

    def _rebuild(self, rows: Sequence[Row]) -> None:
        self._sheet.body.clear()
        self._cells.clear()
        for job in rows:
            with self._sheet.row():
                with self._sheet.cell(0, heading=True), ui.element("div"):
                    ui.link(title_of(job), f"/jobs/{job['id']}")
                    ui.label(str(job["id"])).classes("sub")
                with self._sheet.cell(1) as cell:
                    self._cells[str(job["id"])] = cell
                    status(str(job["status"]))
                with self._sheet.cell(2):
                    ui.label(str(job["model"]))
                with self._sheet.cell(3):
                    ui.label(self._visit.t.moment(job["created_at"]))

    def _update(self, job: Mapping[str, Any]) -> None:
        cell = self._cells[str(job["id"])]
        [known] = cell.default_slot.children
        if isinstance(known, ui.label) and known.text != job["status"]:
            cell.clear()
            with cell:
                status(str(job["status"]))

    def _show_nothing(self, some: bool) -> None:
        t = self._visit.t
        self._sheet.element.set_visibility(some)
        self._nothing.clear()
        if some:
            return
        with self._nothing:
            empty(t("jobs.none_fit") if self._jobs else t("jobs.none"))

    def _show_pages(self, pages: int) -> None:
        t = self._visit.t
        self._foot.clear()
        if pages < 2:
            return
        with self._foot:
            before = ui.button(icon="chevron_left", on_click=lambda: self._turn(-1))
            before.props(f'flat round aria-label="{t("jobs.page_before")}"').set_enabled(self._page > 0)
            ui.label(t("jobs.page", page=self._page + 1, pages=pages))
            after = ui.button(icon="chevron_right", on_click=lambda: self._turn(1))
            after.props(f'flat round aria-label="{t("jobs.page_after")}"').set_enabled(self._page < pages - 1)
