"""Questions and answers on the page; an answer grows in its place while it streams."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import ui

from tailorbird.studio import controls
from tailorbird.studio.pages.playground_talk import DONE, REFUSED, RUNNING, STOPPED, Answer, Turn
from tailorbird.studio.visit import Visit
from tailorbird.studio.words import Words

_FILTERED = frozenset({"content_filter", "ResponsibleAIPolicyViolation"})


def figures(t: Words, answer: Answer) -> list[str]:
    """Tokens and times, as far as they are known."""
    told: list[str] = []
    if answer.prompt_tokens is not None and answer.completion_tokens is not None:
        prompt, said = t.number(answer.prompt_tokens), t.number(answer.completion_tokens)
        told.append(t("playground.token_counts", prompt=prompt, answer=said))
    if answer.first_seconds is not None:
        told.append(t("playground.first_token", seconds=t.number(answer.first_seconds, 2)))
    if answer.seconds is not None and answer.state in (DONE, STOPPED):
        told.append(t("playground.whole_time", seconds=t.number(answer.seconds, 2)))
    if answer.tokens_per_second is not None:
        told.append(t("playground.speed", rate=t.number(answer.tokens_per_second, 1)))
    return told


def note(t: Words, answer: Answer) -> tuple[str, str]:
    """A class and a sentence about how it ended; both empty for an answer that simply ended."""
    if answer.state == REFUSED:
        if answer.code in _FILTERED:
            return "warning", t("playground.prompt_filtered")
        return "problem", answer.problem
    if answer.finish == "content_filter":
        return "warning", t("playground.answer_filtered")
    if answer.state == STOPPED:
        return "reason", t("playground.stopped")
    if answer.finish == "length":
        return "reason", t("playground.cut")
    if answer.state == DONE and not answer.text:
        return "reason", t("playground.said_nothing")
    return "", ""


def spoken(t: Words, turn: Turn, label: Callable[[str], str]) -> str:
    """What is read out when a turn is over: each answer whole, once."""
    said: list[str] = []
    for answer in turn.answers:
        _, sentence = note(t, answer)
        text = ". ".join(part for part in (answer.text, sentence) if part)
        said.append(t("playground.spoken", name=label(answer.target), text=text))
    return " ".join(said)


class AnswerView:
    def __init__(self, visit: Visit, answer: Answer, name: str) -> None:
        self._visit = visit
        self._answer = answer
        self._shown: tuple[str, str] | None = None
        with ui.element("div").classes("answer").props("role=group") as self.element:
            self.element.props["aria-label"] = name
            with ui.element("div").classes("spread answer-head"):
                ui.label(name).classes("answer-name")
                self._tools = ui.element("div").classes("row")
            self._text = ui.label().classes("answer-text")
            self._note = ui.element("div")
            self._figures = ui.label().classes("figures")
        self.sync()

    def sync(self) -> None:
        answer, t = self._answer, self._visit.t
        state = (answer.text, answer.state)
        if state == self._shown:
            return
        before, self._shown = self._shown, state
        waiting = answer.state == RUNNING
        self._text.text = answer.text
        self._text.classes(add="writing" if waiting else "", remove="" if waiting else "writing")
        self._text.set_visibility(waiting or bool(answer.text))
        self._figures.text = " · ".join(figures(t, answer))
        # A line kept free while it writes: the page does not jump when the figures come.
        self._figures.set_visibility(waiting or bool(self._figures.text))
        if before is None or before[1] != answer.state:
            self._ended()

    def _ended(self) -> None:
        answer, t = self._answer, self._visit.t
        self._note.clear()
        self._tools.clear()
        kind, sentence = note(t, answer)
        if sentence:
            with self._note:
                ui.label(sentence).classes(kind)
        if answer.state != RUNNING and answer.text:
            with self._tools:
                controls.copy_button(self._visit, answer.text)


class TurnView:
    """`on_edit` puts the question back into the composer, `on_again` asks it once more (the last turn only)."""

    def __init__(
        self,
        visit: Visit,
        turn: Turn,
        label: Callable[[str], str],
        on_edit: Callable[[], None],
        on_again: Callable[[], object] | None,
    ) -> None:
        t = visit.t
        self.turn = turn
        with ui.element("article").classes("turn"):
            with ui.element("div").classes("asked"):
                ui.label(turn.asked).classes("asked-text")
                with ui.element("div").classes("row asked-tools"):
                    edit = ui.button(icon="edit", on_click=on_edit)
                    edit.props(f'flat round dense size=sm aria-label="{t("playground.edit")}"').tooltip(
                        t("playground.edit")
                    )
                    if on_again is not None:
                        again = ui.button(icon="refresh", on_click=on_again)
                        again.props(f'flat round dense size=sm aria-label="{t("playground.again")}"')
                        again.tooltip(t("playground.again"))
            with ui.element("div").classes("answers"):
                self.answers = [AnswerView(visit, answer, label(answer.target)) for answer in turn.answers]

    def sync(self) -> None:
        for view in self.answers:
            view.sync()
