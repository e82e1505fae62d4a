"""TrainPlan in; Started, Step, CheckpointSaved, Finished or Failed out.

The worker writes `plan.json` into a run folder and starts `python -m tailorbird.training plan.json`. The trainer
appends one JSON object a line to `events.jsonl` in the same folder; the worker tails it. Everything is resolved before:
a plan holds numbers, never "auto".

Run folder: `plan.json`, `events.jsonl`, `results.csv`, `state/` (what a resume needs), `checkpoints/step-N/` and
`adapter/` (PEFT folders), `probes.json` (the trainer's log-probabilities for the proof).
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

EVENTS_FILE = "events.jsonl"
PLAN_FILE = "plan.json"
PROBES_FILE = "probes.json"
RESULTS_FILE = "results.csv"
ADAPTER_FOLDER = "adapter"
CHECKPOINT_FOLDER = "checkpoints"
STATE_FOLDER = "state"

RESULT_COLUMNS = (
    "step",
    "train_loss",
    "train_mean_token_accuracy",
    "valid_loss",
    "valid_mean_token_accuracy",
    "full_valid_loss",
    "full_valid_mean_token_accuracy",
)
"""Header of results.csv, as Azure writes it."""
DPO_RESULT_COLUMNS = (
    *RESULT_COLUMNS,
    "train_reward_accuracy",
    "train_reward_margin",
    "valid_reward_accuracy",
    "valid_reward_margin",
    "full_valid_reward_accuracy",
    "full_valid_reward_margin",
)
"""Header of results.csv of a preference run. Azure documents no names for it: the seven come first, ours after them."""

Method = Literal["supervised", "dpo"]
ComputedAs = Literal["trees", "packs", "padded"]
"""Common beginnings once, as prefix trees; documents side by side without padding; examples padded to one length."""


def result_columns(method: Method) -> tuple[str, ...]:
    """The header of a run's results.csv."""
    return DPO_RESULT_COLUMNS if method == "dpo" else RESULT_COLUMNS


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """One training run, every number resolved.

    Paths are absolute. `learning_rate` is the peak rate, the multiplier already applied. `max_tokens` is the longest
    example (of a pair: the longer side) the model can hold; a longer one is refused by validation, never cut.
    `initial_adapter` continues from a PEFT folder of the same base. `save_every` counts optimizer steps between two
    resume points. `template_hash` names the chat template the rows were checked with; the trainer refuses to run under
    another.
    """

    job_id: str
    run_folder: str
    base_model: str
    training_file: str
    n_epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    max_tokens: int
    template_hash: str
    validation_file: str | None = None
    initial_adapter: str | None = None
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = 0.05
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    lora_rank: int = 16
    lora_alpha: int = 32
    dtype: Literal["float32", "bfloat16"] = "float32"
    save_every: int = 20
    micro_batch_tokens: int = 4096
    probe_count: int = 4
    method: Method = "supervised"
    beta: float = 0.1
    """Direct preference optimisation only: how far the model may move from where the run starts."""
    patience: int = 0
    """Epochs in a row that may pass without a lower loss on the validation file; 0 trains them all.

    Above 0 the result is the epoch with the lowest such loss."""
    threads: int = 0
    """Threads for one operation; 0 leaves the choice to PyTorch."""
    rendered_at: str | None = None
    """ISO 8601 moment that templates which write the date see: a run resumed tomorrow trains the same tokens."""

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> TrainPlan:
        """Raises ValueError naming the field when the text is no plan."""
        raw = json.loads(text)
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(raw) - known)
        if unknown:
            raise ValueError(f"plan.json: unknown field(s) {', '.join(unknown)}")
        required = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
        missing = sorted(required - set(raw))
        if missing:
            raise ValueError(f"plan.json: missing field(s) {', '.join(missing)}")
        return cls(**raw)


@dataclass(frozen=True, slots=True)
class Metrics:
    """Losses are means over trained tokens, in nats; accuracies are fractions. None means not computed at this step.

    A preference run: losses are means over pairs, token accuracies are of the preferred answers. The reward of an
    answer is beta x (its log-probability - the one the run started with), in nats; the reward accuracy is the fraction
    of pairs whose preferred answer has the higher one, the margin the mean of the difference. None in a supervised run.
    """

    train_loss: float | None = None
    train_mean_token_accuracy: float | None = None
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_mean_token_accuracy: float | None = None
    train_reward_accuracy: float | None = None
    train_reward_margin: float | None = None
    valid_reward_accuracy: float | None = None
    valid_reward_margin: float | None = None
    full_valid_reward_accuracy: float | None = None
    full_valid_reward_margin: float | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """The first event of a process. `resumed_step` is the last step the saved state holds, 0 on a fresh run.

    `notes` are figures on how the work will be cut, for people: tokens a step and a pass, the memory expected.
    `precision` is the base's; `computed_as` says how a batch goes through the model; `remarks` are sentences on savings
    that this run has to do without, and why.
    """

    total_steps: int
    steps_per_epoch: int
    examples: int
    epoch_tokens: int
    trained_parameters: int
    resumed_step: int = 0
    notes: dict[str, float] = field(default_factory=dict[str, float])
    precision: str = ""
    computed_as: ComputedAs | None = None
    remarks: list[str] = field(default_factory=list[str])
    kind: Literal["started"] = "started"


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step, counted from 1. `tokens` are the given (not only the trained) tokens of its batch.

    `seconds` are this run's own since its last step, or since it was ready; those of others in its process are not.
    """

    step: int
    total_steps: int
    epoch: int
    learning_rate: float
    tokens: int
    metrics: Metrics
    seconds: float | None = field(default=None, compare=False)
    kind: Literal["step"] = "step"


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """An adapter folder is complete on disk; `path` is absolute. Written once an epoch, and once when told to stop.

    `epoch_end` is False for the latter: it holds the step that a stopped run reached and may yet go on from.
    """

    step: int
    epoch: int
    path: str
    metrics: Metrics
    epoch_end: bool = True
    kind: Literal["checkpoint"] = "checkpoint"


@dataclass(frozen=True, slots=True)
class Finished:
    """Training is over. `trained_tokens` = tokens of the training file x epochs; `train_seconds` sums all processes.

    The tokens of a preference pair are those of both sides, each with its prompt. A run with patience tells in
    `final_step` which step's adapter is the result, and by `steps` where it stopped.
    """

    steps: int
    trained_tokens: int
    train_seconds: float
    adapter_path: str
    results_path: str
    probes_path: str
    notes: dict[str, float] = field(default_factory=dict[str, float])
    final_step: int | None = None
    kind: Literal["finished"] = "finished"


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The trainer was told to stop (SIGTERM), saved its state at `step` and left."""

    step: int
    kind: Literal["interrupted"] = "interrupted"


@dataclass(frozen=True, slots=True)
class Failed:
    """The run cannot go on. `message` may be shown to the customer; `detail` may not."""

    code: str
    message: str
    detail: str = ""
    kind: Literal["failed"] = "failed"


TrainEvent = Started | Step | CheckpointSaved | Finished | Interrupted | Failed
_KINDS: dict[str, type[Any]] = {
    "started": Started,
    "step": Step,
    "checkpoint": CheckpointSaved,
    "finished": Finished,
    "interrupted": Interrupted,
    "failed": Failed,
}


def event_to_line(event: TrainEvent) -> str:
    """One line of events.jsonl, without the newline."""
    return json.dumps(dataclasses.asdict(event), separators=(",", ":"))


def event_from_line(line: str) -> TrainEvent:
    """Raises ValueError when the line is no event."""
    raw = json.loads(line)
    try:
        kind = _KINDS[raw["kind"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a training event: {line[:80]!r}") from error
    if "metrics" in raw:
        raw["metrics"] = Metrics(**raw["metrics"])
    return kind(**raw)


@dataclass(frozen=True, slots=True)
class Probe:
    """One example scored by the trainer with the final adapter, in the precision the adapter is served in.

    `token_ids` is the whole example; `positions` are the indices of its trained tokens; `logprobs` their natural-log
    probabilities given everything before, same length as `positions`.
    """

    token_ids: list[int]
    positions: list[int]
    logprobs: list[float]


def probes_to_json(probes: list[Probe]) -> str:
    return json.dumps([dataclasses.asdict(probe) for probe in probes])


def probes_from_json(text: str) -> list[Probe]:
    return [Probe(**raw) for raw in json.loads(text)]
