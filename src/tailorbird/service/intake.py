"""What a new job has to bring before it is let in: a model that can be tuned, usable files, room in its account."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tailorbird.domain import ids
from tailorbird.domain.errors import IllegalState, InvalidRequest, ModelNotFound, QuotaExceeded
from tailorbird.domain.files import File, FileStatus, Purpose
from tailorbird.domain.jobs import (
    MIN_EXAMPLES,
    Checkpoint,
    Hyperparameters,
    Job,
    JobStatus,
    Method,
    Stage,
    WandbIntegration,
    resolve,
)
from tailorbird.domain.models import CatalogueEntry
from tailorbird.service.models import Catalogue
from tailorbird.service.ports import Session
from tailorbird.service.sources import find_checkpoint, template_fault

# A first guess only, replaced by the measured rate as soon as training runs.
_GUESSED_BYTES_PER_SECOND = 8_000
_GUESSED_START_SECONDS = 30

_WAITING = (JobStatus.VALIDATING, JobStatus.QUEUED, JobStatus.RESUMING)


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a caller asks for; None in `asked` is "auto", `seed` None is drawn."""

    model: str
    training_file: str
    validation_file: str | None = None
    asked: Hyperparameters = field(default_factory=Hyperparameters)
    seed: int | None = None
    suffix: str | None = None
    method: Method = Method.SUPERVISED
    method_sent: bool = False
    integrations: tuple[WandbIntegration, ...] = ()
    training_type: str | None = None
    metadata: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Limits:
    """Jobs of one account: that wait, and in all, ended ones included."""

    queued: int
    total: int


@dataclass(frozen=True, slots=True)
class _Start:
    """Where training begins: a catalogue entry, or a checkpoint of an earlier job with its entry."""

    entry: CatalogueEntry
    checkpoint: Checkpoint | None = None


class Intake:
    """`tracking` says whether metrics can be sent to Weights & Biases from here."""

    def __init__(self, catalogue: Catalogue, limits: Limits, tracking: bool) -> None:
        self._catalogue = catalogue
        self._limits = limits
        self._tracking = tracking

    def admit(self, tx: Session, account_id: str, new: NewJob, job_hex: str, now: datetime) -> Job:
        """The job, not yet written. Raises InvalidRequest naming the field, ModelNotFound, QuotaExceeded.

        The account is held from here to the end of the transaction, so that two at once cannot take its last place."""
        job = self.draft(tx, account_id, new, job_hex, now)
        self._check_room(tx, account_id)
        return job

    def draft(self, tx: Session, account_id: str, new: NewJob, job_hex: str, now: datetime) -> Job:
        """As `admit`, whether or not there is room for it."""
        self._check_suffix(new)
        self._check_integrations(new)
        start = self._start(tx, account_id, new.model)
        training = self._file(tx, account_id, new.training_file, "training_file", start.entry, new.method)
        if training.examples is not None and training.examples < MIN_EXAMPLES:
            raise InvalidRequest(
                f"{training.id} has {training.examples} example(s), but must have at least {MIN_EXAMPLES} examples",
                param="training_file",
                code="invalid_n_examples",
            )
        if new.validation_file is not None:
            self._file(tx, account_id, new.validation_file, "validation_file", start.entry, new.method)
        return self._job(account_id, new, start, training, job_hex, now)

    def _check_room(self, tx: Session, account_id: str) -> None:
        tx.jobs.hold(account_id)
        if tx.jobs.count(account_id, _WAITING) >= self._limits.queued:
            raise QuotaExceeded(
                f"This resource already has {self._limits.queued} fine-tuning jobs that wait for training. "
                "Wait for one to start or cancel one."
            )
        if tx.jobs.count(account_id) >= self._limits.total:
            raise QuotaExceeded(
                f"This resource already has {self._limits.total} fine-tuning jobs, ended ones included. Delete one "
                "that has ended (DELETE /openai/fine_tuning/jobs/{job_id}?api-version=2024-10-21); its model stays."
            )

    def _check_suffix(self, new: NewJob) -> None:
        if new.suffix is not None and not ids.is_suffix(new.suffix):
            raise InvalidRequest(
                f"The suffix {new.suffix!r} is not valid. Use 1 to 64 letters, digits, hyphens and underscores; "
                "a dot separates base model and job in model names and is not allowed.",
                param="suffix",
            )

    def _check_integrations(self, new: NewJob) -> None:
        if new.integrations and not self._tracking:
            raise InvalidRequest(
                "The integration 'wandb' needs the package wandb, which is not installed on this server. Leave "
                "'integrations' out, or ask the operator to install the extra: pip install 'tailorbird[wandb]'.",
                param="integrations",
            )

    def _start(self, tx: Session, account_id: str, name: str) -> _Start:
        entry = self._catalogue.entry(name)
        if entry is not None and not entry.tunable:
            raise InvalidRequest("The specified base model does not support fine-tuning.", param="model")
        if entry is not None:
            return _Start(entry)
        found = find_checkpoint(tx, account_id, name)
        origin = self._catalogue.entry(found.catalogue_name) if found else None
        if found is None or origin is None:
            names = ", ".join(e.name for e in self._catalogue.entries)
            raise ModelNotFound(
                f"The model {name!r} does not exist or cannot be fine-tuned. Base models here: {names}; "
                "fine-tuned models and checkpoints of this resource can be named as well.",
                param="model",
            )
        if not found.checkpoint.deployable:
            raise InvalidRequest(
                f"The checkpoint {name!r} cannot be continued from: its job has neither succeeded nor been paused "
                "there, newer checkpoints have taken its place, or its model was deleted.",
                param="model",
            )
        stale = template_fault(self._catalogue, name, found.base, found.template_hash)
        if stale is not None:
            raise InvalidRequest(stale, param="model")
        return _Start(origin, found.checkpoint)

    def _file(
        self, tx: Session, account_id: str, file_id: str, param: str, entry: CatalogueEntry, method: Method
    ) -> File:
        found = tx.files.get(account_id, file_id)
        if found is None:
            raise InvalidRequest(
                f"The file {file_id!r} given as {param} does not exist in this resource. Upload it first.", param=param
            )
        if found.purpose is not Purpose.FINE_TUNE:
            raise InvalidRequest(
                f"The file {file_id} has the purpose {found.purpose!r}; {param} needs 'fine-tune'.", param=param
            )
        if found.status is FileStatus.ERROR:
            raise InvalidRequest(
                f"The file {file_id} given as {param} is not usable: {found.status_details}",
                param=param,
                code="jsonlValidationFailed",
            )
        if tx.imports.get(file_id) is not None:
            raise IllegalState(
                f"The file {file_id} given as {param} is still being imported; wait until it is processed.", param=param
            )
        check_kind(entry, method, found.kind, param)
        return found

    def _job(self, account_id: str, new: NewJob, start: _Start, training: File, job_hex: str, now: datetime) -> Job:
        rule = self._catalogue.base(start.entry.base).auto
        guess = resolve(new.asked, training.examples or max(1, training.bytes // 500), rule, new.method)
        seconds = _GUESSED_START_SECONDS + training.bytes * (guess.n_epochs or 1) / _GUESSED_BYTES_PER_SECOND
        return Job(
            id=ids.job_id(job_hex),
            account_id=account_id,
            status=JobStatus.VALIDATING,
            stage=Stage.VALIDATE,
            model=start.entry.name,
            base=start.entry.base,
            training_file=new.training_file,
            validation_file=new.validation_file,
            start_checkpoint=start.checkpoint.id if start.checkpoint else None,
            # Drawn from the job's own random id, so that the answer is stable and never shared by two jobs.
            seed=int(job_hex[:7], 16) if new.seed is None else new.seed,
            asked=new.asked,
            suffix=new.suffix,
            method=new.method,
            method_sent=new.method_sent,
            integrations=new.integrations,
            training_type=new.training_type,
            metadata=new.metadata,
            created_at=now,
            estimated_finish=now + timedelta(seconds=seconds),
        )


def check_kind(entry: CatalogueEntry, method: Method, kind: str | None, param: str) -> None:
    """Raises InvalidRequest when lines of this kind cannot train this model this way; an unknown kind (None) passes."""
    if method is Method.DPO and not entry.chat:
        raise InvalidRequest(
            f"{entry.name} is a completion model, and preference pairs are conversations: the method 'dpo' needs a "
            "chat model.",
            param="model",
        )
    if method is Method.DPO and kind not in (None, "preference"):
        raise InvalidRequest(
            f"The method 'dpo' trains on preference pairs: each line of {param} must be "
            '{"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}. '
            "For examples with one answer use the method 'supervised'.",
            param=param,
        )
    if method is Method.SUPERVISED and kind == "preference":
        raise InvalidRequest(
            f"{param} holds preference pairs, which the method 'supervised' cannot train on. Send "
            '"method": {"type": "dpo"}, or use lines with messages (chat models) or prompt and completion.',
            param=param,
        )
    if kind == "chat" and not entry.chat:
        raise InvalidRequest(
            f"{entry.name} is a completion model: each line of {param} must be "
            '{"prompt": "…", "completion": "…"}, not a conversation.',
            param=param,
        )
    if kind == "completion" and not entry.completion:
        raise InvalidRequest(
            f"{entry.name} is a chat model: each line of {param} must be "
            '{"messages": [{"role": "system" | "user" | "assistant", "content": "…"}]}.',
            param=param,
        )
