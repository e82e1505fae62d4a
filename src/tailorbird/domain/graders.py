"""Graders: what judges an answer, and what a judgement says.

Kinds and fields are OpenAI's (https://platform.openai.com/docs/guides/graders). A reward is a number; a criterion of an
evaluation passes or fails by `pass_threshold`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Operation(StrEnum):
    """How a string check compares: like and ilike ask whether the input contains the reference."""

    EQ = "eq"
    NE = "ne"
    LIKE = "like"
    ILIKE = "ilike"


class Metric(StrEnum):
    """How alike two texts are, from 0 to 1."""

    FUZZY_MATCH = "fuzzy_match"
    BLEU = "bleu"
    GLEU = "gleu"
    METEOR = "meteor"
    ROUGE_1 = "rouge_1"
    ROUGE_2 = "rouge_2"
    ROUGE_3 = "rouge_3"
    ROUGE_4 = "rouge_4"
    ROUGE_5 = "rouge_5"
    ROUGE_L = "rouge_l"


@dataclass(frozen=True, slots=True)
class StringCheck:
    name: str
    input: str
    reference: str
    operation: Operation


@dataclass(frozen=True, slots=True)
class TextSimilarity:
    name: str
    input: str
    reference: str
    metric: Metric
    pass_threshold: float | None = None


@dataclass(frozen=True, slots=True)
class PythonGrader:
    """`source` defines `grade(sample, item) -> float`."""

    name: str
    source: str
    pass_threshold: float | None = None


@dataclass(frozen=True, slots=True)
class GraderMessage:
    """One message to a judging model; `content` may hold `{{ sample.… }}` and `{{ item.… }}`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class JudgeSampling:
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ScoreModel:
    """A model that answers with a number within `low` and `high`."""

    name: str
    model: str
    input: tuple[GraderMessage, ...]
    low: float = 0.0
    high: float = 1.0
    sampling: JudgeSampling = field(default_factory=JudgeSampling)
    pass_threshold: float | None = None


@dataclass(frozen=True, slots=True)
class LabelModel:
    """A model that answers with one of `labels`."""

    name: str
    model: str
    input: tuple[GraderMessage, ...]
    labels: tuple[str, ...]
    passing_labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Multi:
    """Several graders under names of their own, and a formula over their scores."""

    name: str
    graders: dict[str, SingleGrader]
    calculate_output: str


SingleGrader = StringCheck | TextSimilarity | PythonGrader | ScoreModel | LabelModel
Grader = SingleGrader | Multi


@dataclass(frozen=True, slots=True)
class GradeErrors:
    """What went wrong while grading; OpenAI's fourteen flags, all of them always on the wire."""

    formula_parse_error: bool = False
    sample_parse_error: bool = False
    truncated_observation_error: bool = False
    unresponsive_reward_error: bool = False
    invalid_variable_error: bool = False
    other_error: bool = False
    python_grader_server_error: bool = False
    python_grader_server_error_type: str | None = None
    python_grader_runtime_error: bool = False
    python_grader_runtime_error_details: str | None = None
    model_grader_server_error: bool = False
    model_grader_refusal_error: bool = False
    model_grader_parse_error: bool = False
    model_grader_server_error_details: str | None = None

    @property
    def any(self) -> bool:
        return self != GradeErrors()


@dataclass(frozen=True, slots=True)
class JudgeUsage:
    """What a judging model cost."""

    model: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Grade:
    """`score` is 0 where an error kept the grader from judging. `scores` are those of a multi grader's parts.

    `passed` is None for a grader without a threshold of its own. `sample` is the judging model's exchange."""

    score: float
    passed: bool | None = None
    errors: GradeErrors = field(default_factory=GradeErrors)
    scores: dict[str, float] = field(default_factory=dict[str, float])
    usage: tuple[JudgeUsage, ...] = ()
    sample: dict[str, Any] | None = None
