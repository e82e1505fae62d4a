"""Whether somebody is ready to fine-tune: five questions, and what their answers advise; no widgets.

The questions and the signs of readiness are those of Azure's guide on when to use fine-tuning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

QUESTIONS: dict[str, tuple[str, ...]] = {
    "why": ("style", "long", "cost", "knowledge", "unclear"),
    "tried": ("nothing", "prompting", "examples", "rag"),
    "failed": ("format", "edges", "room", "slow", "unknown"),
    "data": ("none", "raw", "few", "many"),
    "measured": ("nothing", "people", "baseline"),
}
"""Every question with its answers, in the order they are asked."""


class Verdict(StrEnum):
    TUNE = "tune"
    PROMPT = "prompt"
    RAG = "rag"
    DATA = "data"


class Weight(StrEnum):
    """How an answer speaks: for fine-tuning, for some care, or against doing it now."""

    GOOD = "good"
    CARE = "care"
    STOP = "stop"


_WEIGHTS: dict[str, dict[str, Weight]] = {
    "why": {"cost": Weight.CARE, "knowledge": Weight.CARE, "unclear": Weight.STOP},
    "tried": {"nothing": Weight.STOP, "prompting": Weight.CARE},
    "failed": {"unknown": Weight.STOP},
    "data": {"none": Weight.STOP, "raw": Weight.STOP, "few": Weight.CARE},
    "measured": {"nothing": Weight.STOP, "people": Weight.CARE},
}


@dataclass(frozen=True, slots=True)
class Point:
    """What one answer means: `readiness.<question>_<answer>_means` in the catalogue."""

    question: str
    answer: str
    weight: Weight


@dataclass(frozen=True, slots=True)
class Advice:
    verdict: Verdict
    points: tuple[Point, ...]


def answered(answers: Mapping[str, str]) -> dict[str, str]:
    """Those that are answers to questions of today, in the order of the questions."""
    return {name: answers[name] for name, known in QUESTIONS.items() if answers.get(name) in known}


def advise(answers: Mapping[str, str]) -> Advice | None:
    """None until all is answered."""
    given = answered(answers)
    if len(given) < len(QUESTIONS):
        return None
    points = tuple(Point(name, one, _weight(name, one, given)) for name, one in given.items())
    return Advice(_verdict(given), points)


def _verdict(given: Mapping[str, str]) -> Verdict:
    if _lacks_knowledge(given):
        return Verdict.RAG
    if given["why"] == "unclear" or given["tried"] == "nothing" or given["failed"] == "unknown":
        return Verdict.PROMPT
    if given["data"] in ("none", "raw") or given["measured"] == "nothing":
        return Verdict.DATA
    return Verdict.TUNE


def _weight(name: str, answer: str, given: Mapping[str, str]) -> Weight:
    if name == "why" and _lacks_knowledge(given):
        return Weight.STOP
    return _WEIGHTS[name].get(answer, Weight.GOOD)


def _lacks_knowledge(given: Mapping[str, str]) -> bool:
    """Facts belong beside the question, where they can be kept up to date, before they are trained in."""
    return given["why"] == "knowledge" and given["tried"] != "rag"
