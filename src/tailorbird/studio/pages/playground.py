"""Asks a deployment, and beside it its base model or another, with the same words: both stream at once."""

from __future__ import annotations

import secrets

from nicegui import ui

from tailorbird.studio import controls
from tailorbird.studio.pages.playground_choices import Choice, base_of, first, load_choices, others
from tailorbird.studio.pages.playground_code import show_code_dialog
from tailorbird.studio.pages.playground_composer import Composer
from tailorbird.studio.pages.playground_run import Run, going, stream_of
from tailorbird.studio.pages.playground_settings import SettingsPanel
from tailorbird.studio.pages.playground_setup import CHAT, COMPLETIONS, Setup
from tailorbird.studio.pages.playground_system import SystemBox
from tailorbird.studio.pages.playground_talk import Answer, Target, Turn
from tailorbird.studio.pages.playground_turns import TurnView, spoken
from tailorbird.studio.visit import CHAT as MAY_CHAT
from tailorbird.studio.visit import READ_MODEL, Visit

_FRAME_SECONDS = 0.08
_PATHS = {CHAT: "/chat/completions", COMPLETIONS: "/completions"}


async def page(visit: Visit, deployment: str = "", model: str = "", compare: str = "") -> None:
    """`?deployment=` or `?model=` says who is asked, `?compare=d:NAME` or `m:NAME` who stands beside."""
    t = visit.t
    controls.title(visit, t("playground.title"), t("playground.lead"))
    reason = visit.refusal(READ_MODEL)
    if reason is not None:
        controls.empty(reason)
        return
    known = await load_choices(visit)
    if not known:
        controls.empty(t("playground.empty"))
        return
    wanted = f"d:{deployment}" if deployment else f"m:{model}" if model else ""
    desk = Playground(visit, known, wanted, compare)
    await desk.settle()


class Playground:
    def __init__(self, visit: Visit, known: dict[str, Choice], wanted: str, compare: str) -> None:
        self._visit = visit
        self._known = known
        self.setup = Setup(visit.kept("playground"))
        # What a handler of a rebuilt button must not ask its own, gone place for.
        self._client = ui.context.client
        self._views: list[TurnView] = []
        self._run: Run | None = None
        self._editing: int | None = None
        setup = self.setup
        if wanted in known and not known[wanted].can(setup.mode):
            setup.mode = COMPLETIONS if setup.mode == CHAT else CHAT
        setup.kept["left"] = first(known, setup.mode, [wanted, setup.text("left")])
        if compare in known:
            setup.kept["right"] = compare
        elif "right" not in setup.kept:
            setup.kept["right"] = base_of(known, setup.text("left"))
        self._build()

    # --- what is there ------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        t, setup = self._visit.t, self.setup
        with ui.element("div").classes("play"):
            with ui.element("div").classes("play-main"):
                self._bar()
                self._system = SystemBox(self._visit, setup)
                self._fault = ui.element("div")
                self._talk = ui.element("div").classes("talk")
                self._composer = Composer(
                    self._visit, setup, MAY_CHAT, send=self.send, stop=self.stop, leave=self._leave_editing
                )
            with ui.element("aside").classes("play-side").props(f'aria-label="{t("playground.settings")}"'):
                self._settings = SettingsPanel(self._visit, setup)
        self._heard = ui.label().classes("unheard").props("role=status aria-live=polite")
        self._timer = ui.timer(_FRAME_SECONDS, self._frame, active=False)
        self._show_turns()

    def _bar(self) -> None:
        t, setup = self._visit.t, self.setup
        with ui.element("div").classes("spread"):
            mode = ui.toggle(
                {CHAT: t("playground.chat"), COMPLETIONS: t("playground.completions")},
                value=setup.mode,
                on_change=lambda event: self._switch(str(event.value)),
            )
            mode.props(f'no-caps unelevated toggle-color=primary aria-label="{t("playground.mode")}"')
            with ui.element("div").classes("row"):
                code = ui.button(t("playground.view_code"), icon="code", on_click=self._code)
                code.props("flat no-caps color=primary")
                clear = ui.button(t("playground.clear"), icon="delete_sweep", on_click=self._clear)
                clear.props("flat no-caps color=primary")
        with ui.element("div").classes("play-targets"):
            self._left = ui.select(
                {value: one.label for value, one in self._known.items()},
                label=t("playground.asked"),
                value=setup.text("left") or None,
                on_change=lambda event: self._choose("left", str(event.value or "")),
            ).props("outlined dense options-dense")
            options = others(t, self._known, setup.text("left"))
            right = setup.text("right") if setup.text("right") in options else ""
            self._right = ui.select(
                options,
                label=t("playground.beside"),
                value=right,
                on_change=lambda event: self._choose("right", str(event.value or "")),
            ).props("outlined dense options-dense")

    def _label(self, value: str) -> str:
        target = Target.read(value)
        return value if target is None else target.name

    def _show_turns(self) -> None:
        t, turns = self._visit.t, self.setup.turns
        self._talk.clear()
        self._views = []
        with self._talk:
            if not turns:
                with ui.element("div").classes("empty"):
                    ui.label(
                        t("playground.start_chat") if self.setup.mode == CHAT else t("playground.start_completions")
                    )
                    if self._system.example and self.setup.mode == CHAT:
                        example = self._system.example
                        ui.button(t("playground.example"), on_click=lambda: self._composer.fill(example)).props(
                            "flat no-caps color=primary"
                        )
            for place, turn in enumerate(turns):
                last = place == len(turns) - 1
                view = TurnView(
                    self._visit,
                    turn,
                    self._label,
                    on_edit=lambda place=place: self._edit(place),
                    on_again=self.again if last else None,
                )
                self._views.append(view)
        self._run = going(turns[-1].id) if turns else None
        self._pace()

    def _pace(self) -> None:
        """Frames are only drawn while somebody talks."""
        running = self._run is not None
        self._timer.active = running
        self._composer.show_running(running)

    def _frame(self) -> None:
        if self._views:
            self._views[-1].sync()
        if self._run is not None and not self._run.turn.is_running:
            turn, self._run = self._run.turn, None
            self._heard.text = spoken(self._visit.t, turn, self._label)
            for answer in turn.answers:
                self._explain(answer)
            self._pace()

    def _explain(self, answer: Answer) -> None:
        """A refused setting is shown at its field as well."""
        if answer.param:
            self._settings.refuse(answer.param, answer.problem)

    # --- what happens -------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """After whoever is asked has changed: the system message follows, and who can stand beside."""
        setup = self.setup
        left, right = self._known.get(setup.text("left")), self._known.get(setup.text("right"))
        self._fault.clear()
        self._system.element.set_visibility(setup.mode == CHAT)
        for choice in (left, right):
            if choice is not None and not choice.can(setup.mode):
                key = "playground.cannot_chat" if setup.mode == CHAT else "playground.cannot_complete"
                with self._fault:
                    ui.label(self._visit.t(key, name=choice.target.name)).classes("warning").props("role=status")
        if left is not None and setup.mode == CHAT:
            known = self._system.example
            await self._system.follow([left, *([right] if right is not None else [])])
            if known != self._system.example and not setup.turns:
                self._show_turns()

    async def _choose(self, side: str, value: str) -> None:
        self.setup.kept[side] = value
        if side == "left":
            options = others(self._visit.t, self._known, value)
            self._right.set_options(options, value=self._right.value if self._right.value in options else "")
        await self.settle()

    async def _switch(self, mode: str) -> None:
        if self._run is not None:
            self._run.stop()
        self.setup.mode = mode
        self._leave_editing()
        self._show_turns()
        await self.settle()

    async def send(self, text: str) -> None:
        if not text.strip() or self._run is not None:
            return
        setup = self.setup
        if self._editing is not None:
            setup.turns = setup.turns[: self._editing]
            self._leave_editing()
        asked = [value for value in (setup.text("left"), str(self._right.value or "")) if value in self._known]
        if not asked:
            return
        turn = Turn(secrets.token_hex(8), text, [Answer(value) for value in asked])
        setup.turns.append(turn)
        self._composer.fill("")
        mode = setup.mode
        run = Run(turn, lambda done: setup.finish(mode, done))
        run.start(stream_of(self._visit.api), _PATHS[mode], setup.bodies(len(asked)))
        setup.save()
        self._show_turns()
        self._client.run_javascript("studio.toEnd()")

    def stop(self) -> None:
        if self._run is not None:
            self._run.stop()

    async def again(self) -> None:
        """The same question, to those who are asked now."""
        if self._run is None and self.setup.turns:
            text = self.setup.turns.pop().asked
            await self.send(text)

    def _edit(self, place: int) -> None:
        if self._run is not None:
            return
        self._editing = place
        self._composer.fill(self.setup.turns[place].asked)
        self._composer.show_editing(True)

    def _leave_editing(self) -> None:
        self._editing = None
        self._composer.show_editing(False)

    async def _clear(self) -> None:
        t = self._visit.t
        turns = self.setup.turns
        if len(turns) > 1 and not await controls.confirm(
            self._visit, t("playground.clear_question"), t("playground.clear")
        ):
            return
        self.stop()
        self._leave_editing()
        turns.clear()
        self.setup.save()
        self._show_turns()

    async def _code(self) -> None:
        await show_code_dialog(self._visit, self.setup, self._known, self._composer.text)
