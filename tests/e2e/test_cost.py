"""Estimates against the clock, and the command line on what jobs and deployments cost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from installation import EXAMPLES, ROOT, Installation

pytestmark = pytest.mark.slow

MODEL = "gpt-35-turbo-0613"
TABLES = ("restaurants", "dishes", "opening hours", "streets", "districts", "reviews", "tables", "cooks")


def questions(count: int) -> bytes:
    """Questions to a database with their queries: longer answers than bookings have, and a prompt all of them share."""
    rows: list[bytes] = []
    for number in range(count):
        first, second = TABLES[number % 8], TABLES[(number // 8) % 8]
        query = (
            f"SELECT a.name, b.value FROM {first.replace(' ', '_')} AS a, {second.replace(' ', '_')} AS b WHERE "
            f'a.id = b.owner_id AND a.number = {number} AND b.city = "city {number % 13}" ORDER BY a.name ;'
        )
        said = [
            {"role": "system", "content": "You translate questions about a city guide into one SQL query."},
            {"role": "user", "content": f"which {first} of number {number} have {second} in city {number % 13} ?"},
            {"role": "assistant", "content": query},
        ]
        rows.append(json.dumps({"messages": said}).encode())
    return b"\n".join(rows)


def bookings(count: int) -> bytes:
    return b"\n".join((EXAMPLES / "bookings.train.jsonl").read_bytes().splitlines()[:count])


def command(service: Any, *words: str) -> str:
    """What the command line prints, with the environment of `credentials.env`."""
    environment = {**os.environ, **service.credentials, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-m", "tailorbird.cli.main", *words],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Without a moderator: what is measured is training."""
    one = Installation(tmp_path_factory.mktemp("up") / "data", TAILORBIRD_MODERATOR="none")
    one.start()
    yield one
    one.stop()


@pytest.fixture
def upload(service: Any, tmp_path: Path) -> Callable[[bytes], str]:
    def send(data: bytes) -> str:
        client = service.azure()
        made = client.files.create(file=("t.jsonl", data), purpose="fine-tune")
        client.files.wait_for_processing(made.id, poll_interval=0.1, max_wait_seconds=60)
        return made.id

    return send


def train(service: Any, body: dict[str, Any]) -> tuple[float, list[str]]:
    """Seconds from the start of the job to its end, and its events' messages."""
    client = service.azure()
    job = client.fine_tuning.jobs.create(**body)
    end = time.monotonic() + 500
    while job.status not in ("succeeded", "failed"):
        assert time.monotonic() < end
        time.sleep(0.3)
        job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded", job.error
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=100))
    (started,) = [event.created_at for event in events if event.message == "Job started."]
    return job.finished_at - started, [event.message for event in events]


def test_estimates_are_within_a_quarter_of_the_measured_time_on_two_data_sets(
    service: Any, upload: Callable[[bytes], str]
) -> None:
    env = service.credentials
    sets = {"bookings": upload(bookings(240)), "questions": upload(questions(240))}
    errors: dict[str, float] = {}
    for name, epochs in (("bookings", 1), ("questions", 2), ("bookings", 3)):
        parameters = {"n_epochs": epochs, "batch_size": 8}
        body = {"model": MODEL, "training_file": sets[name], "hyperparameters": parameters, "seed": 1}
        answer = requests.post(
            f"{env['AZURE_OPENAI_ENDPOINT']}/tailorbird/v1/fine_tuning/jobs/estimate",
            headers={"api-key": env["AZURE_OPENAI_API_KEY"]},
            json=body,
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
        estimate = answer.json()
        seconds, messages = train(service, body)
        likely = estimate["total_seconds"]["likely"]
        print(f"{name} x {epochs}: estimated {likely:.1f} s, measured {seconds:.1f} s")
        assert messages[0] == f"Training hours billed: {estimate['price']['quantity']}"
        # The first job is the measurement that the others are estimated by.
        if estimate["measured_runs"]:
            errors[name] = likely / seconds - 1
    assert set(errors) == {"bookings", "questions"}
    assert all(abs(error) <= 0.25 for error in errors.values()), errors


def test_the_command_line_tells_what_it_costs(service: Any, upload: Callable[[bytes], str]) -> None:
    lines = command(service, "jobs", "estimate", upload(bookings(40)), "--n-epochs", "1").splitlines()
    assert [line.split()[0] for line in lines] == ["tokens", "steps", "time", "price"]
    assert "(25.50 to 25.50)" in lines[-1]
    assert "of 500.00 USD this month; then: stop jobs" in command(service, "budget", "set", "500.00")
    found = json.loads(command(service, "usage", "--by", "model", "-o", "json"))
    assert found["budgets"][0]["amount"] == "500.00"
    assert command(service, "usage", "-o", "csv").startswith("day,meter,quantity,unit,unit_price,amount,currency\n")
    assert "budget of" in command(service, "usage", "--by", "account")
    command(service, "budget", "remove")
