"""One of several, as cards with a radio button each: for mouse, keyboard and screen reader alike."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from tailorbird.studio import controls


@dataclass(frozen=True, slots=True)
class Choice:
    """`refused` says why it cannot be chosen; empty when it can. `facts` stand to the right of the label."""

    value: str
    label: str
    note: str = ""
    facts: str = ""
    status: str = ""
    refused: str = ""


def radio_cards(
    label: str,
    choices: Sequence[Choice],
    chosen: str,
    on_choose: Callable[[str], Any],
    *,
    kind: str = "",
    group: str = "",
) -> ui.element:
    """`kind` is empty for cards below each other, `side` and `few` for cards beside each other, `rows` for a long list.

    `group` joins several lists of which one choice is taken."""
    with ui.element("div").classes(f"choices {kind and f'choices-{kind}'}").props("role=radiogroup") as element:
        element.props["aria-label"] = label
        for choice in choices:
            _card(group or f"choice-{element.id}", choice, choice.value == chosen, on_choose)
    return element


def _card(group: str, choice: Choice, chosen: bool, on_choose: Callable[[str], Any]) -> None:
    with ui.element("label").classes("choice") as card:
        radio = ui.element("input").props(f'type=radio name="{group}"')
        radio.props["value"] = choice.value
        if chosen:
            radio.props["checked"] = True
        if choice.refused:
            radio.props["disabled"] = True
            card.classes("choice-refused")
        radio.on("change", functools.partial(on_choose, choice.value), args=[])
        with ui.element("span").classes("choice-text"):
            ui.label(choice.label).classes("choice-label")
            for text in (choice.note, choice.refused):
                if text:
                    ui.label(text).classes("choice-note")
        if choice.status:
            controls.status(choice.status)
        if choice.facts:
            ui.label(choice.facts).classes("choice-facts")
