"""Create a custom model: six steps with addresses of their own, and a draft that outlives every reload."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from tailorbird.studio import controls
from tailorbird.studio.pages.create import draft as drafts
from tailorbird.studio.pages.create import model
from tailorbird.studio.pages.create.data import DataStep
from tailorbird.studio.pages.create.draft import REVIEW, STEPS, Draft
from tailorbird.studio.pages.create.parameters import ParametersStep
from tailorbird.studio.pages.create.review import ReviewStep
from tailorbird.studio.visit import TRAIN, Visit


# The names of the parameters are those of the address: /create?model=…&training_file=…&step=…
async def page(visit: Visit, step: str = "", training_file: str = "", model: str = "") -> None:
    draft: Draft = visit.kept("create")
    if model or training_file:
        step = str(drafts.prefill(draft, model, training_file))
        # A reload must not fill in again what was changed since.
        ui.run_javascript(f"history.replaceState({{}}, '', studio.prefix + '/create?step={step}')")
    await Wizard(visit, draft, drafts.step_asked(draft, step)).show()


class Wizard:
    def __init__(self, visit: Visit, draft: Draft, at: int) -> None:
        self._visit = visit
        self._draft = draft
        self._at = at
        self._fault: Callable[[], str] = lambda: ""
        draft["step"] = at
        draft["furthest"] = max(at, int(draft.get("furthest") or 1))

    async def show(self) -> None:
        t, name = self._visit.t, STEPS[self._at - 1]
        controls.title(self._visit, t("create.title"), t("create.lead"))
        self._steps = ui.element("nav").classes("stepper")
        self._steps.props["aria-label"] = t("create.steps")
        self._draw_steps()
        with controls.card():
            with controls.heading(t(f"create.step_{name}")).props('tabindex="-1" id=step-heading'):
                pass
            ui.label(t(f"create.lead_{name}")).classes("lead")
            body = ui.element("div").classes("stack step-body")
            self._told = ui.element("div").props("aria-live=assertive")
            self._buttons = ui.element("div").classes("wizard-buttons")
        if not ui.context.client.sub_pages_router.is_initial_request:
            ui.run_javascript("document.getElementById('step-heading')?.focus({preventScroll: true})")
        with body:
            after = await self._draw_step()
        with self._buttons:
            self._draw_buttons()
        if after is not None:
            await after()

    async def _draw_step(self) -> Callable[[], Awaitable[None]] | None:
        """What is left to do once the page stands."""
        visit, draft = self._visit, self._draft
        if self._at == 1:
            self._fault = lambda: "" if draft.get("model") else visit.t("create.choose_model")
            await model.show(visit, draft, self._changed)
            self._show_refused("model")
        elif self._at in (2, 3):
            role = STEPS[self._at - 1]
            data = DataStep(visit, draft, role, self._changed)
            self._fault = data.fault
            await data.show()
            self._show_refused(f"{role}_file")
        elif self._at == 4:
            parameters = ParametersStep(visit, draft, self._changed)
            self._fault = parameters.fault
            parameters.show()
            self._show_refused("method")
        else:
            self._review = ReviewStep(visit, draft)
            await self._review.show()
            return self._review.estimate
        return None

    def _show_refused(self, field: str) -> None:
        """What the service said of this step's field when the job was reviewed."""
        refused: dict[str, Any] = self._draft.get("refused") or {}
        if refused.get("field") == field:
            controls.problem(str(refused["message"]))

    def _changed(self) -> None:
        self._told.clear()
        refused: dict[str, Any] = self._draft.get("refused") or {}
        if refused and drafts.step_of(str(refused["field"])) == self._at and self._at != 4:
            self._draft.pop("refused")
        self._draw_steps()

    # --- steps and buttons --------------------------------------------------------------------------------------------

    def _draw_steps(self) -> None:
        t, open_until = self._visit.t, drafts.missing(self._draft)
        self._steps.clear()
        with self._steps:
            ui.label(t("create.step_of", step=self._at, steps=len(STEPS))).classes("stepper-told")
            with ui.element("ol"):
                for number, name in enumerate(STEPS, 1):
                    self._draw_one(number, t(f"create.step_{name}"), number <= min(open_until, REVIEW))

    def _draw_one(self, number: int, name: str, reachable: bool) -> None:
        here = number == self._at
        done = reachable and number < self._draft["furthest"]
        with ui.element("li").classes("step-here" if here else "step-done" if done else ""):
            link = ui.link(target=f"/create?step={number}") if reachable and not here else ui.element("span")
            if here:
                link.props('aria-current="step"')
            with link.classes("step"):
                ui.label(str(number)).classes("step-number")
                ui.label(name).classes("step-name")

    def _draw_buttons(self) -> None:
        t = self._visit.t
        if self._at > 1:
            back = ui.button(t("create.back"), on_click=lambda: _go(self._at - 1))
            back.props("flat no-caps color=primary")
        ui.button(t("create.discard"), on_click=self._discard).props("flat no-caps color=primary")
        ui.space()
        if self._at < REVIEW:
            ui.button(t("create.next"), on_click=self._next).props("unelevated no-caps color=primary")
        else:
            self._start = controls.button(
                self._visit, t("create.begin"), self._begin, action=TRAIN, icon="play_arrow", kind="primary"
            )

    async def _next(self) -> None:
        self._told.clear()
        if fault := self._fault():
            with self._told:
                controls.problem(fault)
            return
        await _go(self._at + 1)

    async def _discard(self) -> None:
        t = self._visit.t
        if await controls.confirm(self._visit, t("create.discard_question"), t("create.discard")):
            self._draft.clear()
            ui.navigate.to("/create?step=1" if self._at > 1 else "/create")

    async def _begin(self) -> None:
        self._start.props("loading")
        job = await self._review.start()
        if job:
            self._draft.clear()
            ui.navigate.to(f"/jobs/{job}")
        else:
            self._start.props(remove="loading")


async def _go(step: int) -> None:
    """The address first, then the step: whoever reloads or goes back at once is where they see that they are."""
    path = f"/create?step={step}"
    with contextlib.suppress(TimeoutError):
        await ui.run_javascript(f"history.pushState({{page: '{path}'}}, '', studio.prefix + '{path}')", timeout=5.0)
    ui.navigate.to(path)
