"""SIGKILL at the worker inside either screen: the job goes on, and nothing is told or charged twice."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import requests
from installation import Installation, small_rows
from moderation_endpoint import ModerationEndpoint

FORBIDDEN = "forbidden"


@pytest.fixture
def endpoint() -> Iterator[ModerationEndpoint]:
    """Finds violence where a text says "forbidden"."""
    made = ModerationEndpoint(lambda texts: [{"violence": 0.9 if FORBIDDEN in text else 0.0} for text in texts])
    with made.running():
        yield made


def create(one: Installation, data: bytes) -> str:
    client = one.azure()
    file = client.files.create(file=("t.jsonl", data), purpose="fine-tune")
    client.files.wait_for_processing(file.id, poll_interval=0.1, max_wait_seconds=60)
    asked: Any = {"n_epochs": 2, "batch_size": 8}
    model = "gpt-35-turbo-0613"
    return client.fine_tuning.jobs.create(training_file=file.id, model=model, seed=3, hyperparameters=asked).id


def stage_of(one: Installation, job: str) -> str:
    with closing(sqlite3.connect(one.folder / "tailorbird.db")) as database:
        return str(database.execute("SELECT stage FROM jobs WHERE id = ?", (job,)).fetchone()[0])


def kill_worker_in(
    one: Installation, endpoint: ModerationEndpoint, job: str, stage: str, until: Callable[..., None]
) -> None:
    """Waits until the worker has asked the closed endpoint in this stage, and kills it before it is answered."""
    before = endpoint.asked
    until(f"a question in {stage}", lambda: endpoint.asked > before, 240)
    assert stage_of(one, job) == stage
    worker = one.part("worker")
    assert worker is not None
    worker.kill()
    asked = endpoint.asked
    until("another worker's question", lambda: endpoint.asked > asked, 120)
    assert stage_of(one, job) == stage, "the next worker goes on where the killed one stood"
    endpoint.open.set()


def end(one: Installation, job: str, until: Callable[..., None]) -> Any:
    client = one.azure()
    until("the end", lambda: client.fine_tuning.jobs.retrieve(job).status in ("succeeded", "failed"), 240)
    return client.fine_tuning.jobs.retrieve(job)


def messages(one: Installation, job: str) -> Counter[str]:
    return Counter(event.message for event in one.azure().fine_tuning.jobs.list_events(job, limit=100))


def charges(one: Installation) -> list[dict[str, Any]]:
    env = one.credentials
    answer = requests.get(
        f"{env['AZURE_OPENAI_ENDPOINT']}/tailorbird/v1/usage/charges",
        headers={"api-key": env["AZURE_OPENAI_API_KEY"]},
        timeout=60,
    )
    return answer.json()["data"]


def results(one: Installation, name: str) -> int:
    return sum(file.filename == name for file in one.azure().files.list())


def test_a_worker_killed_while_it_screens_harmful_data_fails_the_job_once_and_free(
    installation, endpoint: ModerationEndpoint, until
) -> None:
    one = installation(TAILORBIRD_MODERATOR=f"openai:{endpoint.url}", TAILORBIRD_LEASE_SECONDS="2")
    rows = small_rows(40).splitlines()
    said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": FORBIDDEN}]
    rows[20] = json.dumps({"messages": said}).encode()
    endpoint.open.clear()
    job = create(one, b"\n".join(rows))
    kill_worker_in(one, endpoint, job, "screen_data", until)
    failed = end(one, job, until)
    assert failed.status == "failed"
    assert "[violence]" in failed.error.message
    assert set(messages(one, job).values()) == {1}
    assert charges(one) == []
    found = one.azure().files.content(failed.result_files[0]).read().decode().splitlines()
    assert [(json.loads(line)["line"], json.loads(line)["category"]) for line in found] == [(21, "violence")]
    assert results(one, "findings.jsonl") == 1


@pytest.mark.slow
def test_workers_killed_in_both_screens_leave_a_job_that_succeeds_with_each_event_and_charge_once(
    installation, endpoint: ModerationEndpoint, until
) -> None:
    one = installation(TAILORBIRD_MODERATOR=f"openai:{endpoint.url}", TAILORBIRD_LEASE_SECONDS="2")
    calm = end(one, create(one, small_rows(40)), until)
    endpoint.open.clear()
    job = create(one, small_rows(40))
    kill_worker_in(one, endpoint, job, "screen_data", until)
    until("training", lambda: stage_of(one, job) == "train", 120)
    endpoint.open.clear()
    kill_worker_in(one, endpoint, job, "screen_model", until)
    done = end(one, job, until)
    assert (calm.status, done.status) == ("succeeded", "succeeded"), done.error
    told, calmly = messages(one, job), messages(one, calm.id)
    # Both say the same, but for their own names.
    assert [len(told), *told.values()] == [len(calmly), *[1] * len(told)]
    client = one.azure()
    assert client.files.content(done.result_files[0]).read() == client.files.content(calm.result_files[0]).read()
    assert Counter(charge["job"] for charge in charges(one)) == {calm.id: 1, job: 1}
