"""Fine-tuning jobs: states and moves, stages, hyperparameters and what "auto" becomes, events, checkpoints."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from tailorbird.domain.errors import IllegalState

MIN_EXAMPLES = 10


class JobStatus(StrEnum):
    """VALIDATING and QUEUED are one word, `pending`, on Azure."""

    VALIDATING = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})

MOVES: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.VALIDATING: frozenset({JobStatus.QUEUED, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.RUNNING: frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}


def check_move(current: JobStatus, new: JobStatus) -> None:
    """Raises IllegalState when the table has no such move. Staying where one is, unless ended, is no move."""
    if new == current and current not in ENDED:
        return
    if new not in MOVES[current]:
        raise IllegalState(f"A fine-tuning job that is {current} cannot become {new}.")


class Stage(StrEnum):
    """Where the pipeline stands; a column of the job. DONE after the last."""

    VALIDATE = "validate"
    SCREEN_DATA = "screen_data"
    TRAIN = "train"
    PROVE = "prove"
    SCREEN_MODEL = "screen_model"
    REGISTER = "register"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """None is "auto". `learning_rate_multiplier` scales the base model's own fine-tuning rate."""

    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None


@dataclass(frozen=True, slots=True)
class AutoRule:
    """How "auto" is resolved for one base model; its numbers stand in the catalogue.

    Batch size: `batch_fraction` of the examples (Azure: 0.2 %), within [min_batch_size, max_batch_size]. Epochs: as
    many as show the model about `seen_examples` examples, within [min_epochs, max_epochs].
    """

    batch_fraction: float = 0.002
    min_batch_size: int = 1
    max_batch_size: int = 256
    seen_examples: int = 6000
    min_epochs: int = 1
    max_epochs: int = 25


def resolve(asked: Hyperparameters, examples: int, rule: AutoRule) -> Hyperparameters:
    """Every None replaced by a number. `examples` counts the training file's lines (at least 1)."""
    batch = asked.batch_size
    if batch is None:
        batch = max(rule.min_batch_size, min(rule.max_batch_size, round(examples * rule.batch_fraction)))
        batch = min(batch, examples)
    epochs = asked.n_epochs
    if epochs is None:
        epochs = max(rule.min_epochs, min(rule.max_epochs, math.ceil(rule.seen_examples / examples)))
    multiplier = 1.0 if asked.learning_rate_multiplier is None else asked.learning_rate_multiplier
    return Hyperparameters(n_epochs=epochs, batch_size=batch, learning_rate_multiplier=multiplier)


@dataclass(frozen=True, slots=True)
class JobError:
    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One fine-tuning job; its row is also the queue entry.

    `model` is the catalogue's canonical name, `base` the base model behind it. `start_checkpoint` is set when the job
    continues from a fine-tuned model. `asked` holds what the caller sent, `resolved` what training uses (None until
    validated). `method_sent` says whether the caller used `method`, which Azure echoes only then. `training_type` is
    Azure's echo. `examples` and `epoch_tokens` are known after validation; `trained_tokens` after training.
    """

    id: str
    account_id: str
    status: JobStatus
    stage: Stage
    model: str
    base: str
    training_file: str
    seed: int
    asked: Hyperparameters
    created_at: datetime
    estimated_finish: datetime
    validation_file: str | None = None
    start_checkpoint: str | None = None
    suffix: str | None = None
    training_type: str | None = None
    method_sent: bool = False
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    resolved: Hyperparameters | None = None
    template_hash: str | None = None
    examples: int | None = None
    epoch_tokens: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    trained_tokens: int | None = None
    fine_tuned_model: str | None = None
    fine_tuned_model_openai: str | None = None
    result_file: str | None = None
    error: JobError | None = None
    cancel_requested: bool = False
    attempts: int = 0
    """How often a worker has claimed the job."""

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class EventLevel(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class EventKind(StrEnum):
    """What happened; each dialect has its own words for it."""

    CREATED = "created"
    VALIDATING = "validating"
    VALIDATED = "validated"
    STARTED = "started"
    RESUMED = "resumed"
    METRICS = "metrics"
    CHECKPOINT = "checkpoint"
    PROVED = "proved"
    MODEL_SCREENED = "model_screened"
    RESULTS_READY = "results_ready"
    MODEL_READY = "model_ready"
    SUCCEEDED = "succeeded"
    BILLED = "billed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class JobEvent:
    """`key` names the moment within the job (`step-10`); the pair (job, key) is written once, however often tried.

    `data` holds the values the dialects' texts are made of; for METRICS the numbers themselves.
    """

    id: str
    job_id: str
    key: str
    kind: EventKind
    level: EventLevel
    created_at: datetime
    data: dict[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An adapter of a job at a step. `final` marks the one that is the fine-tuned model itself.

    `adapter_key` is the blob prefix of its PEFT folder. `metrics` holds the computed numbers.
    `deployable` is set when the job succeeds, for the final one and the two before it.
    """

    id: str
    job_id: str
    account_id: str
    step: int
    name: str
    openai_name: str
    adapter_key: str
    created_at: datetime
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    final: bool = False
    deployable: bool = False
