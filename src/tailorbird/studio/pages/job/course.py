"""How far a job is: its state in words, its place in the queue, a bar, the time left; and what can be done with it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

from nicegui import ui

from tailorbird.studio.controls import attempt, button, card, confirm, heading, problem, status
from tailorbird.studio.following import Following, News
from tailorbird.studio.pages.amounts import money
from tailorbird.studio.pages.job.surroundings import Surroundings
from tailorbird.studio.sheets import Column, Sheet
from tailorbird.studio.visit import CANCEL_JOB, DELETE_JOB, DEPLOY, TRAIN, Visit
from tailorbird.studio.words import Words

_STAGES = frozenset({"validate", "screen_data", "train", "prove", "screen_model", "register"})


class Course:
    def __init__(self, visit: Visit, followed: Following, around: Surroundings) -> None:
        self._visit = visit
        self._followed = followed
        self._around = around
        with card() as self._card:
            with ui.element("div").classes("spread"):
                with ui.element("div").classes("row").props("role=status"):
                    self._state = ui.element("div")
                    self._sentence = ui.label()
                self._buttons = ui.element("div").classes("row")
            with (
                ui.element("div")
                .classes("track")
                .props(
                    f'role=progressbar aria-valuemin=0 aria-valuemax=100 aria-label="{visit.t("job.progress")}"'
                ) as self._bar
            ):
                self._fill = ui.element("div")
            self._line = ui.label().classes("quiet")
            self._trouble = ui.element("div").classes("maybe stack")
        self._drawn = ""
        self._pausable = False
        self._draw_state()
        self._draw_progress()

    def hear(self, news: News) -> None:
        if news.job or self._pausable != pausable(self._followed.progress):
            self._draw_state()
        self._draw_progress()

    def around(self, around: Surroundings) -> None:
        self._around = around
        self._draw_state()
        self._draw_progress()

    def _draw_state(self) -> None:
        followed = self._followed
        self._state.clear()
        with self._state:
            status(followed.status)
        self._buttons.clear()
        with self._buttons:
            self._actions()
        self._trouble.clear()
        with self._trouble:
            self._failure()

    def _draw_progress(self) -> None:
        progress, t = self._followed.progress, self._visit.t
        share = share_done(progress)
        drawn = f"{share:.3f}"
        if drawn != self._drawn:
            self._drawn = drawn
            self._fill.style(f"transform: scaleX({drawn})")
            self._bar.props(f"aria-valuenow={round(100 * share)}")
        self._sentence.set_text(sentence(t, progress))
        self._line.set_text(" · ".join(figures(t, progress, time.time())))

    # --- what can be done ---------------------------------------------------------------------------------------------

    def _actions(self) -> None:
        visit, t, job, state = self._visit, self._visit.t, self._followed.job, self._followed.status
        self._pausable = pausable(self._followed.progress)
        if self._pausable:
            button(visit, t("job.pause"), self._pause, action=CANCEL_JOB, icon="pause")
        if state == "paused":
            button(visit, t("job.resume"), self._resume, action=TRAIN, icon="play_arrow", kind="primary")
        model = job.get("fine_tuned_model")
        if model:
            name = quote(str(model), safe="")
            deploy = f"/deployments?model={name}"
            button(
                visit,
                t("job.deploy"),
                lambda: ui.navigate.to(deploy),
                action=DEPLOY,
                icon="rocket_launch",
                kind="primary",
            )
            again = f"/create?model={name}"
            button(visit, t("job.tune_again"), lambda: ui.navigate.to(again), action=TRAIN, icon="auto_fix_high")
        if self._followed.ended:
            button(visit, t("shell.delete"), self._delete, action=DELETE_JOB, icon="delete", kind="danger")
        else:
            button(visit, t("job.cancel"), self._cancel, action=CANCEL_JOB, icon="stop", kind="danger")

    async def _ask(self, work: Awaitable[Any], said: str) -> None:
        if await attempt(work) is not None:
            ui.notify(said)
        # Refused or not: what is shown may be out of date.
        self._followed.nudge()

    def _post(self, verb: str) -> Callable[[], Awaitable[Any]]:
        return lambda: self._visit.api.data("POST", f"/fine_tuning/jobs/{self._followed.id}/{verb}")

    async def _pause(self) -> None:
        await self._ask(self._post("pause")(), self._visit.t("job.pausing"))

    async def _resume(self) -> None:
        await self._ask(self._post("resume")(), self._visit.t("job.resuming"))

    async def _cancel(self) -> None:
        t = self._visit.t
        if await confirm(self._visit, t("job.cancel_question"), t("job.cancel")):
            await self._ask(self._post("cancel")(), t("job.cancelling"))

    async def _delete(self) -> None:
        t, api = self._visit.t, self._visit.api
        if not await confirm(self._visit, t("job.delete_question"), t("shell.delete")):
            return
        if await attempt(api.dated("DELETE", f"/fine_tuning/jobs/{self._followed.id}")) is not None:
            ui.notify(t("job.deleted"))
            ui.navigate.to("/jobs")

    # --- what went wrong ----------------------------------------------------------------------------------------------

    def _failure(self) -> None:
        t, error = self._visit.t, self._followed.job.get("error")
        if not error:
            return
        problem(str(error.get("message") or ""))
        told = [t("job.error_code", code=error["code"])] if error.get("code") else []
        told += [t("job.error_param", param=error["param"])] if error.get("param") else []
        if told:
            ui.label(" · ".join(told)).classes("sub")
        if self._around.findings:
            self._findings()

    def _findings(self) -> None:
        t, around = self._visit.t, self._around
        heading(t("job.findings"), 3)
        ui.label(t("job.findings_lead")).classes("quiet")
        names = (
            "job.finding_file",
            "job.finding_line",
            "job.finding_role",
            "job.finding_category",
            "job.finding_severity",
        )
        sheet = Sheet(t("job.findings"), [Column(t(name)) for name in names])
        for one in around.findings:
            cells = (t(f"job.file_{one['file']}"), str(one["line"]), one["role"], one["category"], one["severity"])
            with sheet.row():
                for place, text in enumerate(cells):
                    with sheet.cell(place):
                        ui.label(str(text))
        if around.more_findings:
            ui.label(t("job.findings_more", count=len(around.findings))).classes("sub")


# --- in words ---------------------------------------------------------------------------------------------------------


def pausable(progress: Mapping[str, Any]) -> bool:
    """There is something to keep once a step was trained, and something to stop while steps are trained."""
    return progress["status"] == "running" and progress["stage"] == "train" and progress["step"] > 0


def share_done(progress: Mapping[str, Any]) -> float:
    """Of the training's steps, 0 to 1; a job that succeeded has done all there was, even where it stopped early."""
    if progress["status"] == "succeeded":
        return 1.0
    total = progress["total_steps"]
    return min(1.0, progress["step"] / total) if total else 0.0


def sentence(t: Words, progress: Mapping[str, Any]) -> str:
    """What the job does at the moment."""
    state, stage = progress["status"], progress["stage"]
    place = progress["queue_position"]
    if place is not None and state in ("pending", "resuming"):
        return t("job.in_queue", place=t.number(place))
    if state in ("pending", "running") and stage in _STAGES:
        return t(f"job.stage_{stage}")
    return t(f"job.state_{state}")


def figures(t: Words, progress: Mapping[str, Any], now: float) -> list[str]:
    """Steps, time gone and left, cost."""
    told: list[str] = []
    total = progress["total_steps"]
    if total and progress["step"]:
        told.append(t("job.steps", step=t.number(progress["step"]), total=t.number(total)))
    if progress["running_seconds"] >= 1:
        going = progress["finished_at"] is None
        told.append(t("job.took" if going else "job.ran", time=t.duration(progress["running_seconds"])))
    left = progress["estimated_finish"]
    if left and progress["status"] == "running" and progress["stage"] == "train" and progress["step"] and left > now:
        told.append(t("job.left", time=t.duration(left - now)))
    if progress["cost"]:
        told.append(cost(t, progress["cost"]))
    return told


def cost(t: Words, told: Mapping[str, Any]) -> str:
    digits = 3 if told["unit"] == "hours" else 0
    quantity = t(f"job.unit_{told['unit']}", count=t.number(float(told["quantity"]), digits))
    if float(told["amount"]) == 0:
        return t("job.free", quantity=quantity)
    price = money(t, told["amount"], told["currency"])
    return t("job.billed" if told["billed"] else "job.estimated", money=price, quantity=quantity)
