"""What is running, queued, deployed, spent; the first steps of somebody new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from tailorbird.studio import job_lists, sample
from tailorbird.studio.client import Refused
from tailorbird.studio.controls import attempt, button, card, heading, status, title
from tailorbird.studio.pages import readiness
from tailorbird.studio.pages.amounts import money
from tailorbird.studio.sheets import Column, Sheet
from tailorbird.studio.visit import TRAIN, Visit
from tailorbird.studio.words import Words

RECENT = 5
_LIVE_SECONDS, _QUIET_SECONDS = 2.5, 15.0
_SPENT_SECONDS = 30.0
_WAITING = frozenset({"pending", "resuming"})
_RUNNING = frozenset({"running", "pausing"})

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Figures:
    """None where the person may not see it; `spent` is amount and currency."""

    running: int | None
    queued: int | None
    paused: int
    deployed: int | None
    unused: int
    spent: tuple[str, str] | None


def count(jobs: Sequence[Row] | None, deployments: Sequence[Row] | None, usage: Row | None) -> Figures:
    words = [str(job["status"]) for job in jobs or ()]
    return Figures(
        running=None if jobs is None else sum(word in _RUNNING for word in words),
        queued=None if jobs is None else sum(word in _WAITING for word in words),
        paused=words.count("paused"),
        deployed=None if deployments is None else len(deployments),
        unused=sum(one["last_used_at"] is None for one in deployments or ()),
        spent=None if usage is None else (usage["total"], usage["currency"]),
    )


async def page(visit: Visit) -> None:
    with ui.element("div").classes("spread"):
        title(visit, visit.t("home.title"), visit.t("home.lead"))
        button(visit, visit.t("shell.create"), _create, action=TRAIN, icon="add")
    await _Home(visit).show()


def _create() -> None:
    ui.navigate.to("/create")


class _Home:
    """What was shown last is remembered, so that only news is drawn."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._jobs: list[dict[str, Any]] = []
        self._figures: Figures | None = None
        self._recent: list[tuple[Any, ...]] | None = None
        self._is_new: bool | None = None

    async def show(self) -> None:
        self._boxes = ui.element("div").classes("grid home-figures").props("aria-live=off")
        self._first = ui.element("div")
        with card(self._visit.t("home.recent")) as self._card:
            self._list = ui.element("div")
        _draft(self._visit)
        readiness.invite(self._visit)
        await self._refresh()
        self._timer = ui.timer(self._pause(), self._again, immediate=False)

    def _pause(self) -> float:
        return _LIVE_SECONDS if job_lists.moving(self._jobs) else _QUIET_SECONDS

    async def _again(self) -> None:
        try:
            await self._refresh()
        except Refused:
            # The service is being restarted; the next look will tell.
            return
        self._timer.interval = self._pause()

    async def _refresh(self) -> None:
        api = self._visit.api
        jobs = await _seen(job_lists.all_jobs(api, 2.0))
        self._jobs = jobs or []
        deployments = await _seen(api.fresh("/deployments", 5.0, plane="own"))
        usage = await _seen(api.fresh("/usage", _SPENT_SECONDS, plane="own", group_by="model"))
        figures = count(jobs, None if deployments is None else deployments["data"], usage)
        if figures != self._figures:
            self._figures = figures
            self._draw_figures(figures)
        self._card.set_visibility(bool(self._jobs))
        self._draw_first(jobs == [])
        recent = [(job["id"], job["status"]) for job in self._jobs[:RECENT]]
        if recent != self._recent:
            self._recent = recent
            self._draw_recent()

    # --- parts --------------------------------------------------------------------------------------------------------

    def _draw_figures(self, found: Figures) -> None:
        t = self._visit.t
        paused = t("home.paused", count=found.paused) if found.paused else t("home.running_note")
        unused = t("home.unused", count=found.unused) if found.unused else t("home.deployed_note")
        spent = money(t, *found.spent) if found.spent else "–"
        self._boxes.clear()
        with self._boxes:
            _box(t("home.running"), _number(t, found.running), paused, "/jobs")
            _box(t("home.queued"), _number(t, found.queued), t("home.queued_note"), "/jobs")
            _box(t("home.deployed"), _number(t, found.deployed), unused, "/deployments")
            _box(t("home.spent"), spent, t("home.spent_note" if found.spent else "home.spent_hidden"), "/usage")

    def _draw_first(self, is_new: bool) -> None:
        if is_new == self._is_new:
            return
        self._is_new = is_new
        self._first.clear()
        if not is_new:
            return
        t = self._visit.t
        with self._first, card() as first:
            first.classes("first-run")
            heading(t("home.first"), 2)
            ui.label(t("home.first_lead")).classes("lead")
            with ui.element("ol").classes("first-steps"):
                for step in ("upload", "train", "try"):
                    with ui.element("li"):
                        ui.label(t(f"home.first_{step}")).classes("inline")
            refused = ui.element("div")
            with ui.element("div").classes("row"):
                self._start = button(
                    self._visit,
                    t("home.start_sample"),
                    lambda: self._start_sample(refused),
                    action=TRAIN,
                    icon="play_arrow",
                    kind="primary",
                )
                ui.link(t("home.see_sample"), f"/static/{sample.TRAINING}").props("download")
                ui.link(t("home.own_data"), "/create")

    async def _start_sample(self, refused: ui.element) -> None:
        self._start.props("loading")
        self._start.disable()
        job = await attempt(sample.start(self._visit.api), refused)
        if job:
            ui.navigate.to(f"/jobs/{job}")
            return
        self._start.props(remove="loading")
        self._start.enable()

    def _draw_recent(self) -> None:
        t = self._visit.t
        columns = [Column(t(f"home.column_{name}")) for name in ("job", "status", "model", "created")]
        self._list.clear()
        with self._list:
            sheet = Sheet(t("home.recent"), columns)
            for job in self._jobs[:RECENT]:
                with sheet.row():
                    with sheet.cell(0, heading=True):
                        ui.link(job_lists.title_of(job), f"/jobs/{job['id']}")
                    with sheet.cell(1):
                        status(job["status"])
                    with sheet.cell(2):
                        ui.label(job["model"])
                    with sheet.cell(3):
                        ui.label(t.moment(job["created_at"]))
            if len(self._jobs) > RECENT:
                ui.link(t("home.all_jobs", count=t.number(len(self._jobs))), "/jobs")


def _number(t: Words, count: int | None) -> str:
    return "–" if count is None else t.number(count)


def _box(label: str, value: str, note: str, where: str) -> None:
    with ui.link(target=where).classes("figure-box figure-link"):
        ui.label(label).classes("quiet")
        ui.label(value).classes("figure")
        ui.label(note).classes("reason")


def _draft(visit: Visit) -> None:
    """An unfinished wizard, for those who closed the browser in the middle."""
    draft = visit.kept("create")
    if not (draft.get("training_file") or draft.get("model")):
        return
    with card(), ui.element("div").classes("spread"):
        ui.label(visit.t("home.unfinished"))
        ui.link(visit.t("home.go_on"), f"/create?step={draft.get('step') or 1}")


async def _seen(answer: Any) -> Any:
    """None where the person's role does not let them look."""
    try:
        return await answer
    except Refused as error:
        if error.status in (401, 403):
            return None
        raise
