"""Evaluations: what is judged by which criteria, their runs, and what a run found of each row.

Shapes and words are OpenAI's (https://platform.openai.com/docs/api-reference/evals); a run is `canceled` with one l.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from tailorbird.domain.errors import IllegalState


class RunStatus(StrEnum):
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


MOVES: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.QUEUED: frozenset({RunStatus.IN_PROGRESS, RunStatus.FAILED, RunStatus.CANCELED}),
    # A run found in progress by a restarted server goes on where it stood.
    RunStatus.IN_PROGRESS: frozenset(
        {RunStatus.IN_PROGRESS, RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELED}
    ),
    RunStatus.COMPLETED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELED: frozenset(),
}


def check_move(current: RunStatus, new: RunStatus) -> None:
    """Raises IllegalState when the table has no such move."""
    if new not in MOVES[current]:
        raise IllegalState(f"A run that is {current} cannot become {new}.")


class ItemStatus(StrEnum):
    """`error`: no criterion failed it, but one could not judge it."""

    PASS = "pass"
    FAIL = "fail"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Eval:
    """`config` is the data source as it is answered, `criteria` the graders as they were sent."""

    id: str
    account_id: str
    name: str
    created_at: datetime
    updated_at: datetime
    config: dict[str, Any]
    criteria: dict[str, Any]
    metadata: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def graders(self) -> list[dict[str, Any]]:
        return self.criteria["list"]


@dataclass(frozen=True, slots=True)
class EvalRun:
    """`model` is empty when the rows bring their own answers. `totals` counts as the run goes on."""

    id: str
    eval_id: str
    account_id: str
    name: str
    model: str
    status: RunStatus
    created_at: datetime
    source: dict[str, Any]
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    totals: dict[str, Any] = field(default_factory=dict[str, Any])
    error_code: str | None = None
    error_message: str | None = None


@dataclass(frozen=True, slots=True)
class OutputItem:
    """What became of row `number` (from 0) of a run: the row, the answer judged, and each criterion's result."""

    id: str
    run_id: str
    eval_id: str
    number: int
    status: ItemStatus
    created_at: datetime
    item: dict[str, Any]
    sample: dict[str, Any]
    results: dict[str, Any]

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        return self.results["list"]
