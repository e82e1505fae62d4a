"""Every step reaches the trackers a job names, once, with the account's key."""

from __future__ import annotations

import asyncio

import pytest

from tailorbird.domain.jobs import JobStatus, WandbIntegration
from tailorbird.service.tracking import WANDB_KEY

OWNER = "worker-1"
WANDB = WandbIntegration("project", "name", "team", ("a", "b"))


async def test_every_step_is_logged_once_even_when_the_trainer_crashed_between(house, tracker) -> None:
    job = house.job(integrations=(WANDB,))
    with house.store.begin() as tx:
        tx.account_settings.put("acc", WANDB_KEY, "secret")
    ended = await house.pipeline(house.trainer(crashes=[7, 25]), tracker=tracker).run(job, OWNER)
    assert ended.status is JobStatus.SUCCEEDED
    assert tracker.started == [(job.id, WANDB, "secret")]
    assert [step for step, _ in tracker.steps] == list(range(1, 41))
    assert tracker.steps[9][1] == {"train_loss": 0.1, "train_mean_token_accuracy": 0.5, "full_valid_loss": 0.25}
    assert tracker.ends == [False]


async def test_an_account_without_a_key_and_a_job_without_integration_are_told_apart(house, tracker) -> None:
    await house.pipeline(tracker=tracker).run(house.job(), OWNER)
    assert tracker.started == []
    await house.pipeline(tracker=tracker).run(house.job(integrations=(WANDB, WANDB)), OWNER)
    (first, _, key), (second, _, other_key) = tracker.started
    assert first.startswith("ftjob-")
    assert (second, key, other_key) == (f"{first}-2", None, None)


async def test_a_failed_run_is_closed_as_failed_and_a_stopped_one_is_not(house, tracker) -> None:
    await house.pipeline(house.trainer(crashes=[7] * 9), tracker=tracker).run(house.job(integrations=(WANDB,)), OWNER)
    assert tracker.ends == [True]
    trainer = house.trainer(hang=True)
    job = house.job(integrations=(WANDB,))
    task = asyncio.create_task(house.pipeline(trainer, tracker=tracker).run(job, OWNER))
    await house.until(lambda: trainer.runs and trainer.runs[0].reached == 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tracker.ends == [True, False]
