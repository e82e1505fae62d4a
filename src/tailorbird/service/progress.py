"""Follows a training run: its events become the job's events, checkpoints and estimate, each written once."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from tailorbird.domain import ids
from tailorbird.domain.jobs import Checkpoint, EventKind, EventLevel, Job
from tailorbird.protocol import training as wire
from tailorbird.protocol.training import TrainPlan
from tailorbird.service.adapters import Adapters
from tailorbird.service.jobs import event
from tailorbird.service.ports import Clock, Session, Store, Trainer, TrainerCrashed, TrainerRun
from tailorbird.service.tracking import Trackers, numbers
from tailorbird.service.training_texts import plan_text, work_text
from tailorbird.service.usage.training import TrainingMeter

METRICS_EVERY = 10
"""Azure writes a metrics event every ten steps; results.csv has them all."""

_PAUSE_PATIENCE_SECONDS = 600.0
"""How long a trainer that shall pause may take for its step: killed before, it would have nothing to show."""


class Progress:
    def __init__(self, store: Store, adapters: Adapters, clock: Clock, organization: str, max_crashes: int) -> None:
        self._store = store
        self._adapters = adapters
        self._clock = clock
        self._organization = organization
        self._max_crashes = max_crashes

    async def follow(
        self, trainer: Trainer, plan: TrainPlan, job: Job, owner: str, pause: asyncio.Event, trackers: Trackers
    ) -> tuple[Job, wire.Finished | wire.Failed | wire.Interrupted]:
        """The job as it stands at the run's end, or, when `pause` is set, at the step the trainer has stopped at.

        A trainer that crashes is started again, unless it makes no headway. When the task is cancelled it saves and
        leaves first. Raises LeaseLost."""
        following = _Following(self, plan, job, owner, trackers)
        crashes = 0
        furthest = -1
        while True:
            run = await trainer.start(plan)
            pausing = asyncio.create_task(_stop_on(pause, run))
            following.reached = furthest
            try:
                async for message in run.events():
                    if isinstance(message, wire.Finished):
                        await asyncio.to_thread(self.trained, following.job, message)
                        return following.job, message
                    if isinstance(message, wire.Failed):
                        return following.job, message
                    if not isinstance(message, wire.Interrupted):
                        await following.take(message)
                    elif pause.is_set():
                        await following.paused(message)
                        return following.job, message
                    else:
                        # Somebody else told the trainer to stop; start it again where it saved.
                        break
            except TrainerCrashed as crash:
                crashes = 1 if following.reached > furthest else crashes + 1
                if crashes >= self._max_crashes:
                    return following.job, _given_up(crashes, following.reached, crash)
                following.resumed(crash)
            finally:
                pausing.cancel()
                following.meter.keep()
                await _leave(run)
            furthest = max(furthest, following.reached)

    def metrics(self, job: Job, step: wire.Step, owner: str, before: Sequence[wire.Step] = ()) -> Job:
        """`before` are the steps since the last one that was told: their numbers go along with this one's event."""
        now = self._clock.now()
        data: dict[str, object] = {"step": step.step, "total_steps": step.total_steps, **numbers(step.metrics)}
        if before:
            data["before"] = [{"step": one.step, **_short(numbers(one.metrics))} for one in before]
        with self._store.begin() as tx:
            new = tx.jobs.append_event(event(job, f"step-{step.step}", EventKind.METRICS, now, data))
            if not new or job.started_at is None:
                return job
            left = job.running_time(now).total_seconds() / step.step * (step.total_steps - step.step)
            told = dataclasses.replace(job, estimated_finish=now + timedelta(seconds=left), trained_steps=step.step)
            tx.jobs.save(told, owner=owner)
        return told

    def checkpoint(self, job: Job, saved: wire.CheckpointSaved, plan: TrainPlan) -> None:
        # With patience the result is known at the end: `trained` names it.
        final = saved.epoch_end and saved.epoch == plan.n_epochs and not plan.patience
        step = None if final else saved.step
        checkpoint_id = ids.checkpoint_id(job.id, saved.step)
        key = f"accounts/{job.account_id}/adapters/{checkpoint_id}"
        facts = {"job": job.id, "base": job.base, "template_hash": plan.template_hash}
        self._adapters.keep(key, Path(saved.path), facts)
        now = self._clock.now()
        with self._store.begin() as tx:
            if tx.jobs.find_checkpoint(job.account_id, checkpoint_id) is None:
                tx.jobs.add_checkpoint(
                    Checkpoint(
                        id=checkpoint_id,
                        job_id=job.id,
                        account_id=job.account_id,
                        step=saved.step,
                        name=ids.azure_model_name(job.model, job.id, job.suffix, step),
                        openai_name=ids.openai_model_name(job.model, self._organization, job.id, job.suffix, step),
                        adapter_key=key,
                        created_at=now,
                        metrics={"step": float(saved.step), **numbers(saved.metrics)},
                        final=final,
                        at_pause=not saved.epoch_end,
                    )
                )
            data: dict[str, object] = {"step": saved.step, "epoch": saved.epoch, "checkpoint": checkpoint_id}
            tx.jobs.append_event(event(job, f"checkpoint-{saved.step}", EventKind.CHECKPOINT, now, data))

    def planned(self, job: Job, started: wire.Started) -> None:
        """How the work is cut, before the first step of each process that has a say in it."""
        text = plan_text(started)
        if not text:
            return
        data: dict[str, object] = {"text": text, "precision": started.precision, **started.notes}
        level = EventLevel.WARNING if started.notes.get("recompute") else EventLevel.INFO
        with self._store.begin() as tx:
            now = self._clock.now()
            key = f"planned-{started.resumed_step}"
            tx.jobs.append_event(event(job, key, EventKind.PLANNED, now, data, level))

    def trained(self, job: Job, finished: wire.Finished) -> None:
        """What training came to; of a run with patience, which checkpoint is the result."""
        text = work_text(finished)
        with self._store.begin() as tx:
            if finished.final_step is not None:
                self._name_final(tx, job, finished.final_step)
            if text:
                data: dict[str, object] = {"text": text, "final_step": finished.final_step, **finished.notes}
                tx.jobs.append_event(event(job, "trained", EventKind.TRAINED, self._clock.now(), data))

    def _name_final(self, tx: Session, job: Job, step: int) -> None:
        found = tx.jobs.find_checkpoint(job.account_id, ids.checkpoint_id(job.id, step))
        if found is None or found.final:
            return
        tx.jobs.add_checkpoint(
            dataclasses.replace(
                found,
                final=True,
                name=ids.azure_model_name(job.model, job.id, job.suffix, None),
                openai_name=ids.openai_model_name(job.model, self._organization, job.id, job.suffix, None),
            )
        )

    def meter(self, job: Job) -> TrainingMeter:
        return TrainingMeter(self._store, self._clock, job)

    def resumed(self, job: Job, crash: TrainerCrashed, step: int) -> None:
        data: dict[str, object] = {"step": step, "exit_code": crash.exit_code}
        with self._store.begin() as tx:
            tx.jobs.append_event(
                event(job, f"resumed-{step}", EventKind.RESUMED, self._clock.now(), data, EventLevel.WARNING)
            )


class _Following:
    """What is known of a run while its events come in, over all processes of it."""

    def __init__(self, progress: Progress, plan: TrainPlan, job: Job, owner: str, trackers: Trackers) -> None:
        self.job = job
        self.reached = -1
        self._progress = progress
        self._plan = plan
        self._owner = owner
        self._trackers = trackers
        self._between: wire.CheckpointSaved | None = None
        self._untold: list[wire.Step] = []
        self.meter = progress.meter(job)

    async def take(self, message: wire.TrainEvent) -> None:
        self.meter.take(message)
        if isinstance(message, wire.Started):
            await asyncio.to_thread(self._progress.planned, self.job, message)
        elif isinstance(message, wire.CheckpointSaved):
            self.reached = max(self.reached, message.step)
            if message.epoch_end:
                await asyncio.to_thread(self._progress.checkpoint, self.job, message, self._plan)
            else:
                # Every stop leaves one; it is a checkpoint of the job only where the job was paused.
                self._between = message
        elif isinstance(message, wire.Step):
            self.reached = max(self.reached, message.step)
            if self._trackers.any:
                await asyncio.to_thread(self._trackers.log, message.step, message.metrics)
            if _is_reported(message):
                self.job = self._progress.metrics(self.job, message, self._owner, self._untold)
                self._untold.clear()
                self.meter.keep()
            else:
                self._untold.append(message)

    async def paused(self, message: wire.Interrupted) -> None:
        if self._between is not None and self._between.step == message.step:
            await asyncio.to_thread(self._progress.checkpoint, self.job, self._between, self._plan)

    def resumed(self, crash: TrainerCrashed) -> None:
        self._progress.resumed(self.job, crash, max(self.reached, 0))


def _given_up(crashes: int, reached: int, crash: TrainerCrashed) -> wire.Failed:
    return wire.Failed(
        "trainerCrashed",
        f"Training stopped {crashes} times at step {max(reached, 0)} without a reason the service can name. Nothing "
        "was charged.",
        crash.tail,
    )


async def _stop_on(pause: asyncio.Event, run: TrainerRun) -> None:
    await pause.wait()
    await run.stepped()
    await run.stop(_PAUSE_PATIENCE_SECONDS)


async def _leave(run: TrainerRun) -> None:
    """Ends a trainer that is still there: first politely, so that it saves, then at once."""
    try:
        await asyncio.shield(run.stop())
    finally:
        await run.kill()


def _short(values: Mapping[str, float]) -> dict[str, float]:
    """As many digits as a curve shows; results.csv has them all."""
    return {name: float(f"{value:.6g}") for name, value in values.items()}


def _is_reported(step: wire.Step) -> bool:
    return (
        step.step == 1
        or step.step % METRICS_EVERY == 0
        or step.step == step.total_steps
        or step.metrics.full_valid_loss is not None
    )
