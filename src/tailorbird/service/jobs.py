"""Fine-tuning jobs: create, list, get, cancel, delete, and what they leave behind (events, checkpoints)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tailorbird.domain import ids
from tailorbird.domain.errors import IllegalState, InvalidRequest, ModelNotFound, NotFound, QuotaExceeded
from tailorbird.domain.files import File, FileStatus, Purpose
from tailorbird.domain.jobs import (
    MIN_EXAMPLES,
    Checkpoint,
    EventKind,
    EventLevel,
    Hyperparameters,
    Job,
    JobEvent,
    JobStatus,
    Stage,
    check_move,
    resolve,
)
from tailorbird.domain.models import CatalogueEntry
from tailorbird.service.models import Catalogue
from tailorbird.service.ports import Clock, LeaseLost, Page, Session, Store

# A first guess only, replaced by the measured rate as soon as training runs.
_GUESSED_BYTES_PER_SECOND = 8_000
_GUESSED_START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a caller asks for; None in `asked` is "auto", `seed` None is drawn."""

    model: str
    training_file: str
    validation_file: str | None = None
    asked: Hyperparameters = field(default_factory=Hyperparameters)
    seed: int | None = None
    suffix: str | None = None
    method_sent: bool = False
    training_type: str | None = None
    metadata: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class _Start:
    """Where training begins: a catalogue entry, or a checkpoint of an earlier job with its entry."""

    entry: CatalogueEntry
    checkpoint: Checkpoint | None = None


class Jobs:
    def __init__(
        self, store: Store, catalogue: Catalogue, clock: Clock, new_hex: Callable[[], str], max_queued: int
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._clock = clock
        self._new_hex = new_hex
        self._max_queued = max_queued

    def create(self, account_id: str, new: NewJob) -> Job:
        """The job, queued. Raises InvalidRequest naming the field, ModelNotFound, QuotaExceeded."""
        if new.suffix is not None and not ids.is_suffix(new.suffix):
            raise InvalidRequest(
                f"The suffix {new.suffix!r} is not valid. Use 1 to 64 letters, digits, hyphens and underscores; "
                "a dot separates base model and job in model names and is not allowed.",
                param="suffix",
            )
        with self._store.begin() as tx:
            if tx.jobs.active_count(account_id) >= self._max_queued:
                raise QuotaExceeded(
                    f"This resource already has {self._max_queued} fine-tuning jobs that have not ended. "
                    "Wait for one to end or cancel one."
                )
            start = self._start(tx, account_id, new.model)
            training = self._file(tx, account_id, new.training_file, "training_file", start.entry)
            if training.examples is not None and training.examples < MIN_EXAMPLES:
                raise InvalidRequest(
                    f"{training.id} has {training.examples} example(s), but must have at least {MIN_EXAMPLES} examples",
                    param="training_file",
                    code="invalid_n_examples",
                )
            if new.validation_file is not None:
                self._file(tx, account_id, new.validation_file, "validation_file", start.entry)
            job = self._job(account_id, new, start, training)
            tx.jobs.add(job)
            tx.jobs.append_event(event(job, "created", EventKind.CREATED, job.created_at))
        return job

    def list(
        self, account_id: str, *, after: str | None, limit: int, metadata: dict[str, str] | None = None
    ) -> Page[Job]:
        with self._store.begin() as tx:
            return tx.jobs.list(account_id, after=after, limit=limit, metadata=metadata)

    def get(self, account_id: str, job_id: str) -> Job:
        """Raises NotFound."""
        with self._store.begin() as tx:
            return _get(tx, account_id, job_id)

    def cancel(self, account_id: str, job_id: str) -> Job:
        """Ends a waiting job at once; asks the worker of a running one to end it, which takes a moment.

        Cancelling a cancelled job is fine. Raises IllegalState when it has ended otherwise."""
        with self._store.begin() as tx:
            job = _get(tx, account_id, job_id)
            if job.status is JobStatus.CANCELLED:
                return job
            if job.ended:
                raise IllegalState(f"The fine-tuning job {job.id} has already {job.status} and cannot be cancelled.")
            tx.jobs.request_cancel(job.id)
            try:
                cancelled = cancelled_at(job, self._clock.now())
                tx.jobs.save(cancelled, owner=None)
                tx.jobs.append_event(event(cancelled, "cancelled", EventKind.CANCELLED, self._clock.now()))
            except LeaseLost:
                return dataclasses.replace(job, cancel_requested=True)
            return cancelled

    def delete(self, account_id: str, job_id: str) -> None:
        """Only ended jobs can be deleted; a fine-tuned model that came of it stays."""
        with self._store.begin() as tx:
            job = _get(tx, account_id, job_id)
            if not job.ended:
                raise IllegalState(f"The fine-tuning job {job.id} is {job.status}. Cancel it before deleting it.")
            tx.jobs.delete(account_id, job_id)

    def events(self, account_id: str, job_id: str, *, after: str | None, limit: int) -> Page[JobEvent]:
        with self._store.begin() as tx:
            return tx.jobs.events(_get(tx, account_id, job_id).id, after=after, limit=limit)

    def checkpoints(self, account_id: str, job_id: str, *, after: str | None, limit: int) -> Page[Checkpoint]:
        with self._store.begin() as tx:
            return tx.jobs.checkpoints(_get(tx, account_id, job_id).id, after=after, limit=limit)

    def _start(self, tx: Session, account_id: str, name: str) -> _Start:
        entry = self._catalogue.entry(name)
        if entry is not None:
            return _Start(entry)
        checkpoint = tx.jobs.find_checkpoint(account_id, name)
        earlier = tx.jobs.get(account_id, checkpoint.job_id) if checkpoint else None
        origin = self._catalogue.entry(earlier.model) if earlier else None
        if checkpoint is None or origin is None:
            names = ", ".join(e.name for e in self._catalogue.entries)
            raise ModelNotFound(
                f"The model {name!r} does not exist or cannot be fine-tuned. Base models here: {names}; "
                "fine-tuned models and checkpoints of this resource can be named as well.",
                param="model",
            )
        if not checkpoint.deployable:
            raise InvalidRequest(
                f"The checkpoint {name!r} cannot be continued from: its job has not succeeded, or newer checkpoints "
                "have taken its place.",
                param="model",
            )
        return _Start(origin, checkpoint)

    def _file(self, tx: Session, account_id: str, file_id: str, param: str, entry: CatalogueEntry) -> File:
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
        check_kind(entry, found.kind, param)
        return found

    def _job(self, account_id: str, new: NewJob, start: _Start, training: File) -> Job:
        now = self._clock.now()
        job_hex = self._new_hex()
        rule = self._catalogue.base(start.entry.base).auto
        guess = resolve(new.asked, training.examples or max(1, training.bytes // 500), rule)
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
            method_sent=new.method_sent,
            training_type=new.training_type,
            metadata=new.metadata,
            created_at=now,
            estimated_finish=now + timedelta(seconds=seconds),
        )


def check_kind(entry: CatalogueEntry, kind: str | None, param: str) -> None:
    """Raises InvalidRequest when lines of this kind cannot train this model; an unknown kind (None) passes."""
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
    if kind == "preference":
        raise InvalidRequest(
            f"{param} holds preference pairs, which the method 'supervised' cannot train on. "
            "Use lines with messages (chat models) or prompt and completion.",
            param=param,
        )


def event(
    job: Job,
    key: str,
    kind: EventKind,
    at: datetime,
    data: dict[str, object] | None = None,
    level: EventLevel = EventLevel.INFO,
) -> JobEvent:
    return JobEvent(
        id=ids.event_id(job.id, key),
        job_id=job.id,
        key=key,
        kind=kind,
        level=level,
        created_at=at,
        data={"job": job.id, **(data or {})},
    )


def cancelled_at(job: Job, at: datetime) -> Job:
    """Raises IllegalState when the job has ended."""
    check_move(job.status, JobStatus.CANCELLED)
    return dataclasses.replace(job, status=JobStatus.CANCELLED, finished_at=at, cancel_requested=True)


def _get(tx: Session, account_id: str, job_id: str) -> Job:
    job = tx.jobs.get(account_id, job_id)
    if job is None:
        raise NotFound(f"The fine-tuning job {job_id!r} does not exist in this resource.", param="fine_tuning_job_id")
    return job
