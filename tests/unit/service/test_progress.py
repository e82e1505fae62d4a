"""What the trainer tells of its plan, speed and best epoch becomes the job's events and its final checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable

from tailorbird.domain.jobs import EventKind, EventLevel, Hyperparameters, JobStatus
from tailorbird.protocol import training as wire
from tailorbird.protocol.training import TrainPlan
from tailorbird.service.pipeline import Pipeline

OWNER = "worker-1"

Change = Callable[[wire.TrainEvent], wire.TrainEvent]


class ChangedRun:
    """A scripted run whose events say more."""

    def __init__(self, run, change: Change) -> None:
        self._run = run
        self._change = change

    async def events(self) -> AsyncIterator[wire.TrainEvent]:
        async for message in self._run.events():
            yield self._change(message)

    async def stepped(self) -> None:
        await self._run.stepped()

    async def stop(self, patience: float | None = None) -> None:
        await self._run.stop(patience)

    async def kill(self) -> None:
        await self._run.kill()


class ChangedTrainer:
    def __init__(self, trainer, change: Change) -> None:
        self._trainer = trainer
        self._change = change

    async def start(self, plan: TrainPlan) -> ChangedRun:
        return ChangedRun(await self._trainer.start(plan), self._change)

    @property
    def plans(self) -> list[TrainPlan]:
        return self._trainer.plans


def telling(message: wire.TrainEvent) -> wire.TrainEvent:
    if isinstance(message, wire.Started):
        notes = {"step_tokens": 50.0, "pass_tokens": 128.0, "recompute": 1.0}
        return dataclasses.replace(message, notes=notes, precision="bfloat16", remarks=["examples are padded"])
    if isinstance(message, wire.Finished):
        speeds = dict.fromkeys(
            (f"{what}_per_second" for what in ("examples", "target_tokens", "computed_tokens", "given_tokens")), 2.0
        )
        return dataclasses.replace(message, notes=speeds | {"fraction_of_limit": 0.5})
    return message


async def test_the_plan_is_told_before_the_first_step_and_the_speed_after_the_last(house) -> None:
    trainer = ChangedTrainer(house.trainer(crashes=[7]), telling)
    pipeline: Pipeline = house.pipeline(trainer)
    job = await pipeline.run(house.job(), OWNER)
    assert job.status is JobStatus.SUCCEEDED
    keys = house.event_keys(job)
    assert keys[3:6] == ["started", "planned-0", "step-1"]
    assert keys.index("resumed-6") < keys.index("planned-6")  # the next process has a plan of its own
    assert keys.index("step-40") < keys.index("trained") < keys.index("proved")
    events = {event.key: event for event in house.events(job)}
    planned, trained = events["planned-0"], events["trained"]
    assert (planned.kind, planned.level) == (EventKind.PLANNED, EventLevel.WARNING)
    assert planned.data["text"] == (
        "50 tokens per step; up to 128 at once; layers are computed twice, as the memory is too small to keep them; "
        "bfloat16; examples are padded"
    )
    assert planned.data["pass_tokens"] == 128.0
    assert (trained.kind, trained.data["fraction_of_limit"]) == (EventKind.TRAINED, 0.5)
    assert "50 % of what the processor can do" in str(trained.data["text"])


def stopping_early(message: wire.TrainEvent) -> wire.TrainEvent:
    return dataclasses.replace(message, final_step=20) if isinstance(message, wire.Finished) else message


async def test_the_best_epoch_of_a_patient_job_is_its_model_and_stays_deployable(house) -> None:
    trainer = ChangedTrainer(house.trainer(), stopping_early)
    asked = Hyperparameters(n_epochs=4, batch_size=2, early_stop_patience=2)
    pipeline: Pipeline = house.pipeline(trainer)
    job = await pipeline.run(house.job(asked=asked), OWNER)
    assert trainer.plans[0].patience == 2
    with house.store.begin() as tx:
        checkpoints = tx.jobs.checkpoints(job.id, after=None, limit=10).items
        model = tx.models.find("acc", job.fine_tuned_model or "")
    assert [(one.step, one.final, one.deployable) for one in checkpoints] == [
        (40, False, True),
        (30, False, True),
        (20, True, True),
        (10, False, False),
    ]
    final = checkpoints[2]
    assert model is not None
    assert model.checkpoint_id == final.id
    assert job.fine_tuned_model == final.name == f"gpt-35-turbo-0613.ft-{job.id.removeprefix('ftjob-')}"
    assert checkpoints[0].name.endswith(":ckpt-step-40")
    (told,) = (event for event in house.events(job) if event.key == "trained")
    assert told.data["text"] == "the best validation loss was at step 20 of 40"


async def test_a_job_that_nobody_asked_to_be_patient_has_no_patience(house) -> None:
    trainer = house.trainer()
    await house.pipeline(trainer).run(house.job(), OWNER)
    assert trainer.plans[0].patience == 0
