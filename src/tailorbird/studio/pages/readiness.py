"""The readiness check: five guided questions, and written advice that can be taken along."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from nicegui import ui

from tailorbird.studio.advice import QUESTIONS, Advice, Verdict, Weight, advise, answered
from tailorbird.studio.choices import Choice, radio_cards
from tailorbird.studio.controls import card, copy_button, heading, title
from tailorbird.studio.visit import Visit
from tailorbird.studio.words import Words

_ICONS = {Weight.GOOD: "check_circle", Weight.CARE: "info", Weight.STOP: "do_not_disturb_on"}
# Where each verdict leads: pages, and the keys of their links' texts.
_NEXT = {
    Verdict.TUNE: (("/create", "readiness.go_create"), ("/playground", "readiness.go_baseline")),
    Verdict.PROMPT: (("/playground", "readiness.go_playground"),),
    Verdict.RAG: (("/playground", "readiness.go_playground"),),
    Verdict.DATA: (("/files", "readiness.go_files"), ("/playground", "readiness.go_baseline")),
}


async def page(visit: Visit) -> None:
    title(visit, visit.t("readiness.title"), visit.t("readiness.lead"))
    _Check(visit).show()


def invite(visit: Visit) -> None:
    """The check's place on other pages: an invitation, what is still open, or what came out."""
    t, kept = visit.t, visit.kept("readiness")
    advice, given = advise(kept), answered(kept)
    with card(t("readiness.title")):
        if advice is not None:
            ui.label(t(f"readiness.verdict_{advice.verdict}")).classes("strong")
            ui.link(t("readiness.look_again"), "/readiness")
        elif given:
            ui.label(t("readiness.so_far", done=len(given), all=len(QUESTIONS))).classes("quiet")
            ui.link(t("readiness.go_on"), "/readiness")
        else:
            ui.label(t("readiness.invitation")).classes("quiet")
            ui.link(t("readiness.begin"), "/readiness")


class _Check:
    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._kept = visit.kept("readiness")

    def show(self) -> None:
        t = self._visit.t
        for number, (name, answers) in enumerate(QUESTIONS.items(), 1):
            with card():
                heading(t("readiness.numbered", number=number, question=t(f"readiness.{name}")), 2)
                ui.label(t(f"readiness.{name}_lead")).classes("lead")
                choices = [Choice(one, t(f"readiness.{name}_{one}")) for one in answers]
                chosen = str(self._kept.get(name) or "")
                choose = functools.partial(self._answer, name)
                radio_cards(t(f"readiness.{name}"), choices, chosen, choose, kind="plain")
        with card(t("readiness.notes")):
            notes = str(self._kept.get("notes") or "")
            field = ui.textarea(t("readiness.notes_label"), value=notes, on_change=self._note)
            field.props("outlined autogrow debounce=400").classes("wide")
        self._place = ui.element("div").props("aria-live=polite").classes("stack")
        self._draw()

    def _answer(self, name: str, answer: str) -> None:
        self._kept[name] = answer
        self._draw()

    def _note(self, event: Any) -> None:
        self._kept["notes"] = event.value or ""
        self._draw()

    def _draw(self) -> None:
        t, advice = self._visit.t, advise(self._kept)
        self._place.clear()
        with self._place:
            if advice is None:
                left = len(QUESTIONS) - len(answered(self._kept))
                ui.label(t("readiness.open", left=left)).classes("quiet")
                return
            with card() as element:
                element.classes(f"verdict verdict-{advice.verdict}")
                self._draw_advice(advice)

    def _draw_advice(self, advice: Advice) -> None:
        t = self._visit.t
        heading(t(f"readiness.verdict_{advice.verdict}"), 2)
        ui.label(t(f"readiness.verdict_{advice.verdict}_lead"))
        with ui.element("ul").classes("points"):
            for point in advice.points:
                with ui.element("li").classes(f"point-{point.weight}"):
                    ui.icon(_ICONS[point.weight]).props('aria-hidden="true"')
                    with ui.element("div"):
                        ui.label(t(f"readiness.{point.weight}")).classes("unheard")
                        ui.label(t(f"readiness.{point.question}_{point.answer}_means"))
        with ui.element("div").classes("row"):
            for where, key in _NEXT[advice.verdict]:
                ui.link(t(key), where)
            ui.space()
            ui.label(t("readiness.copy")).classes("quiet")
            copy_button(self._visit, as_text(t, self._kept, advice))


def as_text(t: Words, kept: Mapping[str, Any], advice: Advice) -> str:
    """Questions, answers, notes and advice, to be sent to somebody."""
    lines = [t("readiness.title"), ""]
    lines += [f"{t(f'readiness.{p.question}')} {t(f'readiness.{p.question}_{p.answer}')}" for p in advice.points]
    if notes := str(kept.get("notes") or "").strip():
        lines += ["", notes]
    lines += ["", t(f"readiness.verdict_{advice.verdict}"), t(f"readiness.verdict_{advice.verdict}_lead"), ""]
    lines += [f"- {t(f'readiness.{p.question}_{p.answer}_means')}" for p in advice.points]
    return "\n".join(lines)
