"""The system message, beginning as the one the model was trained with, and a warning where it is another."""

from __future__ import annotations

from functools import partial

from nicegui import ui

from tailorbird.studio.pages.playground_choices import Choice, training_of
from tailorbird.studio.pages.playground_setup import Setup
from tailorbird.studio.pages.playground_talk import Trained
from tailorbird.studio.visit import Visit


def prefill(system: str, prefilled: str, trained: Trained | None) -> str | None:
    """What the field should hold now; None to leave it: what a person wrote stays until they say otherwise."""
    if trained is None or (system and system != prefilled):
        return None
    return trained.system


def differs(system: str, trained: Trained | None) -> bool:
    return trained is not None and system.strip() != trained.system.strip()


class SystemBox:
    def __init__(self, visit: Visit, setup: Setup) -> None:
        self._visit = visit
        self._setup = setup
        self._trained: list[tuple[str, Trained]] = []
        t = visit.t
        with ui.element("div").classes("system") as self.element:
            self.field = ui.textarea(t("playground.system"), value=setup.text("system"), on_change=self._changed)
            self.field.props("outlined rows=3 debounce=300").classes("system-field")
            self._notes = ui.element("div").classes("system-notes").props("role=status")
        self.example = ""

    async def follow(self, asked: list[Choice]) -> None:
        """The sides that are asked now, the left one first: it is what the field is filled for."""
        found = [(one.target.name, await training_of(self._visit, one.job)) for one in asked]
        if self.element.is_deleted:
            return
        self._trained = [(name, trained) for name, trained in found if trained is not None]
        left = found[0][1] if found else None
        self.example = left.example if left is not None else ""
        filled = prefill(self._setup.text("system"), self._setup.text("prefilled"), left)
        if filled is not None:
            self._setup.kept["prefilled"] = filled
            self.field.value = filled
        self._tell()

    def _changed(self) -> None:
        self._setup.kept["system"] = self.field.value or ""
        self._tell()

    def _take(self, trained: Trained) -> None:
        self._setup.kept["prefilled"] = trained.system
        self.field.value = trained.system

    def _tell(self) -> None:
        t, system = self._visit.t, str(self.field.value or "")
        self._notes.clear()
        with self._notes:
            for name, trained in self._trained:
                if differs(system, trained):
                    with ui.element("div").classes("warning spread"):
                        text = (
                            t("playground.other_system", name=name)
                            if trained.system
                            else t("playground.no_system", name=name)
                        )
                        ui.label(text).classes("grow")
                        use = ui.button(t("playground.use_trained"), on_click=partial(self._take, trained))
                        use.props("flat dense no-caps color=inherit")
                elif trained.different > 1:
                    ui.label(t("playground.several_systems", name=name, count=t.number(trained.different))).classes(
                        "reason"
                    )
                elif trained.system:
                    ui.label(t("playground.same_system", name=name)).classes("reason")
