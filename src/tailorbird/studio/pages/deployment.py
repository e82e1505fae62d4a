"""One deployment: its state as it changes, its limits and cost, and how a program talks to it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from nicegui import ui

from tailorbird.studio import controls
from tailorbird.studio.client import Refused
from tailorbird.studio.pages.amounts import money
from tailorbird.studio.pages.deployment_change import CapacityForm
from tailorbird.studio.pages.deployment_facts import Facts, is_near, load, time_left
from tailorbird.studio.pages.deployment_quote import facts
from tailorbird.studio.pages.deployment_use import model_of, show_use
from tailorbird.studio.pages.deployments import rate_text, used_text
from tailorbird.studio.visit import DEPLOY, UNDEPLOY, Visit

_BUSY_SECONDS, _CALM_SECONDS = 1.0, 10.0


async def page(visit: Visit, name: str) -> None:
    t = visit.t
    ui.link(t("deployments.back"), "/deployments").classes("back")
    controls.title(visit, name)
    one = DeploymentPage(visit, name)
    await one.refresh()
    if one.facts is None:
        return
    await show_use(visit, one.facts)
    one.timer = ui.timer(one.pace, one.refresh, immediate=False)


class DeploymentPage:
    """The parts that change by themselves are rebuilt when they have."""

    def __init__(self, visit: Visit, name: str) -> None:
        self._visit = visit
        self._name = name
        self._parts = {part: ui.element("div") for part in ("state", "fault", "about", "capacity")}
        self._parts["state"].classes("stack")
        # These two stay, whatever is rebuilt while an answer is waited for.
        self._fault = self._parts["fault"]
        self._shown: dict[str, object] = {}
        self._said = ui.element("div").classes("unheard").props("role=status aria-live=polite")
        self.facts: Facts | None = None
        self.job = ""
        self.timer: ui.timer | None = None

    @property
    def pace(self) -> float:
        return _BUSY_SECONDS if self.facts is not None and self.facts.is_moving else _CALM_SECONDS

    async def refresh(self) -> None:
        try:
            rows = await load(self._visit, 0.5 if self.facts is None or self.facts.is_moving else 2.0)
        except Refused:
            if not self._shown:
                raise
            # The next look may do better; what stands there was true a moment ago.
            return
        before = self.facts
        if before is None:
            await self._find_job(rows)
        self.facts = next((row for row in rows if row.name.lower() == self._name.lower()), None)
        if self.timer is not None:
            self.timer.interval = self.pace
        self._announce(before, self.facts)
        self._build(time.time())

    async def _find_job(self, rows: list[Facts]) -> None:
        row = next((one for one in rows if one.name.lower() == self._name.lower()), None)
        if row is not None and row.fine_tuned:
            self.job = str((await model_of(self._visit, row)).get("fine_tune") or "")

    def _announce(self, before: Facts | None, after: Facts | None) -> None:
        """A change of state reaches those who listen, once."""
        if before is None or (after is not None and after.shown_state == before.shown_state):
            return
        t = self._visit.t
        state = after.shown_state if after is not None else t("deployments.gone_state")
        self._said.clear()
        with self._said:
            ui.label(t("deployments.is_now", name=self._name, state=state))

    def _build(self, now: float) -> None:
        row, t = self.facts, self._visit.t
        if row is None:
            gone = self._name
            self._show("state", ("gone",), lambda: controls.empty(t("deployments.gone", name=gone)))
            for part in ("about", "capacity"):
                self._show(part, (), lambda: None)
            return
        self._show("state", (row.shown_state, row.error), lambda: self._state(row))
        known = (row, used_text(t, row, now), time_left(t, row, now))
        self._show("about", known, lambda: self._about(row, now))
        # Apart from the rest: what somebody is typing here must not go when the deployment is used.
        capacity = (row.state == "Succeeded", row.capacity, row.sku)
        self._show("capacity", capacity, lambda: self._capacity(row))

    def _show(self, part: str, state: object, build: Callable[[], object]) -> None:
        if self._shown.get(part) == state:
            return
        self._shown[part] = state
        self._parts[part].clear()
        with self._parts[part]:
            build()

    def _capacity(self, row: Facts) -> None:
        if row.state == "Succeeded":
            with controls.card(self._visit.t("deployments.rate")):
                CapacityForm(self._visit, row, self._changed)

    def _state(self, row: Facts) -> None:
        t, visit = self._visit.t, self._visit
        with ui.element("div").classes("row"):
            controls.status(row.shown_state)
            if row.is_ready:
                to = f"/playground?deployment={quote(row.name)}"
                play = ui.button(t("deployments.try"), icon="forum", on_click=lambda: ui.navigate.to(to))
                play.props("unelevated no-caps color=primary")
            if row.state == "Succeeded":
                text, verb = (t("deployments.resume"), "resume") if row.paused else (t("deployments.pause"), "pause")
                self._button(text, "play_arrow" if row.paused else "pause", lambda: self._move(verb), DEPLOY)
            if row.state == "Failed":
                self._button(t("deployments.again"), "replay", self._again, DEPLOY)
            if row.state != "Deleting":
                self._button(t("shell.delete"), "delete", self._delete, UNDEPLOY, color="negative")
        # Once for all buttons it greys.
        for reason in dict.fromkeys(filter(None, (visit.refusal(DEPLOY), visit.refusal(UNDEPLOY)))):
            ui.label(reason).classes("reason")
        if row.state == "Creating":
            ui.linear_progress(show_value=False).props(
                f'indeterminate rounded aria-label="{t("deployments.creating")}"'
            )
            ui.label(t("deployments.creating")).classes("reason")
        if row.error:
            controls.problem(row.error)
        if row.paused and row.state == "Succeeded":
            with ui.element("div").classes("advice"):
                ui.label(t("deployments.paused_note"))

    def _button(
        self, text: str, icon: str, work: Callable[[], Awaitable[None]], action: str, color: str = "primary"
    ) -> None:
        made = ui.button(text, icon=icon, on_click=work).props(f"no-caps outline color={color}")
        if (reason := self._visit.refusal(action)) is not None:
            made.disable()
            made.tooltip(reason)

    def _about(self, row: Facts, now: float) -> None:
        t = self._visit.t
        with controls.card(t("deployments.about")):
            rows = [
                (t("deployments.model"), row.model),
                (t("deployments.base_model"), row.base_model),
                (t("deployments.sku"), row.sku),
                (t("deployments.rate"), rate_text(t, row)),
            ]
            if row.hour is not None:
                hour = t("deployments.per_hour", price=money(t, row.hour, row.currency))
                rows.append((t("deployments.hosting"), hour if row.hour else t("deployments.free_hour")))
            rows.append((t("deployments.last_used"), used_text(t, row, now)))
            if row.created_at is not None:
                made = t.moment(row.created_at)
                rows.append((t("deployments.created"), f"{made} · {row.created_by}" if row.created_by else made))
            facts([one for one in rows if one[1]])
            if self.job:
                ui.link(t("deployments.job"), f"/jobs/{self.job}")
            ending = time_left(t, row, now)
            if ending:
                with ui.element("div").classes("warning" if is_near(row, now) else "advice"):
                    ui.label(ending)

    # --- what can be done ---------------------------------------------------------------------------------------------

    async def _move(self, verb: str) -> None:
        await controls.attempt(self._visit.api.arm("POST", f"{self._path}/{verb}"), self._fault)
        await self.refresh()

    async def _changed(self) -> None:
        with self._said:
            ui.notify(self._visit.t("deployments.changed"))
        await self.refresh()

    async def _again(self) -> None:
        row = self.facts
        if row is None:
            return
        body = {
            "sku": {"name": row.sku, "capacity": row.capacity},
            "properties": {"model": {"format": "OpenAI", "name": row.model}},
        }
        await controls.attempt(self._visit.api.arm("PUT", self._path, json=body), self._fault)
        await self.refresh()

    async def _delete(self) -> None:
        t = self._visit.t
        if not await controls.confirm(
            self._visit, t("deployments.delete_question", name=self._name), t("shell.delete")
        ):
            return
        done = await controls.attempt(self._visit.api.arm("DELETE", self._path), self._fault)
        if done is not None:
            with self._said:
                ui.notify(t("deployments.deleted", name=self._name))
                ui.navigate.to("/deployments")

    @property
    def _path(self) -> str:
        return f"/deployments/{quote(self._name, safe='')}"
