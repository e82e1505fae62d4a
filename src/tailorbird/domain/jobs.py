"""Fine-tuning jobs: states and moves, stages, methods and what "auto" becomes, events, checkpoints."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from tailorbird.domain.errors import IllegalState

MIN_EXAMPLES = 10
DEFAULT_BETA = 0.1
"""What Azure's documentation advises where preference training is left to choose."""
DPO_MULTIPLIER = 0.1
"""Preference training's own automatic learning rate: at the supervised one a loss over pairs is gone in a few steps."""


class JobStatus(StrEnum):
    """VALIDATING and QUEUED are one word, `pending`, on Azure.

    PAUSING has been asked to stop and save, PAUSED holds still and is claimed by nobody, RESUMING waits for a worker.
    """

    VALIDATING = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    RESUMING = "resuming"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})

MOVES: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.VALIDATING: frozenset({JobStatus.QUEUED, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.RUNNING: frozenset({JobStatus.PAUSING, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED}),
    # Back to RUNNING when training had ended before the wish to pause was heard.
    JobStatus.PAUSING: frozenset({JobStatus.PAUSED, JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.PAUSED: frozenset({JobStatus.RESUMING, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.RESUMING: frozenset({JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CANCELLED}),
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
    """Where the pipeline stands; a column of the job. DONE after the last.

    PAUSE follows TRAIN when the job is pausing and leads back to it.
    """

    VALIDATE = "validate"
    SCREEN_DATA = "screen_data"
    TRAIN = "train"
    PAUSE = "pause"
    PROVE = "prove"
    SCREEN_MODEL = "screen_model"
    REGISTER = "register"
    DONE = "done"


class Method(StrEnum):
    """SUPERVISED learns the answers of its examples; DPO learns which of two answers is the better one."""

    SUPERVISED = "supervised"
    DPO = "dpo"


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """None is "auto". `learning_rate_multiplier` scales the base model's own fine-tuning rate.

    `beta` belongs to DPO alone: how far the model may move from where it starts. So does `l2_multiplier`: AdamW's decay
    of the adapter's weights, none unless asked for. `early_stop_patience` is ours: so many epochs in a row may pass
    without a lower loss on the validation file before training ends; all are trained unless it is asked for.
    """

    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    beta: float | None = None
    l2_multiplier: float | None = None
    early_stop_patience: int | None = None


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


def resolve(asked: Hyperparameters, examples: int, rule: AutoRule, method: Method) -> Hyperparameters:
    """Every None of this method replaced by a number. `examples` counts the training file's lines (at least 1)."""
    batch = asked.batch_size
    if batch is None:
        batch = max(rule.min_batch_size, min(rule.max_batch_size, round(examples * rule.batch_fraction)))
        batch = min(batch, examples)
    epochs = asked.n_epochs
    if epochs is None:
        epochs = max(rule.min_epochs, min(rule.max_epochs, math.ceil(rule.seen_examples / examples)))
    usual = DPO_MULTIPLIER if method is Method.DPO else 1.0
    multiplier = usual if asked.learning_rate_multiplier is None else asked.learning_rate_multiplier
    beta = None
    if method is Method.DPO:
        beta = DEFAULT_BETA if asked.beta is None else asked.beta
    return Hyperparameters(
        n_epochs=epochs,
        batch_size=batch,
        learning_rate_multiplier=multiplier,
        beta=beta,
        l2_multiplier=asked.l2_multiplier if method is Method.DPO else None,
        early_stop_patience=asked.early_stop_patience,
    )


@dataclass(frozen=True, slots=True)
class JobError:
    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True, slots=True)
class WandbIntegration:
    """Where a job's metrics are tracked at Weights & Biases. `name` None: the job's id names the run."""

    project: str
    name: str | None = None
    entity: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One fine-tuning job; its row is also the queue entry.

    `model` is the catalogue's canonical name, `base` the base model behind it. `start_checkpoint` is set when the job
    continues from a fine-tuned model. `asked` holds what the caller sent, `resolved` what training uses (None until
    validated). `method_sent` says whether the caller used `method`, which Azure echoes only then. `training_type` is
    Azure's echo. `examples` and `epoch_tokens` are known after validation; `trained_tokens` after training.
    `trained_steps` is the last step an event told of. `paused_at` is set while the job is paused; `pauses` counts
    them, `paused_seconds` sums those that are over.
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
    method: Method = Method.SUPERVISED
    method_sent: bool = False
    integrations: tuple[WandbIntegration, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    resolved: Hyperparameters | None = None
    template_hash: str | None = None
    examples: int | None = None
    epoch_tokens: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    trained_steps: int = 0
    paused_at: datetime | None = None
    paused_seconds: float = 0.0
    pauses: int = 0
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

    def running_time(self, now: datetime) -> timedelta:
        """Since training began, without the pauses."""
        if self.started_at is None:
            return timedelta()
        return (self.paused_at or now) - self.started_at - timedelta(seconds=self.paused_seconds)


class EventLevel(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class EventKind(StrEnum):
    """What happened; each dialect has its own words for it."""

    CREATED = "created"
    POSITION = "position"
    VALIDATING = "validating"
    VALIDATED = "validated"
    STARTED = "started"
    RESUMED = "resumed"
    PAUSING = "pausing"
    PAUSED = "paused"
    RESUMING = "resuming"
    CONTINUED = "continued"
    PLANNED = "planned"
    METRICS = "metrics"
    TRAINED = "trained"
    CHECKPOINT = "checkpoint"
    CHECKPOINT_REFUSED = "checkpoint_refused"
    PROVED = "proved"
    MODEL_RATED = "model_rated"
    MODEL_SCREENED = "model_screened"
    FINDINGS_READY = "findings_ready"
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
    `deployable` is set when the job succeeds, for the final one and the two before it, and when a pause has screened
    the one it was made at. `at_pause` marks one that no epoch ends with.
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
    at_pause: bool = False
