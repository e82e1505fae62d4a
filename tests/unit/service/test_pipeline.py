"""A job walks through its stages, each of which may run twice, or ends where it cannot go on."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import pytest

from tailorbird.domain.jobs import EventKind, Hyperparameters, JobStatus, Stage
from tailorbird.service.ports import LeaseLost

OWNER = "worker-1"


async def test_a_job_walks_through_all_stages_and_leaves_model_checkpoints_and_results(house) -> None:
    job = await house.pipeline().run(house.job(suffix="mine"), OWNER)
    assert (job.status, job.stage) == (JobStatus.SUCCEEDED, Stage.DONE)
    assert job.fine_tuned_model == f"gpt-35-turbo-0613.ft-{job.id.removeprefix('ftjob-')}-mine"
    assert job.trained_tokens == 4000
    assert house.row(job) == dataclasses.replace(job, attempts=1)
    with house.store.begin() as tx:
        checkpoints = tx.jobs.checkpoints(job.id, after=None, limit=10).items
        model = tx.models.find("acc", job.fine_tuned_model or "")
        results = tx.files.get("acc", job.result_file or "")
    assert [(c.step, c.final, c.deployable) for c in checkpoints] == [
        (40, True, True),
        (30, False, True),
        (20, False, True),
        (10, False, False),
    ]
    assert model is not None
    assert model.checkpoint_id == checkpoints[0].id
    assert results is not None
    assert b"".join(house.blobs.read(results.blob_key)) == b"step\n1\n"
    facts = json.loads(b"".join(house.blobs.read(f"{checkpoints[0].adapter_key}/tailorbird.json")))
    assert facts["template_hash"] == job.template_hash == model.template_hash


async def test_events_are_written_once_each_and_in_order(house) -> None:
    job = await house.pipeline().run(house.job(), OWNER)
    keys = house.event_keys(job)
    assert len(keys) == len(set(keys))
    assert keys[:5] == ["created", "validating", "validated", "started", "step-1"]
    assert keys[-5:] == ["succeeded", "model_ready", "model_screened", "results", "billed"]


async def test_every_stage_may_run_twice(house) -> None:
    job = house.job()
    stages = [stage for stage in Stage if stage is not Stage.DONE]
    pipeline = house.pipeline()
    for stage in stages:
        steps = {
            Stage.VALIDATE: pipeline._validate,
            Stage.SCREEN_DATA: pipeline._screen_data,
            Stage.TRAIN: lambda job, owner: pipeline._train(job, owner, asyncio.Event()),
            Stage.PROVE: pipeline._prove,
            Stage.SCREEN_MODEL: pipeline._screen_model,
        }
        if stage in steps:
            first = await steps[stage](job, OWNER)
            again = await steps[stage](job, OWNER)
            assert first.stage == again.stage
            job = again
    ended = await pipeline.run(job, OWNER)
    assert ended.status is JobStatus.SUCCEEDED
    keys = house.event_keys(ended)
    assert len(keys) == len(set(keys))


async def test_a_trainer_that_crashes_is_started_again_and_the_story_has_no_doubles(house) -> None:
    trainer = house.trainer(crashes=[7, 25])
    job = await house.pipeline(trainer).run(house.job(), OWNER)
    assert job.status is JobStatus.SUCCEEDED
    assert len(trainer.runs) == 3
    keys = house.event_keys(job)
    assert len(keys) == len(set(keys))
    assert {"resumed-6", "resumed-24"} <= set(keys)


async def test_a_trainer_that_keeps_crashing_at_one_step_fails_the_job(house) -> None:
    trainer = house.trainer(crashes=[7] * 9)
    job = await house.pipeline(trainer).run(house.job(), OWNER)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert "step 6" in job.error.message
    assert len(trainer.runs) == 3


async def test_an_adapter_the_engine_reads_differently_fails_the_proof(house) -> None:
    job = await house.pipeline(engine=house.engine(error=0.5)).run(house.job(), OWNER)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.code == "adapterProofFailed"
    assert "0.5000 nats" in job.error.message
    with house.store.begin() as tx:
        assert tx.models.list("acc") == []


async def test_an_engine_that_restarts_is_waited_for(house) -> None:
    job = await house.pipeline(engine=house.engine(outages=1)).run(house.job(), OWNER)
    assert job.status is JobStatus.SUCCEEDED


async def test_harmful_data_fails_the_job_before_training_with_azures_words(house, rows) -> None:
    trainer = house.trainer()
    job = await house.pipeline(trainer).run(house.job(rows(12, "forbidden words")), OWNER)
    assert job.error is not None
    assert job.error.message == (
        "The provided training data failed RAI checks for harm types: [violence]. Please fix the data and try again."
    )
    assert trainer.runs == []


async def test_bad_lines_fail_the_job_with_their_numbers(house, rows) -> None:
    lines = rows(12)
    lines[3] = '{"messages": []}'
    lines[7] = "{broken"
    job = await house.pipeline().run(house.job(lines), OWNER)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.param == "training_file"
    assert "Line 4" in job.error.message
    assert "Line 8" in job.error.message


async def test_too_few_lines_fail_with_openais_code_and_text(house, rows) -> None:
    job = await house.pipeline().run(house.job(rows(7)), OWNER)
    assert job.error is not None
    assert job.error.code == "invalid_n_examples"
    assert job.error.message == "Training file has 7 example(s), but must have at least 10 examples"


async def test_a_line_longer_than_the_model_fails_the_job_naming_it(house, rows) -> None:
    lines = rows(12)
    lines[5] = rows(1, "0123456789 " * 300)[0]
    job = await house.pipeline().run(house.job(lines), OWNER)
    assert job.error is not None
    assert job.error.message.startswith("Line 6: ")
    assert "at most 1024" in job.error.message


async def test_auto_is_resolved_into_the_job_and_the_plan(house) -> None:
    trainer = house.trainer()
    asked = Hyperparameters(None, None, 0.5)
    job = await house.pipeline(trainer).run(house.job(asked=asked), OWNER)
    base = house.catalogue.base("weaver")
    assert job.resolved is not None
    assert job.resolved.batch_size == min(12, base.auto.min_batch_size)
    assert trainer.plans[0].batch_size == job.resolved.batch_size
    assert trainer.plans[0].n_epochs == job.resolved.n_epochs == base.auto.max_epochs
    assert trainer.plans[0].learning_rate == pytest.approx(base.learning_rate * 0.5)


async def test_stopping_the_task_stops_the_trainer_and_leaves_the_job_where_it_stood(house) -> None:
    trainer = house.trainer(hang=True)
    job = house.job()
    task = asyncio.create_task(house.pipeline(trainer).run(job, OWNER))
    while not trainer.runs or "step-1" not in house.event_keys(job):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert trainer.runs[0].stopped
    row = house.row(job)
    assert (row.status, row.stage) == (JobStatus.RUNNING, Stage.TRAIN)
    ended = await house.pipeline().run(row, OWNER)
    assert ended.status is JobStatus.SUCCEEDED


async def test_a_worker_that_lost_its_lease_changes_nothing(house) -> None:
    job = house.job()
    house.leases.release(job.id, OWNER)
    assert house.leases.claim("worker-2", house.clock.now(), 600, 9) is not None
    with pytest.raises(LeaseLost):
        await house.pipeline().run(job, OWNER)
    assert house.row(job).stage is Stage.VALIDATE


async def test_a_cancelled_job_keeps_its_checkpoints_and_says_so(house) -> None:
    job = house.job()
    pipeline = house.pipeline()
    ended = pipeline.cancel(job, OWNER)
    assert ended.status is JobStatus.CANCELLED
    assert house.event_keys(job)[-1] == EventKind.CANCELLED
    assert pipeline.cancel(ended, OWNER) == house.row(job)
