"""SIGKILL at any process while a job trains: the job ends as if nothing had happened."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

ASKED = {"n_epochs": 8, "batch_size": 4}
STEPS = 80


def _start_job(one, data: Path) -> str:
    client = one.azure()
    with data.open("rb") as file:
        training = client.files.create(file=file, purpose="fine-tune")
    return client.fine_tuning.jobs.create(
        training_file=training.id,
        validation_file=training.id,
        model="gpt-35-turbo-0613",
        seed=7,
        hyperparameters=ASKED,
    ).id


def _step(one, job: str) -> int:
    """The furthest step in the run folder's event file."""
    try:
        lines = (one.folder / "runs" / job / "events.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return sum('"kind":"step"' in line for line in lines)


def _finish(one, job: str) -> tuple[bytes, list[str], list[int]]:
    """results.csv, event messages and checkpoint steps of the job once it has succeeded."""
    client = one.azure()
    until = time.monotonic() + 240
    row = client.fine_tuning.jobs.retrieve(job)
    while row.status not in ("succeeded", "failed"):
        assert time.monotonic() < until, (row.status, one.log())
        time.sleep(0.2)
        row = client.fine_tuning.jobs.retrieve(job)
    assert row.status == "succeeded", row.error
    assert row.id == job
    assert row.result_files
    events = list(client.fine_tuning.jobs.list_events(job, limit=100))
    assert len({event.id for event in events}) == len(events)
    steps = [c.step_number for c in client.fine_tuning.jobs.checkpoints.list(job)]
    return client.files.content(row.result_files[0]).read(), [event.message for event in events], steps


def test_killing_trainer_worker_and_server_changes_no_loss_and_doubles_no_event(
    installation, small_set: Path, until
) -> None:
    settings = {"TAILORBIRD_SAVE_EVERY": "5", "TAILORBIRD_LEASE_SECONDS": "3"}
    calm = installation(**settings)
    undisturbed = _finish(calm, _start_job(calm, small_set))
    calm.stop()

    one = installation(**settings)
    job = _start_job(one, small_set)

    until("the first steps", lambda: _step(one, job) >= 7)
    trainer = one.part("tailorbird.training")
    assert trainer is not None
    trainer.kill()
    until("another trainer", lambda: (new := one.part("tailorbird.training")) is not None and new.pid != trainer.pid)

    until("more steps", lambda: _step(one, job) >= 25)
    worker, trainer = one.part("worker"), one.part("tailorbird.training")
    assert worker is not None
    assert trainer is not None
    worker.kill()
    psutil.wait_procs([trainer], timeout=10)
    assert not trainer.is_running(), "the trainer outlived its worker"

    until("still more steps", lambda: _step(one, job) >= 45)
    one.kill()
    one.start()

    disturbed = _finish(one, job)
    assert disturbed[0] == undisturbed[0]
    assert disturbed[2] == undisturbed[2] == [80, 70, 60, 50, 40, 30, 20, 10]
    metrics = [[m for m in messages if m.startswith("Step ")] for messages in (disturbed[1], undisturbed[1])]
    assert metrics[0] == metrics[1]
    one.stop()


def test_a_running_job_is_cancelled_and_its_trainer_ends(installation, small_set: Path, until) -> None:
    one = installation()
    job = _start_job(one, small_set)
    until("the first steps", lambda: _step(one, job) >= 3)
    client = one.azure()
    client.fine_tuning.jobs.cancel(job)
    until("the end", lambda: client.fine_tuning.jobs.retrieve(job).status == "cancelled", 30)
    until("the trainer's end", lambda: one.part("tailorbird.training") is None, 15)
    assert client.fine_tuning.jobs.cancel(job).status == "cancelled"
