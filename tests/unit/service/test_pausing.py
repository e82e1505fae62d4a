"""Pause and resume: training stops and saves, the checkpoint can be used, and the end is the same."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta

import pytest

from tailorbird.domain.errors import IllegalState, InvalidRequest
from tailorbird.domain.jobs import Job, JobStatus, Stage
from tailorbird.service.intake import NewJob
from tailorbird.service.sources import find_source

OWNER = "worker-1"


async def pause_at_five(house, **options) -> Job:
    """A job whose trainer has been asked to stop at step 5."""
    job = house.job(suffix="mine")
    trainer = house.trainer(hang=True)
    pause = asyncio.Event()
    task = asyncio.create_task(house.pipeline(trainer, **options).run(job, OWNER, pause))
    await house.until(lambda: trainer.runs and trainer.runs[0].reached == 5)
    house.jobs.pause("acc", job.id)
    pause.set()
    paused = await task
    assert (trainer.runs[0].patience[0] or 0) >= 60, "a long step must not be cut off"
    return paused


async def test_a_paused_job_rests_with_a_deployable_checkpoint_and_is_claimed_by_nobody(house) -> None:
    job = await pause_at_five(house)
    assert (job.status, job.stage) == (JobStatus.PAUSED, Stage.TRAIN)
    assert house.row(job) == job
    assert house.claim("worker-2") is None
    assert (house.folder / "runs" / job.id).is_dir()
    with house.store.begin() as tx:
        (checkpoint,) = tx.jobs.checkpoints(job.id, after=None, limit=9).items
        source = find_source(tx, house.catalogue, "acc", checkpoint.name)
    assert (checkpoint.step, checkpoint.deployable, checkpoint.final, checkpoint.at_pause) == (5, True, False, True)
    assert checkpoint.name == f"gpt-35-turbo-0613.ft-{job.id.removeprefix('ftjob-')}-mine:ckpt-step-5"
    assert source is not None
    assert (source.checkpoint_id, source.template_hash) == (checkpoint.id, job.template_hash)
    assert house.event_keys(job)[-3:] == ["pausing-1", "checkpoint-5", "paused-1"]


async def test_a_resumed_job_ends_like_one_that_was_never_paused(house) -> None:
    job = await pause_at_five(house)
    resumed = house.jobs.resume("acc", job.id)
    assert (resumed.status, resumed.paused_at) == (JobStatus.RESUMING, None)
    assert resumed.paused_seconds > 0
    claimed = house.claim()
    assert claimed is not None
    ended = await house.pipeline().run(claimed, OWNER)
    assert ended.status is JobStatus.SUCCEEDED
    with house.store.begin() as tx:
        checkpoints = tx.jobs.checkpoints(job.id, after=None, limit=9).items
    assert [(c.step, c.deployable) for c in checkpoints] == [
        (40, True),
        (30, True),
        (20, True),
        (10, False),
        (5, True),
    ]
    keys = house.event_keys(ended)
    assert len(keys) == len(set(keys))
    assert keys[keys.index("paused-1") :][:3] == ["paused-1", "resuming-1", "continued-1"]


async def test_a_job_can_be_paused_twice(house) -> None:
    job = await pause_at_five(house)
    house.jobs.resume("acc", job.id)
    claimed = house.claim()
    trainer = house.trainer(hang=True, saved=5)
    pause = asyncio.Event()
    task = asyncio.create_task(house.pipeline(trainer).run(claimed, OWNER, pause))
    await house.until(lambda: trainer.runs and trainer.runs[0].reached == 6)
    house.jobs.pause("acc", job.id)
    pause.set()
    again = await task
    assert (again.status, again.pauses) == (JobStatus.PAUSED, 2)
    assert [key for key in house.event_keys(job) if "paus" in key] == [
        "pausing-1",
        "paused-1",
        "pausing-2",
        "paused-2",
    ]


async def test_a_pause_that_its_worker_did_not_live_to_see_is_kept_by_the_next(house) -> None:
    job = house.job()
    trainer = house.trainer(hang=True)
    task = asyncio.create_task(house.pipeline(trainer).run(job, OWNER))
    await house.until(lambda: trainer.runs and trainer.runs[0].reached == 5)
    house.jobs.pause("acc", job.id)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    house.leases.release(job.id, OWNER)
    claimed = house.claim("worker-2")
    assert claimed is not None
    assert claimed.status is JobStatus.PAUSING
    paused = await house.pipeline(trainer).run(claimed, "worker-2")
    assert paused.status is JobStatus.PAUSED
    with house.store.begin() as tx:
        (checkpoint,) = tx.jobs.checkpoints(job.id, after=None, limit=9).items
    assert (checkpoint.step, checkpoint.deployable) == (6, True), "one step more, so that there is something to save"


async def test_a_restart_between_epochs_leaves_no_checkpoint_in_the_list(house) -> None:
    job = house.job()
    trainer = house.trainer(hang=True)
    task = asyncio.create_task(house.pipeline(trainer).run(job, OWNER))
    await house.until(lambda: trainer.runs and trainer.runs[0].reached == 5)
    await trainer.runs[0].stop()
    await house.until(lambda: len(trainer.runs) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with house.store.begin() as tx:
        assert tx.jobs.checkpoints(job.id, after=None, limit=9).items == []


async def test_a_checkpoint_that_answers_harmfully_stays_locked_and_the_job_says_so(house) -> None:
    job = await pause_at_five(house, engine=house.engine(answer="forbidden"))
    assert job.status is JobStatus.PAUSED
    with house.store.begin() as tx:
        (checkpoint,) = tx.jobs.checkpoints(job.id, after=None, limit=9).items
    assert not checkpoint.deployable
    refused = next(event for event in house.events(job) if event.key == "checkpoint-refused-5")
    assert "Violence" in str(refused.data["message"])
    with pytest.raises(InvalidRequest, match="cannot be continued from"):
        house.jobs.create("acc", NewJob(checkpoint.id, job.training_file))


async def test_training_goes_on_from_a_paused_jobs_checkpoint(house) -> None:
    job = await pause_at_five(house)
    with house.store.begin() as tx:
        (checkpoint,) = tx.jobs.checkpoints(job.id, after=None, limit=9).items
    trainer = house.trainer()
    for name in (checkpoint.id, checkpoint.name, checkpoint.openai_name):
        created = house.jobs.create("acc", NewJob(name, job.training_file))
        assert (created.start_checkpoint, created.model) == (checkpoint.id, job.model)
    claimed = house.claim()
    ended = await house.pipeline(trainer).run(claimed, OWNER)
    assert ended.status is JobStatus.SUCCEEDED
    assert (trainer.plans[0].initial_adapter or "").endswith(checkpoint.id)


async def test_a_pause_that_comes_when_training_is_over_changes_nothing(house) -> None:
    job = house.job()
    pipeline = house.pipeline()
    for stage in (pipeline._validate, pipeline._screen_data):
        job = await stage(job, OWNER)
    job = await pipeline._train(job, OWNER, asyncio.Event())
    assert job.stage is Stage.PROVE
    with pytest.raises(IllegalState, match="has ended"):
        house.jobs.pause("acc", job.id)
    assert (await pipeline.run(job, OWNER)).status is JobStatus.SUCCEEDED


async def test_only_what_trains_is_paused_and_only_what_is_paused_resumed(house) -> None:
    waiting = house.job()
    with pytest.raises(IllegalState, match="only a running job"):
        house.jobs.pause("acc", waiting.id)
    with pytest.raises(IllegalState, match="only a paused job"):
        house.jobs.resume("acc", waiting.id)
    started = dataclasses.replace(waiting, status=JobStatus.RUNNING, stage=Stage.TRAIN)
    with house.store.begin() as tx:
        tx.jobs.save(started, owner=OWNER)
    with pytest.raises(IllegalState, match="not trained a step yet"):
        house.jobs.pause("acc", waiting.id)
    with house.store.begin() as tx:
        tx.jobs.save(dataclasses.replace(started, trained_steps=1), owner=OWNER)
    assert house.jobs.pause("acc", waiting.id).status is JobStatus.PAUSING
    with pytest.raises(IllegalState, match="is pausing"):
        house.jobs.pause("acc", waiting.id)
    with pytest.raises(IllegalState, match="still pausing"):
        house.jobs.resume("acc", waiting.id)


async def test_a_paused_job_is_cancelled_at_once_and_its_folder_is_swept(house) -> None:
    job = await pause_at_five(house)
    house.pipeline().sweep()
    assert (house.folder / "runs" / job.id).is_dir()
    (house.folder / "runs" / "mine").mkdir()
    assert house.jobs.cancel("acc", job.id).status is JobStatus.CANCELLED
    house.pipeline().sweep()
    assert [path.name for path in (house.folder / "runs").iterdir()] == ["mine"], (
        "what no job made is nobody's to remove"
    )
    with pytest.raises(IllegalState):
        house.jobs.resume("acc", job.id)


async def test_a_pause_does_not_count_as_running_time(house) -> None:
    job = await pause_at_five(house)
    house.clock.time += timedelta(hours=1000)
    resumed = house.jobs.resume("acc", job.id)
    assert house.pipeline().overdue(resumed) is None
    assert resumed.estimated_finish > house.clock.time - timedelta(hours=1)


async def test_the_screening_of_a_pause_may_run_twice(house) -> None:
    job = await pause_at_five(house)
    interrupted = dataclasses.replace(job, status=JobStatus.PAUSING, stage=Stage.PAUSE, paused_at=None, pauses=0)
    with house.store.begin() as tx:
        tx.jobs.save(interrupted, owner=None)
    claimed = house.claim()
    assert claimed is not None
    trainer = house.trainer()
    again = await house.pipeline(trainer).run(claimed, OWNER)
    assert again.status is JobStatus.PAUSED
    assert trainer.runs == []
    assert len(house.event_keys(again)) == len(set(house.event_keys(again)))
    assert again.pauses == 1
