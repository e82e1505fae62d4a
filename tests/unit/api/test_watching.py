"""`/tailorbird/v1/fine_tuning/jobs/{id}/progress`, `/checkpoints` and `/lineage`: what a page of one job lives on."""

from __future__ import annotations

import dataclasses
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tailorbird.domain.access import Account
from tailorbird.domain.jobs import Checkpoint, EventKind, Hyperparameters, Job, JobStatus, Stage
from tailorbird.service.jobs import event

AT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
OWN = "/tailorbird/v1/fine_tuning/jobs"


@pytest.fixture
def job(world: Any, account: Account) -> Job:
    """One that runs: 40 steps, told of the first and the tenth, with one checkpoint that cannot be deployed yet."""
    made = Job(
        f"ftjob-{uuid.uuid4().hex}", account.id, JobStatus.RUNNING, Stage.TRAIN, "gpt-35-turbo-0613", "tiny", "file-1",
        1, Hyperparameters(), AT, AT, resolved=Hyperparameters(2, 5, 1.0), examples=100, epoch_tokens=1000,
        started_at=AT, trained_steps=10,
    )  # fmt: skip
    before = [{"step": step, "train_loss": 3.0} for step in range(2, 10)]
    with world.store.begin() as tx:
        tx.jobs.add(made)
        tx.jobs.append_event(event(made, "started", EventKind.STARTED, AT))
        told: tuple[dict[str, Any], ...] = (
            {"step": 1, "total_steps": 40, "train_loss": 4.0},
            {"step": 10, "total_steps": 40, "train_loss": 2.0, "before": before},
        )
        for data in told:
            tx.jobs.append_event(event(made, f"step-{data['step']}", EventKind.METRICS, AT, data))
        tx.jobs.add_checkpoint(checkpoint(made, 10))
    return made


def checkpoint(job: Job, step: int) -> Checkpoint:
    code = uuid.uuid4().hex
    return Checkpoint(f"ftchkpt-{code}", job.id, job.account_id, step, f"m.ft-{code}", f"ft:m:{code}", "k", AT)


def ask(http: httpx.Client, account: Account, path: str, **params: Any) -> Any:
    answer = http.get(OWN + path, headers={"api-key": account.key1}, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_progress_has_every_step_and_then_only_what_is_new(http: httpx.Client, account: Account, job: Job) -> None:
    told = ask(http, account, f"/{job.id}/progress")
    assert (told["object"], told["status"], told["stage"]) == ("fine_tuning.job.progress", "running", "train")
    assert (told["step"], told["total_steps"], told["queue_position"]) == (10, 40, None)
    assert [point["step"] for point in told["points"]] == list(range(1, 11))
    assert told["points"][1] == {"step": 2, "train_loss": 3.0}
    assert told["has_more"] is False
    again = ask(http, account, f"/{job.id}/progress", after=told["after"])
    assert (again["points"], again["after"]) == ([], told["after"])


def test_the_steps_between_stay_out_of_the_vendors_events(http: httpx.Client, account: Account, job: Job) -> None:
    for prefix in ("/openai/v1", "/v1"):
        answer = http.get(f"{prefix}/fine_tuning/jobs/{job.id}/events", headers={"api-key": account.key1})
        newest = answer.json()["data"][0]
        assert "before" not in newest["data"]
        assert newest["data"]["train_loss"] == 2.0


def test_a_checkpoint_says_whether_it_can_be_deployed(
    http: httpx.Client, world: Any, account: Account, job: Job
) -> None:
    [one] = ask(http, account, f"/{job.id}/checkpoints")["data"]
    assert (one["step_number"], one["deployable"], one["final"], one["at_pause"]) == (10, False, False, False)
    newer = dataclasses.replace(checkpoint(job, 20), deployable=True, final=True)
    with world.store.begin() as tx:
        tx.jobs.add_checkpoint(newer)
    first = ask(http, account, f"/{job.id}/checkpoints", limit=1)
    assert first["has_more"] is True
    assert (first["data"][0]["id"], first["data"][0]["deployable"], first["data"][0]["final"]) == (newer.id, True, True)
    [rest] = ask(http, account, f"/{job.id}/checkpoints", after=newer.id)["data"]
    assert rest == one


def test_lineage_names_the_checkpoint_before_and_the_jobs_after(
    http: httpx.Client, world: Any, account: Account, job: Job
) -> None:
    start = checkpoint(job, 20)
    next_job = dataclasses.replace(job, id=f"ftjob-{uuid.uuid4().hex}", start_checkpoint=start.id)
    with world.store.begin() as tx:
        tx.jobs.add_checkpoint(start)
        tx.jobs.add(next_job)
    assert ask(http, account, f"/{job.id}/lineage")["continued_from"] is None
    [after] = ask(http, account, f"/{job.id}/lineage")["continued_by"]
    assert (after["job"], after["status"]) == (next_job.id, "running")
    before = ask(http, account, f"/{next_job.id}/lineage")["continued_from"]
    assert before == {"job": job.id, "checkpoint": start.id, "model": start.name, "step_number": 20}


@pytest.mark.parametrize("what", ["progress", "checkpoints", "lineage"])
def test_what_is_not_there_is_not_found(http: httpx.Client, account: Account, what: str) -> None:
    answer = http.get(f"{OWN}/ftjob-unknown/{what}", headers={"api-key": account.key1})
    assert answer.status_code == 404
    assert "ftjob-unknown" in answer.json()["error"]["message"]
