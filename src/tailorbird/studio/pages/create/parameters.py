"""Fourth step: the method, the hyperparameters, and what tells models apart; texts are kept as they were typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui

from tailorbird.studio.choices import Choice, radio_cards
from tailorbird.studio.controls import heading
from tailorbird.studio.pages.create import draft as drafts
from tailorbird.studio.pages.create.draft import Draft
from tailorbird.studio.visit import Visit


class ParametersStep:
    def __init__(self, visit: Visit, draft: Draft, changed: Callable[[], None]) -> None:
        self._visit = visit
        self._draft = draft
        self._changed = changed

    def show(self) -> None:
        t = self._visit.t
        heading(t("create.method"), 3)
        methods = [Choice(one, t(f"create.{one}"), t(f"create.{one}_note")) for one in ("supervised", "dpo")]
        radio_cards(t("create.method"), methods, drafts.method(self._draft), self._choose("method"), kind="side")
        heading(t("create.mode"), 3)
        modes = [Choice(one, t(f"create.{one}"), t(f"create.{one}_note")) for one in ("default", "custom")]
        mode = "custom" if drafts.is_custom(self._draft) else "default"
        radio_cards(t("create.mode"), modes, mode, self._choose("mode"), kind="side")
        self._numbers = ui.element("div")
        self._draw_numbers()
        heading(t("create.naming"), 3)
        with ui.element("div").classes("grid"):
            self._field("suffix")
            self._field("seed")

    def _choose(self, name: str) -> Callable[[str], None]:
        def choose(value: str) -> None:
            self._draft[name] = value
            # What the service said was said of another choice.
            self._draft.pop("refused", None)
            self._draw_numbers()
            self._changed()

        return choose

    def _draw_numbers(self) -> None:
        self._numbers.clear()
        if not drafts.is_custom(self._draft):
            return
        with self._numbers, ui.element("div").classes("grid"):
            for name in drafts.shown_hyperparameters(self._draft):
                self._field(name)

    def _field(self, name: str) -> None:
        t = self._visit.t
        decimal = name in ("learning_rate_multiplier", "beta")
        mode = "text" if name == "suffix" else "decimal" if decimal else "numeric"

        def keep(event: Any) -> None:
            self._draft[name] = event.value or ""
            if (self._draft.get("refused") or {}).get("field") == name:
                # What the service said was said of another value.
                self._draft.pop("refused")
            self._changed()

        def wrong(value: str | None) -> str | None:
            refused = self._draft.get("refused") or {}
            if refused.get("field") == name:
                return str(refused["message"])
            key = drafts.fault(name, value or "")
            return t(key) if key else None

        field = ui.input(
            t(f"create.{name}"),
            value=str(self._draft.get(name) or ""),
            placeholder=t("create.left_open" if name != "suffix" else "create.suffix_example"),
            on_change=keep,
            validation=wrong,
        )
        field.props(f'outlined stack-label inputmode="{mode}" autocomplete="off"')
        field.props["hint"] = t(f"create.{name}_note")
        field.validate()

    def fault(self) -> str:
        """Why one cannot go on from here; empty when one can."""
        return self._visit.t("create.fix_fields") if any(drafts.faults(self._draft).values()) else ""
