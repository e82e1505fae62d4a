"""Follows a training run: its events become the job's events, checkpoints and estimate, each written once."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta
from pathlib import Path

from tailorbird.domain import ids
from tailorbird.domain.jobs import Checkpoint, EventKind, EventLevel, Job
from tailorbird.protocol import training as wire
from tailorbird.protocol.training import TrainPlan
from tailorbird.service.adapters import Adapters
from tailorbird.service.jobs import event
from tailorbird.service.ports import Clock, Store, Trainer, TrainerCrashed, TrainerRun

METRICS_EVERY = 10
"""Azure writes a metrics event every ten steps; results.csv has them all."""


class Progress:
    def __init__(self, store: Store, adapters: Adapters, clock: Clock, organization: str) -> None:
        self._store = store
        self._adapters = adapters
        self._clock = clock
        self._organization = organization

    async def follow(
        self, trainer: Trainer, plan: TrainPlan, job: Job, owner: str, max_crashes: int
    ) -> wire.Finished | wire.Failed:
        """Runs the trainer to its end; one that crashes is started again, unless it makes no headway.

        When the task is cancelled the trainer saves and leaves first. Raises LeaseLost."""
        crashes = 0
        furthest = -1
        while True:
            run = await trainer.start(plan)
            reached = furthest
            try:
                async for message in run.events():
                    if isinstance(message, wire.Finished | wire.Failed):
                        return message
                    if isinstance(message, wire.Interrupted):
                        # Somebody else told the trainer to stop; start it again where it saved.
                        break
                    reached = max(reached, await self._write(message, plan, job, owner))
            except TrainerCrashed as crash:
                crashes = 1 if reached > furthest else crashes + 1
                if crashes >= max_crashes:
                    return wire.Failed(
                        "trainerCrashed",
                        f"Training stopped {crashes} times at step {max(reached, 0)} without a reason the service can "
                        "name. Nothing was charged.",
                        crash.tail,
                    )
                self._resumed(job, crash, max(reached, 0))
            finally:
                await _leave(run)
            furthest = max(furthest, reached)

    async def _write(self, message: wire.TrainEvent, plan: TrainPlan, job: Job, owner: str) -> int:
        if isinstance(message, wire.CheckpointSaved):
            await asyncio.to_thread(self._checkpoint, message, plan, job)
            return message.step
        if isinstance(message, wire.Step):
            if _is_reported(message):
                self._metrics(message, job, owner)
            return message.step
        return -1

    def _metrics(self, step: wire.Step, job: Job, owner: str) -> None:
        now = self._clock.now()
        data: dict[str, object] = {"step": step.step, "total_steps": step.total_steps, **_numbers(step.metrics)}
        with self._store.begin() as tx:
            new = tx.jobs.append_event(event(job, f"step-{step.step}", EventKind.METRICS, now, data))
            if new and job.started_at is not None:
                spent = (now - job.started_at).total_seconds()
                left = spent / step.step * (step.total_steps - step.step)
                tx.jobs.save(dataclasses.replace(job, estimated_finish=now + timedelta(seconds=left)), owner=owner)

    def _checkpoint(self, saved: wire.CheckpointSaved, plan: TrainPlan, job: Job) -> None:
        final = saved.epoch == plan.n_epochs
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
                        metrics={"step": float(saved.step), **_numbers(saved.metrics)},
                        final=final,
                    )
                )
            data: dict[str, object] = {"step": saved.step, "epoch": saved.epoch, "checkpoint": checkpoint_id}
            tx.jobs.append_event(event(job, f"checkpoint-{saved.step}", EventKind.CHECKPOINT, now, data))

    def _resumed(self, job: Job, crash: TrainerCrashed, step: int) -> None:
        data: dict[str, object] = {"step": step, "exit_code": crash.exit_code}
        with self._store.begin() as tx:
            tx.jobs.append_event(
                event(job, f"resumed-{step}", EventKind.RESUMED, self._clock.now(), data, EventLevel.WARNING)
            )


async def _leave(run: TrainerRun) -> None:
    """Ends a trainer that is still there: first politely, so that it saves, then at once."""
    try:
        await asyncio.shield(run.stop())
    finally:
        await run.kill()


def _is_reported(step: wire.Step) -> bool:
    return (
        step.step == 1
        or step.step % METRICS_EVERY == 0
        or step.step == step.total_steps
        or step.metrics.full_valid_loss is not None
    )


def _numbers(metrics: wire.Metrics) -> dict[str, float]:
    return {name: value for name, value in dataclasses.asdict(metrics).items() if value is not None}
