"""Jobs of one base share a trainer: one ends, one is cancelled, the process is killed, and each goes its own way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil
import pytest
from installation import EXAMPLES


def _create(one, data: Path, **asked: Any) -> str:
    client = one.azure()
    with data.open("rb") as file:
        training = client.files.create(file=file, purpose="fine-tune")
    asked = {"batch_size": 4} | asked
    return client.fine_tuning.jobs.create(
        training_file=training.id, model="gpt-35-turbo-0613", seed=7, hyperparameters=asked
    ).id


def _losses(one, job: str) -> list[float]:
    """Of every step in the run folder's event file."""
    try:
        text = (one.folder / "runs" / job / "events.jsonl").read_text()
    except FileNotFoundError:
        return []
    events = [json.loads(line) for line in text.rpartition("\n")[0].splitlines()]
    return [event["metrics"]["train_loss"] for event in events if event["kind"] == "step"]


def _trainers(one) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in one.family():
        try:
            if "tailorbird.training" in process.cmdline():
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def _have_trained(one, jobs: list[str], steps: int) -> bool:
    for job in jobs:
        row = one.azure().fine_tuning.jobs.retrieve(job)
        assert row.status != "failed", (row.error, one.log())
    return min(len(_losses(one, job)) for job in jobs) >= steps


def _status(one, job: str) -> str:
    return one.azure().fine_tuning.jobs.retrieve(job).status


@pytest.mark.slow
def test_jobs_of_one_base_train_in_one_process_and_end_each_on_its_own(installation, small_set: Path, until) -> None:
    one = installation(TAILORBIRD_JOBS_TOGETHER="3")
    endless = EXAMPLES / "bookings.train.jsonl"  # thousands of steps: no machine is through before the test is
    cancelled, long = (_create(one, endless, n_epochs=50, batch_size=1) for _ in range(2))
    until("steps of both", lambda: _have_trained(one, [cancelled, long], 3), 300)
    (trainer,) = _trainers(one)
    common = min(len(_losses(one, cancelled)), len(_losses(one, long)))
    assert _losses(one, cancelled)[:common] == _losses(one, long)[:common]

    one.azure().fine_tuning.jobs.cancel(cancelled)
    until("the cancellation", lambda: _status(one, cancelled) == "cancelled", 300)
    short = _create(one, small_set, n_epochs=1)
    until("the short one's end", lambda: _status(one, short) in ("succeeded", "failed"), 600)
    assert _status(one, short) == "succeeded"
    assert _status(one, long) == "running"
    assert [process.pid for process in _trainers(one)] == [trainer.pid]

    one.azure().fine_tuning.jobs.cancel(long)
    until("the trainer's end", lambda: not _trainers(one), 300)
    one.stop()


@pytest.mark.slow
def test_a_killed_group_goes_on_to_the_numbers_of_a_job_alone(installation, small_set: Path, until) -> None:
    one = installation(TAILORBIRD_JOBS_TOGETHER="3", TAILORBIRD_SAVE_EVERY="5")

    def results(job: str) -> bytes:
        until("the end", lambda: _status(one, job) in ("succeeded", "failed"), 600)
        row = one.azure().fine_tuning.jobs.retrieve(job)
        assert row.status == "succeeded", row.error
        return one.azure().files.content(row.result_files[0]).read()

    alone = results(_create(one, small_set, n_epochs=8))
    jobs = [_create(one, small_set, n_epochs=8) for _ in range(3)]
    until("steps of all", lambda: _have_trained(one, jobs, 7), 300)
    for trainer in _trainers(one):
        trainer.kill()
    assert [results(job) for job in jobs] == [alone] * 3
    one.stop()
