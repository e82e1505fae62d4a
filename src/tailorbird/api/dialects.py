"""The wire dialects as values: where each is mounted, its statuses, its words, what it does with nulls."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, cast

from tailorbird.domain.files import FileStatus
from tailorbird.domain.jobs import EventKind, EventLevel, JobEvent, JobStatus


class Family(StrEnum):
    """Whose error bodies a surface speaks."""

    AZURE = "azure"
    OPENAI = "openai"
    ARM = "arm"


@dataclass(frozen=True)
class Words:
    """One vendor's names for our states, and its sentences for what happened to a job."""

    file_status: Mapping[FileStatus, str]
    job_status: Mapping[JobStatus, str]
    level: Mapping[EventLevel, str]
    events: Mapping[EventKind, str]
    """Format strings over the event's data; METRICS is made of numbers and stands in `_metrics`."""
    auto: int | str


@dataclass(frozen=True)
class Dialect:
    """`created` is the status of a POST that makes a file or job, with a Location where `location` is set.

    `direct_models`: chat takes model names without a deployment. `omits_nulls`: keys without a value are left out.
    """

    name: str
    prefix: str
    family: Family
    words: Words
    needs_api_version: bool
    created: int
    location: bool
    omits_nulls: bool
    direct_models: bool
    deletes_jobs: bool

    def trim(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body with or without its null keys."""
        return {key: value for key, value in body.items() if value is not None} if self.omits_nulls else body

    @property
    def annotates(self) -> bool:
        """Whether answers carry what the content filter found; OpenAI has no such fields."""
        return self.family is Family.AZURE

    def model_name(self, azure: str | None, openai: str | None) -> str | None:
        return openai if self.family is Family.OPENAI else azure

    def event_text(self, event: JobEvent) -> str:
        if event.kind is EventKind.METRICS:
            return _metrics(event.data, self.family)
        if event.kind is EventKind.BILLED and "hours" in event.data:
            return f"Training hours billed: {event.data['hours']}"
        if event.kind is EventKind.VALIDATING and not event.data.get("validation_file"):
            return self.words.events[event.kind].split(" and validation file")[0].format_map(_Blank(event.data))
        if event.kind is EventKind.MODEL_RATED:
            shares = {name: _shares(told) for name, told in event.data.items()}
            return self.words.events[event.kind].format_map(_Blank(shares))
        return self.words.events[event.kind].format_map(_Blank(event.data))


def _shares(rates: object) -> str:
    """`hate_fairness 0 %, self_harm 12.5 %`; anything that is no table of rates as it is."""
    if not isinstance(rates, Mapping):
        return str(rates)
    table = cast("Mapping[str, float]", rates)
    return ", ".join(f"{category} {100 * rate:.3g} %" for category, rate in table.items()) or "none"


class _Blank(dict[str, object]):
    """An event without one of the values its sentence wants still has a sentence."""

    def __missing__(self, key: str) -> str:
        return "?"


def _metrics(data: Mapping[str, object], family: Family) -> str:
    step = data.get("step")
    if family is Family.OPENAI:
        text = f"Step {step}/{data.get('total_steps')}: training loss={_rounded(data.get('train_loss'))}"
        valid = data.get("full_valid_loss", data.get("valid_loss"))
        return text if valid is None else f"{text}, validation loss={_rounded(valid)}"
    return f"Step {step}: training loss={_dotnet(data.get('train_loss'))}"


def _rounded(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float | int) else "?"


def _dotnet(value: object) -> str:
    # Azure prints doubles as .NET does: shortest digits that round-trip, exponents as E-06.
    return repr(float(value)).upper() if isinstance(value, float | int) else "?"


_AZURE_WORDS = Words(
    file_status={status: status.value for status in FileStatus},
    job_status={
        JobStatus.VALIDATING: "pending",
        JobStatus.QUEUED: "pending",
        JobStatus.RUNNING: "running",
        JobStatus.PAUSING: "pausing",
        JobStatus.PAUSED: "paused",
        JobStatus.RESUMING: "resuming",
        JobStatus.SUCCEEDED: "succeeded",
        JobStatus.FAILED: "failed",
        JobStatus.CANCELLED: "cancelled",
    },
    level={EventLevel.INFO: "info", EventLevel.WARNING: "warning", EventLevel.ERROR: "error"},
    # Sentences of the Azure tutorial and of Microsoft's notebooks where they have one, in their style elsewhere.
    events={
        EventKind.CREATED: "Job enqueued. Waiting for jobs ahead to complete.",
        EventKind.POSITION: "Queue position: {position}",
        EventKind.VALIDATING: "Preprocessing started.",
        EventKind.VALIDATED: "Preprocessing completed.",
        EventKind.STARTED: "Job started.",
        EventKind.PLANNED: "Training planned: {text}.",
        EventKind.TRAINED: "Training completed: {text}.",
        EventKind.RESUMED: "Training interrupted; resumed from the last saved state before step {step}.",
        EventKind.PAUSING: "Job pausing. Training stops after the current step.",
        EventKind.PAUSED: "Job paused at step {step}.",
        EventKind.RESUMING: "Job resuming. Waiting for jobs ahead to complete.",
        EventKind.CONTINUED: "Job resumed after step {step}.",
        EventKind.CHECKPOINT: "Checkpoint created at step {step}.",
        EventKind.CHECKPOINT_REFUSED: "The checkpoint of step {step} cannot be deployed: {message}",
        EventKind.PROVED: "Adapter verified: the inference engine reproduced the trainer's log-probabilities.",
        EventKind.MODEL_RATED: "Model evaluation completed. Harmful conversations: {rates}; of the base: {base_rates}.",
        EventKind.MODEL_SCREENED: "Model Evaluation Passed.",
        EventKind.FINDINGS_READY: "Completed findings file: {file}",
        EventKind.RESULTS_READY: "Completed results file: {file}",
        EventKind.MODEL_READY: "Fine-tuned model created: {model}",
        EventKind.SUCCEEDED: "Job succeeded.",
        EventKind.BILLED: "Training tokens billed: {tokens}",
        EventKind.FAILED: "Job failed: {message}",
        EventKind.CANCELLED: "Job cancelled.",
    },
    auto=-1,
)

_OPENAI_WORDS = Words(
    file_status={
        FileStatus.PENDING: "uploaded",
        FileStatus.RUNNING: "uploaded",
        FileStatus.PROCESSED: "processed",
        FileStatus.ERROR: "error",
    },
    # It has no words for what lies between; `paused` before it is true would be followed by a refused resume.
    job_status={status: status.value for status in JobStatus}
    | {JobStatus.PAUSING: "running", JobStatus.RESUMING: "queued"},
    # The SDK's strict mode knows no "warning".
    level={EventLevel.INFO: "info", EventLevel.WARNING: "warn", EventLevel.ERROR: "error"},
    events={
        EventKind.CREATED: "Created fine-tuning job: {job}",
        EventKind.POSITION: "Queue position: {position}",
        EventKind.VALIDATING: "Validating training file: {training_file} and validation file: {validation_file}",
        EventKind.VALIDATED: "Files validated, moving job to queued state",
        EventKind.STARTED: "Fine-tuning job started",
        EventKind.PLANNED: "Training planned: {text}",
        EventKind.TRAINED: "Training completed: {text}",
        EventKind.RESUMED: "Training interrupted; resumed from the last saved state before step {step}",
        EventKind.PAUSING: "Pausing fine-tuning job after the current step",
        EventKind.PAUSED: "Fine-tuning job paused at step {step}",
        EventKind.RESUMING: "Fine-tuning job moved back to queued state",
        EventKind.CONTINUED: "Fine-tuning job resumed after step {step}",
        EventKind.CHECKPOINT: "Checkpoint created at step {step}",
        EventKind.CHECKPOINT_REFUSED: "The checkpoint of step {step} cannot be deployed: {message}",
        EventKind.PROVED: "Adapter verified: the inference engine reproduced the trainer's log-probabilities",
        EventKind.MODEL_RATED: "Model evaluation completed; harmful conversations: {rates}; of the base: {base_rates}",
        EventKind.MODEL_SCREENED: "Model evaluation passed",
        EventKind.FINDINGS_READY: "Completed findings file: {file}",
        EventKind.RESULTS_READY: "Completed results file: {file}",
        EventKind.MODEL_READY: "New fine-tuned model created: {openai_model}",
        EventKind.SUCCEEDED: "The job has successfully completed",
        EventKind.BILLED: "Training tokens billed: {tokens}",
        EventKind.FAILED: "The job failed: {message}",
        EventKind.CANCELLED: "The job was cancelled",
    },
    auto="auto",
)

AZURE = Dialect(
    name="azure",
    prefix="/openai",
    family=Family.AZURE,
    words=_AZURE_WORDS,
    needs_api_version=True,
    created=201,
    location=True,
    omits_nulls=True,
    direct_models=False,
    deletes_jobs=True,
)
# The v1 specification speaks OpenAI's words, the service Azure's (observed December 2025): believe the service.
AZURE_V1 = Dialect(
    name="azure-v1",
    prefix="/openai/v1",
    family=Family.AZURE,
    words=_AZURE_WORDS,
    needs_api_version=False,
    created=200,
    location=False,
    omits_nulls=True,
    direct_models=False,
    deletes_jobs=False,
)
AZURE_PROJECT = Dialect(
    name="azure-project",
    prefix="/api/projects/{project}/openai/v1",
    family=Family.AZURE,
    words=_AZURE_WORDS,
    needs_api_version=False,
    created=200,
    location=False,
    omits_nulls=True,
    direct_models=False,
    deletes_jobs=False,
)
OPENAI = Dialect(
    name="openai",
    prefix="/v1",
    family=Family.OPENAI,
    words=_OPENAI_WORDS,
    needs_api_version=False,
    created=200,
    location=False,
    omits_nulls=False,
    direct_models=True,
    deletes_jobs=False,
)

DIALECTS = (AZURE_PROJECT, AZURE_V1, AZURE, OPENAI)
"""A longer prefix stands before a shorter one that it begins with."""

TAILORBIRD = replace(AZURE_V1, name="tailorbird", prefix="/tailorbird/v1")
"""What is nobody else's (estimates, usage, budgets), in Azure's words; it holds none of the routes of the others."""

# What else lies below our own prefix belongs to the control plane.
_OWN = re.compile(TAILORBIRD.prefix + "/(files|fine_tuning|usage|budget|caller|deployments|principals|tariff)(/|$)")
_PREFIXES = [(re.compile(re.sub(r"\{\w+\}", "[^/]+", d.prefix) + "(/|$)"), d) for d in DIALECTS] + [(_OWN, TAILORBIRD)]


def dialect_of(path: str) -> Dialect | None:
    """Whose path this is; None on the control plane."""
    return next((dialect for prefix, dialect in _PREFIXES if prefix.match(path)), None)


def family_of(path: str) -> Family:
    """Whose error bodies this path answers with; outside the data plane, ARM's."""
    dialect = dialect_of(path)
    return Family.ARM if dialect is None else dialect.family
