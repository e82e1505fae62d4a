"""Where a question is written: Enter sends, Shift+Enter begins a line; the same button stops what is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nicegui import ui

from tailorbird.studio import controls
from tailorbird.studio.pages.playground_setup import Setup
from tailorbird.studio.visit import Visit

# While a Japanese word is being composed, Enter chooses it.
_ENTER = "(e) => { if (!e.shiftKey && !e.isComposing) { e.preventDefault(); emit(e.target.value); } }"


# A draft is written to disk; a letter at a time would be much writing.
_KEEP_AFTER = 0.5


class Composer:
    def __init__(
        self,
        visit: Visit,
        setup: Setup,
        action: str,
        *,
        send: Callable[[str], Awaitable[None]],
        stop: Callable[[], None],
        leave: Callable[[], None],
    ) -> None:
        t = visit.t
        self._setup = setup
        self._keeping: asyncio.TimerHandle | None = None
        with ui.element("div").classes("composer"):
            with ui.element("div").classes("row editing") as self._editing:
                ui.label(t("playground.editing"))
                ui.button(t("shell.cancel"), on_click=leave).props("flat dense no-caps color=primary")
            self._editing.set_visibility(False)
            self._field = ui.textarea(t("playground.message"), value=setup.text("draft"))
            self._field.props(f'outlined autogrow hint="{t("playground.message_hint")}"')
            self._field.classes("composer-field")
            self._field.on_value_change(self._keep)

            async def ask(text: str) -> None:
                if visit.may(action):
                    await send(text)

            self._field.on("keydown.enter", lambda event: ask(str(event.args)), js_handler=_ENTER)
            with ui.element("div").classes("row composer-buttons"):
                self._send = controls.button(
                    visit, t("playground.send"), lambda: ask(self.text), action=action, icon="send", kind="primary"
                )
                self._stop = ui.button(t("playground.stop"), icon="stop", on_click=stop)
                self._stop.props("outline no-caps color=primary")

    @property
    def text(self) -> str:
        return str(self._field.value or "")

    def fill(self, text: str) -> None:
        self._field.value = text
        self._field.run_method("focus")

    def show_running(self, running: bool) -> None:
        self._send.set_visibility(not running)
        self._stop.set_visibility(running)

    def show_editing(self, editing: bool) -> None:
        self._editing.set_visibility(editing)

    def _keep(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
        text = self.text
        self._keeping = asyncio.get_running_loop().call_later(_KEEP_AFTER, self._setup.keep_draft, text)
