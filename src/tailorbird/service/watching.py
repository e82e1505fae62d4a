"""A job as somebody who watches it sees it: place, steps, curves, cost, and what came before and after it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from tailorbird.domain.errors import NotFound
from tailorbird.domain.jobs import Checkpoint, Job, JobEvent, JobStatus
from tailorbird.domain.pricing import Meter, PriceList, Work, amount_of, cents, shown, training_quantity, unit_of
from tailorbird.service.ports import Clock, Session, Store

_WAITING = frozenset({JobStatus.VALIDATING, JobStatus.QUEUED, JobStatus.RESUMING})
_PLACES = 1000
"""A job behind so many others has no place worth counting."""
# What an event tells beside the numbers of its step.
_NOT_NUMBERS = frozenset({"job", "total_steps", "before"})

Point = dict[str, float]


@dataclass(frozen=True, slots=True)
class Expense:
    """`billed` is the charge of a job that has ended; before, what the whole training will come to."""

    billed: bool
    quantity: Decimal
    unit: str
    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class Progress:
    """`place` is 1 for the job that is claimed next, None for one that does not wait. `running` has no pauses in it.

    `points` are the numbers of each step in its order, from `after` of the answer before this one on; `after` is None
    until there are any."""

    job: Job
    place: int | None
    total_steps: int | None
    running: timedelta
    expense: Expense | None
    last_event: str | None
    points: list[Point]
    after: str | None
    has_more: bool


@dataclass(frozen=True, slots=True)
class Lineage:
    """`source` is the checkpoint the job began with, `continued` are the jobs that began with one of its own."""

    source: Checkpoint | None
    continued: list[Job]


class Watching:
    def __init__(self, store: Store, prices: PriceList, clock: Clock) -> None:
        self._store = store
        self._prices = prices
        self._clock = clock

    def progress(self, account_id: str, job_id: str, *, after: str | None, limit: int) -> Progress:
        """`limit` counts events, each with the steps since the one before it. Raises NotFound."""
        with self._store.begin() as tx:
            job = _job(tx, account_id, job_id)
            page = tx.jobs.metrics(job.id, after=after, limit=limit)
            newest = tx.jobs.events(job.id, after=None, limit=1).items
            place = _place(tx, job)
            total = _total_steps(job)
            expense = self._expense(tx, job, total)
        return Progress(
            job=job,
            place=place,
            total_steps=total,
            running=self._running(job),
            expense=expense,
            last_event=newest[0].id if newest else None,
            points=[point for event in page.items for point in _points(event)],
            after=page.items[-1].id if page.items else after,
            has_more=page.has_more,
        )

    def lineage(self, account_id: str, job_id: str) -> Lineage:
        """Raises NotFound."""
        with self._store.begin() as tx:
            job = _job(tx, account_id, job_id)
            source = None
            if job.start_checkpoint is not None:
                source = tx.jobs.find_checkpoint(account_id, job.start_checkpoint)
            return Lineage(source, tx.jobs.continued(account_id, job.id))

    def _running(self, job: Job) -> timedelta:
        end: datetime = job.finished_at or self._clock.now()
        return max(timedelta(), job.running_time(end))

    def _expense(self, tx: Session, job: Job, total_steps: int | None) -> Expense | None:
        """None before anything is known, and of a job that ended without a charge."""
        billed = tx.jobs.find_event(job.id, "billed")
        if billed is not None and "amount" in billed.data:
            unit = "hours" if "hours" in billed.data else "tokens"
            amount, currency = Decimal(str(billed.data["amount"])), str(billed.data["currency"])
            return Expense(True, Decimal(str(billed.data[unit])), unit, amount, currency)
        work = tx.work.get(job.id)
        if job.ended or total_steps is None:
            return None
        prices = self._prices.of(job.model)
        meter = prices.training_meter
        expected = _expected(job, work, total_steps)
        if meter is Meter.TRAINING_HOURS and expected.seconds == 0:
            return None
        quantity = training_quantity(meter, expected)
        amount = cents(amount_of(meter, quantity, prices.of(meter)))
        return Expense(False, shown(meter, quantity), unit_of(meter), amount, self._prices.currency)


def _job(tx: Session, account_id: str, job_id: str) -> Job:
    job = tx.jobs.get(account_id, job_id)
    if job is None:
        raise NotFound(f"The fine-tuning job {job_id!r} does not exist in this resource.", param="fine_tuning_job_id")
    return job


def _place(tx: Session, job: Job) -> int | None:
    if job.status not in _WAITING:
        return None
    waiting = [one.id for one in tx.jobs.waiting(_PLACES)]
    return waiting.index(job.id) + 1 if job.id in waiting else None


def _total_steps(job: Job) -> int | None:
    """None until validation has counted the examples."""
    if job.examples is None or job.resolved is None:
        return None
    return math.ceil(job.examples / (job.resolved.batch_size or 1)) * (job.resolved.n_epochs or 1)


def _expected(job: Job, work: Work | None, total_steps: int) -> Work:
    """The whole training at the pace of its steps so far."""
    epochs = 1 if job.resolved is None else job.resolved.n_epochs or 1
    seconds = work.seconds / work.steps * total_steps if work is not None and work.steps else 0.0
    tokens = (job.epoch_tokens or 0) * epochs
    return Work(job.id, job.account_id, job.base, job.method.value, total_steps, tokens, seconds)


def _points(event: JobEvent) -> Iterator[Point]:
    before = cast("list[dict[str, Any]]", event.data.get("before", []))
    for told in (*before, cast("dict[str, Any]", event.data)):
        # A loss that is no number has no place on a curve, nor in JSON.
        yield {name: v for name, v in told.items() if name not in _NOT_NUMBERS and math.isfinite(v)}
