"""One line of a training file as a conversation, with what is trained in it and how many tokens that is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nicegui import ui

from tailorbird.studio.controls import heading
from tailorbird.studio.visit import Visit

SHOWN_TURNS, SHOWN_CHARACTERS = 30, 700
# What messages are called that no role names.
_ROLES = ("system", "developer", "user", "assistant", "tool", "function", "prompt", "completion")

Turn = Mapping[str, Any]


def example(visit: Visit, line: Mapping[str, Any]) -> None:
    """A line as the preview of the service has it."""
    t = visit.t
    with ui.element("article").classes("example"):
        with ui.element("header").classes("spread"):
            heading(t("file.line", line=t.number(line["line"])), 3)
            if line.get("tokens") is not None:
                told = t("file.line_tokens", tokens=t.number(line["tokens"]), trained=t.number(line["trained_tokens"]))
                ui.label(told).classes("quiet")
        for problem in line["problems"]:
            text = f"{problem['field']}: {problem['message']}" if problem["field"] else problem["message"]
            ui.label(text).classes("problem")
        if line.get("tools"):
            _tools(visit, line["tools"])
        _turns(visit, line.get("messages") or [])
        if "preferred_output" in line:
            with ui.element("div").classes("grid"):
                for name in ("preferred_output", "non_preferred_output"):
                    with ui.element("section").classes(f"pair pair-{name}"):
                        heading(t(f"file.{name}"), 4)
                        _turns(visit, line[name])


def _turns(visit: Visit, turns: Sequence[Turn]) -> None:
    with ui.element("ol").classes("said") as place:
        for turn in turns[:SHOWN_TURNS]:
            _turn(visit, turn)
    if len(turns) > SHOWN_TURNS:

        def rest() -> None:
            more.delete()
            with place:
                for turn in turns[SHOWN_TURNS:]:
                    _turn(visit, turn)

        more = _more(visit.t("file.all_turns", count=visit.t.number(len(turns))), rest)


def _turn(visit: Visit, turn: Turn) -> None:
    t = visit.t
    role = str(turn["role"])
    with ui.element("li").classes(f"said-turn said-{role}") as place:
        if turn["trained"]:
            place.classes("said-trained")
        with ui.element("div").classes("said-head"):
            word = t(f"file.role_{role}") if role in _ROLES else role
            ui.label(f"{word} ({turn['name']})" if turn.get("name") else word).classes("said-role")
            if turn["trained"]:
                ui.label(t("file.trained")).classes("said-mark")
            ui.space()
            learned = turn.get("trained_tokens")
            count = learned if turn["trained"] and learned is not None else turn["tokens"]
            told = t("file.one_token") if count == 1 else t("file.tokens", count=t.number(count))
            ui.label(told).classes("said-tokens")
        if turn.get("content"):
            _text(visit, str(turn["content"]))
        for call in turn.get("tool_calls") or ():
            function = call["function"]
            ui.label(f"{function['name']}({function['arguments']})").classes("mono said-call")


def _text(visit: Visit, text: str) -> None:
    if len(text) <= SHOWN_CHARACTERS:
        ui.label(text).classes("said-text")
        return
    shown = ui.label(text[:SHOWN_CHARACTERS] + "…").classes("said-text")

    def rest() -> None:
        more.delete()
        shown.set_text(text)

    more = _more(visit.t("file.all_text", count=visit.t.number(len(text))), rest)


def _tools(visit: Visit, tools: Sequence[Mapping[str, Any]]) -> None:
    names = ", ".join(str(tool["function"]["name"]) for tool in tools)
    with ui.expansion(visit.t("file.tools", names=names)).classes("tools"):
        ui.label(json.dumps(tools, indent=2, ensure_ascii=False)).classes("mono")


def _more(text: str, on_click: Callable[[], None]) -> ui.button:
    return ui.button(text, on_click=on_click).props("flat dense no-caps color=primary")
