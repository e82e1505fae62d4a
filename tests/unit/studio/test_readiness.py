"""The readiness check: what answers advise, and that every word of it is there."""

from __future__ import annotations

import itertools

import pytest

from tailorbird.studio.advice import QUESTIONS, Verdict, Weight, advise, answered
from tailorbird.studio.pages.readiness import as_text
from tailorbird.studio.words import LANGUAGES, Words

READY = {"why": "style", "tried": "examples", "failed": "format", "data": "many", "measured": "baseline"}


def test_there_is_no_advice_before_the_last_answer() -> None:
    for question in QUESTIONS:
        assert advise({name: one for name, one in READY.items() if name != question}) is None
    assert advise(READY) is not None


def test_answers_of_an_older_draft_count_as_open() -> None:
    assert answered({"why": "fashion", "data": "many", "notes": "x"}) == {"data": "many"}


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, Verdict.TUNE),
        ({"data": "few"}, Verdict.TUNE),
        ({"measured": "people"}, Verdict.TUNE),
        ({"tried": "nothing"}, Verdict.PROMPT),
        ({"why": "unclear"}, Verdict.PROMPT),
        ({"failed": "unknown"}, Verdict.PROMPT),
        ({"why": "knowledge"}, Verdict.RAG),
        ({"why": "knowledge", "tried": "nothing"}, Verdict.RAG),
        ({"why": "knowledge", "tried": "rag"}, Verdict.TUNE),
        ({"data": "none"}, Verdict.DATA),
        ({"data": "raw"}, Verdict.DATA),
        ({"measured": "nothing"}, Verdict.DATA),
        ({"data": "none", "tried": "nothing"}, Verdict.PROMPT),
    ],
)
def test_the_first_thing_to_do_is_advised(change: dict[str, str], verdict: Verdict) -> None:
    advice = advise(READY | change)
    assert advice is not None
    assert advice.verdict is verdict


def test_advice_against_it_always_has_a_point_that_says_why_and_advice_for_it_has_none() -> None:
    for answers in itertools.product(*QUESTIONS.values()):
        advice = advise(dict(zip(QUESTIONS, answers, strict=True)))
        assert advice is not None
        stops = [point for point in advice.points if point.weight is Weight.STOP]
        assert bool(stops) is (advice.verdict is not Verdict.TUNE), answers


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_the_whole_check_can_be_taken_along_as_text_in_every_language(language: str) -> None:
    t = Words(language)
    for name, answers in QUESTIONS.items():
        for answer in answers:
            advice = advise(READY | {name: answer})
            assert advice is not None
            text = as_text(t, {"notes": " our bookings "}, advice)
            assert t(f"readiness.{name}_{answer}") in text
            assert t(f"readiness.{name}_{answer}_means") in text
            assert t(f"readiness.verdict_{advice.verdict}_lead") in text
            assert "\nour bookings\n" in text
