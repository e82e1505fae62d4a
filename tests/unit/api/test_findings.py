"""Findings over HTTP: where harm was found in a job's data, for those who may read the job."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tailorbird.domain import ids
from tailorbird.domain.access import Account
from tailorbird.domain.files import File, FileStatus, Purpose
from tailorbird.domain.jobs import Hyperparameters, Job, JobStatus, Stage

ROWS: list[dict[str, object]] = [
    {"file": "training_file", "line": n, "role": "user", "index": 0, "category": "violence", "severity": "medium"}
    for n in (3, 17, 200)
]


def refused(world: Any, account: Account, rows: list[dict[str, object]] | None) -> str:
    """A failed job with these findings, or with none."""
    job_id, now = ids.job_id(uuid.uuid4().hex), datetime.now(UTC)
    file_id = ids.findings_file_id(job_id)
    job = Job(
        job_id, account.id, JobStatus.FAILED, Stage.DONE, "gpt-4o-mini-2024-07-18", "tiny", "file-1", 1,
        Hyperparameters(), now, now, result_file=None if rows is None else file_id,
    )  # fmt: skip
    data = "".join(json.dumps(row) + "\n" for row in rows or []).encode()
    world.blobs.put(f"findings/{file_id}", [data])
    file = File(
        file_id, account.id, "findings.jsonl", Purpose.FINE_TUNE_RESULTS, len(data), FileStatus.PROCESSED, now,
        f"findings/{file_id}",
    )  # fmt: skip
    with world.store.begin() as tx:
        tx.jobs.add(job)
        tx.files.add(file)
    return job_id


@pytest.fixture
def ask(http: httpx.Client, account: Account) -> Any:
    def call(job: str, query: str = "", key: str = account.key1) -> httpx.Response:
        return http.get(f"/tailorbird/v1/fine_tuning/jobs/{job}/findings{query}", headers={"api-key": key})

    return call


def test_findings_are_listed_page_by_page(ask: Any, world: Any, account: Account) -> None:
    job = refused(world, account, ROWS)
    first = ask(job, "?limit=2").json()
    assert (first["object"], first["has_more"], first["last_id"]) == ("list", True, "finding-2")
    second = ask(job, "?limit=2&after=finding-2").json()
    assert (second["has_more"], second["first_id"]) == (False, "finding-3")
    assert [{name: row[name] for name in ROWS[0]} for row in first["data"] + second["data"]] == ROWS
    assert {row["object"] for row in first["data"]} == {"fine_tuning.job.finding"}


def test_a_job_whose_data_was_not_refused_has_none(ask: Any, world: Any, account: Account) -> None:
    assert ask(refused(world, account, None)).json()["data"] == []


def test_who_may_not_read_the_job_learns_nothing(ask: Any, world: Any, account: Account) -> None:
    job = refused(world, account, ROWS)
    assert ask(job, key=world.new_account().key1).status_code == 404
    assert ask(job, key="wrong").status_code == 401


@pytest.mark.parametrize("after", ["finding-", "x", "finding--1"])
def test_an_id_that_is_none_is_refused_by_name(ask: Any, world: Any, account: Account, after: str) -> None:
    answer = ask(refused(world, account, ROWS), f"?after={after}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "after")
