"""How answers are drawn: temperature, top_p, length, stop sequences, seed. An empty field leaves it to the service."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import ui

from tailorbird.studio import controls
from tailorbird.studio.pages.playground_setup import DEFAULTS, Setup
from tailorbird.studio.visit import Visit


class SettingsPanel:
    def __init__(self, visit: Visit, setup: Setup) -> None:
        self._visit = visit
        self._setup = setup
        t = visit.t
        with controls.card(t("playground.settings")):
            self.fields: dict[str, ui.number | ui.textarea] = {
                "temperature": self._number("temperature", t("playground.temperature"), 0, 2, 0.1),
                "top_p": self._number("top_p", t("playground.top_p"), 0, 1, 0.05),
                "max_tokens": self._number("max_tokens", t("playground.max_tokens"), 1, None, 1),
                "seed": self._number("seed", t("playground.seed"), None, None, 1),
            }
            stop = ui.textarea(t("playground.stop_sequences"), value=str(setup.setting("stop") or ""))
            stop.props(f'outlined dense autogrow debounce=300 hint="{t("playground.stop_hint")}"')
            stop.on_value_change(lambda event: setup.set("stop", event.value))
            self.fields["stop"] = stop
            ui.button(t("playground.reset"), on_click=self._reset).props("flat no-caps dense").classes("settings-reset")

    def refuse(self, param: str, message: str) -> bool:
        """Whether a field here is at fault; it says so then."""
        field = self.fields.get(param.split(".")[0])
        if field is not None:
            field.error = message
        return field is not None

    def _number(self, name: str, label: str, low: float | None, high: float | None, step: float) -> ui.number:
        whole = step == 1
        field = ui.number(
            label, value=self._setup.setting(name), min=low, max=high, step=step, precision=0 if whole else 2
        )
        field.props("outlined dense debounce=300 clearable" if name == "seed" else "outlined dense debounce=300")
        field.on_value_change(self._keep(name, field))
        return field

    def _keep(self, name: str, field: ui.number) -> Callable[[], None]:
        def keep() -> None:
            field.error = None
            self._setup.set(name, field.value)

        return keep

    def _reset(self) -> None:
        for name, field in self.fields.items():
            field.error = None
            field.value = DEFAULTS[name]
        self._setup.reset()
