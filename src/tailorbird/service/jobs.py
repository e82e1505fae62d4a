"""Fine-tuning jobs: create, list, get, pause, resume, cancel, delete, and what they leave behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime

from tailorbird.domain import ids
from tailorbird.domain.access import Action
from tailorbird.domain.audit import Act
from tailorbird.domain.errors import IllegalState, NotFound
from tailorbird.domain.jobs import Checkpoint, EventKind, EventLevel, Job, JobEvent, JobStatus, Stage, check_move
from tailorbird.domain.pricing import NO_PRICES, PriceList
from tailorbird.service.audit import record, resource_in
from tailorbird.service.intake import Intake, Limits, NewJob
from tailorbird.service.models import Catalogue
from tailorbird.service.ports import Clock, LeaseLost, Page, Session, Store
from tailorbird.service.tracking import WANDB_KEY
from tailorbird.service.usage.budgets import Budgets
from tailorbird.service.usage.training import Billing
from tailorbird.service.watching import Watching

_AZURES_TOTAL = 100


class Jobs:
    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        clock: Clock,
        new_hex: Callable[[], str],
        max_queued: int,
        max_jobs: int = _AZURES_TOTAL,
        tracking: bool = False,
        prices: PriceList = NO_PRICES,
    ) -> None:
        self._store = store
        self._billing = Billing(prices)
        self._budgets = Budgets(store, prices, clock)
        self.watching = Watching(store, prices, clock)
        self._intake = Intake(catalogue, Limits(max_queued, max_jobs), tracking)
        self._clock = clock
        self._new_hex = new_hex

    def create(self, account_id: str, new: NewJob) -> Job:
        """The job, queued. Raises InvalidRequest naming the field, ModelNotFound, QuotaExceeded."""
        with self._store.begin() as tx:
            job = self._intake.admit(tx, account_id, new, self._new_hex(), self._clock.now())
            self._budgets.refuse_job(tx, account_id)
            tx.jobs.add(job)
            tx.jobs.append_event(event(job, "created", EventKind.CREATED, job.created_at))
        return job

    def draft(self, account_id: str, new: NewJob) -> Job:
        """The job as `create` would make it, with its checks of model and files, and nothing written."""
        with self._store.begin() as tx:
            return self._intake.draft(tx, account_id, new, self._new_hex(), self._clock.now())

    def list(
        self, account_id: str, *, after: str | None, limit: int, metadata: dict[str, str] | None = None
    ) -> Page[Job]:
        with self._store.begin() as tx:
            return tx.jobs.list(account_id, after=after, limit=limit, metadata=metadata)

    def get(self, account_id: str, job_id: str) -> Job:
        """Raises NotFound."""
        with self._store.begin() as tx:
            return _get(tx, account_id, job_id)

    def pause(self, account_id: str, job_id: str) -> Job:
        """Asks the worker to stop training and to save. Raises IllegalState unless a step has been trained."""
        with self._store.begin() as tx:
            job = _get(tx, account_id, job_id)
            if job.status is not JobStatus.RUNNING:
                raise IllegalState(f"The fine-tuning job {job.id} is {job.status}; only a running job can be paused.")
            if job.trained_steps < 1:
                raise IllegalState(
                    f"The fine-tuning job {job.id} has not trained a step yet, so there is nothing to keep. Pause it "
                    "after its first metrics event, or cancel it."
                )
            if not tx.jobs.request_pause(job.id):
                raise IllegalState(f"The training of {job.id} has ended; the job finishes by itself.")
            data: dict[str, object] = {"step": job.trained_steps}
            tx.jobs.append_event(event(job, f"pausing-{job.pauses + 1}", EventKind.PAUSING, self._clock.now(), data))
        return dataclasses.replace(job, status=JobStatus.PAUSING)

    def resume(self, account_id: str, job_id: str) -> Job:
        """Puts a paused job back into the queue. Raises IllegalState when it is not paused."""
        now = self._clock.now()
        with self._store.begin() as tx:
            job = _get(tx, account_id, job_id)
            if job.status is JobStatus.PAUSING:
                raise IllegalState(f"The fine-tuning job {job.id} is still pausing. Resume it when it is paused.")
            if job.status is not JobStatus.PAUSED or job.paused_at is None:
                raise IllegalState(f"The fine-tuning job {job.id} is {job.status}; only a paused job can be resumed.")
            check_move(job.status, JobStatus.RESUMING)
            resumed = dataclasses.replace(
                job,
                status=JobStatus.RESUMING,
                paused_at=None,
                paused_seconds=job.paused_seconds + (now - job.paused_at).total_seconds(),
                estimated_finish=job.estimated_finish + (now - job.paused_at),
            )
            try:
                tx.jobs.save(resumed, owner=None)
            except LeaseLost:
                raise IllegalState(
                    f"The fine-tuning job {job.id} was resumed or cancelled by somebody else at this moment."
                ) from None
            tx.jobs.append_event(event(resumed, f"resuming-{job.pauses}", EventKind.RESUMING, now))
        return resumed

    def cancel(self, account_id: str, job_id: str) -> Job:
        """Ends a waiting or paused job at once; asks the worker of a running one to end it, which takes a moment.

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
                tell_cancelled(tx, self._billing, cancelled, self._clock.now())
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
            resource = resource_in(tx, account_id, f"/fineTuningJobs/{job_id}")
            record(tx, self._clock.now(), Action.DELETE_JOB, resource)

    def events(self, account_id: str, job_id: str, *, after: str | None, limit: int) -> Page[JobEvent]:
        with self._store.begin() as tx:
            return tx.jobs.events(_get(tx, account_id, job_id).id, after=after, limit=limit)

    def checkpoints(self, account_id: str, job_id: str, *, after: str | None, limit: int) -> Page[Checkpoint]:
        with self._store.begin() as tx:
            return tx.jobs.checkpoints(_get(tx, account_id, job_id).id, after=after, limit=limit)

    def has_wandb_key(self, account_id: str) -> bool:
        with self._store.begin() as tx:
            return tx.account_settings.get(account_id, WANDB_KEY) is not None

    def set_wandb_key(self, account_id: str, key: str | None) -> None:
        """The key its jobs' metrics are sent with; None removes it."""
        with self._store.begin() as tx:
            tx.account_settings.put(account_id, WANDB_KEY, key)
            resource = resource_in(tx, account_id, "/integrations/wandb")
            record(tx, self._clock.now(), Act.WRITE_INTEGRATION, resource, "removed" if key is None else "set")


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


def tell_cancelled(tx: Session, billing: Billing, job: Job, at: datetime) -> None:
    """The events of a job that was cancelled just now, which pays for the work done."""
    tx.jobs.append_event(event(job, "cancelled", EventKind.CANCELLED, at))
    billed = billing.charge(tx, job, at)
    if billed is not None:
        tx.jobs.append_event(event(job, "billed", EventKind.BILLED, at, billed))


def cancelled_at(job: Job, at: datetime) -> Job:
    """Raises IllegalState when the job has ended."""
    check_move(job.status, JobStatus.CANCELLED)
    return dataclasses.replace(job, status=JobStatus.CANCELLED, stage=Stage.DONE, finished_at=at, cancel_requested=True)


def _get(tx: Session, account_id: str, job_id: str) -> Job:
    job = tx.jobs.get(account_id, job_id)
    if job is None:
        raise NotFound(f"The fine-tuning job {job_id!r} does not exist in this resource.", param="fine_tuning_job_id")
    return job
