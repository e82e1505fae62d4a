"""What a job's training costs: its work while it trains, one charge when it has ended, and the receipt."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from tailorbird.domain.jobs import Job
from tailorbird.domain.pricing import Charge, Meter, PriceList, Work, cents, shown, training_quantity
from tailorbird.protocol import training as wire
from tailorbird.service.ports import Clock, Session, Store


class TrainingMeter:
    """Watches one run over all its processes. A step counts when it is trained for the first time: what a crash made
    necessary again is free, as are queueing, pauses, the loading of models and the turns of others in its process."""

    def __init__(self, store: Store, clock: Clock, job: Job) -> None:
        self._store = store
        self._clock = clock
        with store.begin() as tx:
            known = tx.work.get(job.id)
        self._work = known or Work(job.id, job.account_id, job.base, job.method.value)
        self._kept = self._work
        self._since = clock.now()
        self._at = 0

    def take(self, message: wire.TrainEvent) -> None:
        """In the order they come; a process tells nothing of a step that one before it has told of."""
        if not isinstance(message, wire.Started | wire.Step):
            return
        now = self._clock.now()
        if isinstance(message, wire.Step) and message.step > self._work.steps:
            seconds = message.seconds
            if seconds is None:  # an older trainer's event
                # Since the last event all steps after `_at` were trained; those that were paid for already are free.
                fresh, trained = message.step - self._work.steps, max(1, message.step - self._at)
                seconds = max(0.0, (now - self._since).total_seconds()) * min(1.0, fresh / trained)
            self._work = dataclasses.replace(
                self._work,
                steps=message.step,
                tokens=self._work.tokens + message.tokens,
                seconds=self._work.seconds + seconds,
            )
        self._at = message.resumed_step if isinstance(message, wire.Started) else message.step
        self._since = now

    def keep(self) -> None:
        """Writes it down, for whoever goes on with the job or ends it."""
        if self._work != self._kept:
            with self._store.begin() as tx:
                tx.work.put(self._work)
            self._kept = self._work


class Billing:
    """Charges jobs that have come to an end. Failed jobs are free, whatever they failed of."""

    def __init__(self, prices: PriceList) -> None:
        self._prices = prices

    def charge(self, tx: Session, job: Job, now: datetime) -> dict[str, object] | None:
        """Charges a job that has succeeded or was cancelled for the work done, once; None when it has trained nothing.

        Answers what the receipt says: `hours` or `tokens`, the amount and its currency."""
        work = tx.work.get(job.id) or Work(job.id, job.account_id, job.base, job.method.value)
        if job.trained_tokens is not None:
            work = dataclasses.replace(work, tokens=job.trained_tokens)
        prices = self._prices.of(job.model)
        meter = prices.training_meter
        quantity = training_quantity(meter, work)
        if quantity == 0:
            return None
        charge = Charge(
            key=f"training/{job.id}",
            account=job.account_id,
            meter=meter,
            quantity=quantity,
            unit_price=prices.of(meter),
            price_list=self._prices.version,
            model=job.model,
            at=now,
            job_id=job.id,
        )
        tx.ledger.append(charge)
        unit = "hours" if meter is Meter.TRAINING_HOURS else "tokens"
        return {
            unit: str(shown(meter, quantity)),
            "amount": str(cents(charge.amount)),
            "currency": self._prices.currency,
        }
