"""Estimates against the clock, and the command line on what jobs and deployments cost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from installation import EXAMPLES, ROOT, Installation

from tailorbird.domain.safety import Severity
from tailorbird.infra.moderation.builtin import Classifier

pytestmark = pytest.mark.slow

MODEL = "gpt-35-turbo-0613"
SHARED = ROOT.parent / "shared" / "data" / "restaurants.train.jsonl"


def bookings(count: int) -> bytes:
    return b"\n".join((EXAMPLES / "bookings.train.jsonl").read_bytes().splitlines()[:count])


def harmless(data: bytes) -> bytes:
    """Without lines the built-in moderator takes for harmful: one of them would end the job, and this is about time."""
    classifier = Classifier.load(ROOT / "src" / "tailorbird" / "moderation" / "classifier.npz")
    lines = [line for line in data.splitlines() if line.strip()]
    said = [[str(message["content"]) for message in json.loads(line)["messages"]] for line in lines]
    found = [classifier.classify(texts) for texts in said]
    medium = Severity.MEDIUM
    return b"\n".join(
        line for line, scores in zip(lines, found, strict=True) if all(max(s.values()) < medium for s in scores)
    )


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
    """With a moderator, whose work is a part of a job's time."""
    one = Installation(tmp_path_factory.mktemp("up") / "data", TAILORBIRD_MODERATOR="builtin")
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


@dataclass(frozen=True)
class Measured:
    name: str
    estimate: dict[str, Any]
    seconds: float

    @property
    def ratio(self) -> float:
        return self.estimate["total_seconds"]["likely"] / self.seconds

    @property
    def in_range(self) -> bool:
        told = self.estimate["total_seconds"]
        return bool(told["low"] <= self.seconds <= told["high"])


def train(service: Any, body: dict[str, Any]) -> tuple[float, str]:
    """Seconds from the job's creation, on a service that has nothing else to do, to its end; and its last event."""
    client = service.azure()
    began = time.monotonic()
    job = client.fine_tuning.jobs.create(**body)
    while job.status not in ("succeeded", "failed"):
        assert time.monotonic() < began + 900
        time.sleep(0.1)
        job = client.fine_tuning.jobs.retrieve(job.id)
    seconds = time.monotonic() - began
    assert job.status == "succeeded", job.error
    return seconds, next(iter(client.fine_tuning.jobs.list_events(job.id, limit=1))).message


def estimated(service: Any, body: dict[str, Any]) -> dict[str, Any]:
    env = service.credentials
    answer = requests.post(
        f"{env['AZURE_OPENAI_ENDPOINT']}/tailorbird/v1/fine_tuning/jobs/estimate",
        headers={"api-key": env["AZURE_OPENAI_API_KEY"]},
        json=body,
        timeout=180,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def show(found: list[Measured]) -> None:
    print(f"\n{'job':28} {'from':14} {'estimate':>9} {'range':>15} {'measured':>9} {'ratio':>6}")
    for one in found:
        told, runs = one.estimate["total_seconds"], one.estimate["measured_runs"]
        source = f"{one.estimate['times_from']}{f' ({runs})' if runs else ''}"
        span = f"{told['low']:.0f} to {told['high']:.0f} s"
        print(f"{one.name:28} {source:14} {told['likely']:7.1f} s {span:>15} {one.seconds:7.1f} s {one.ratio:6.2f}")


def test_estimates_are_within_a_quarter_of_the_measured_time_on_two_data_sets(
    service: Any, upload: Callable[[bytes], str]
) -> None:
    if not SHARED.exists():
        pytest.skip(f"the second data set is not here: {SHARED}")
    sets = {"bookings": upload(harmless(bookings(400))), "restaurants": upload(harmless(SHARED.read_bytes()))}
    found: list[Measured] = []
    # Between the first jobs and the last ones epochs and batch sizes change as well as the data.
    plans = (("bookings", 1, 8), ("restaurants", 1, 8), ("bookings", 3, 4), ("restaurants", 3, 16))
    for name, epochs, batch in plans:
        body = {
            "model": MODEL,
            "training_file": sets[name],
            "hyperparameters": {"n_epochs": epochs, "batch_size": batch},
            "seed": 1,
        }
        estimate = estimated(service, body)
        assert estimate["tokens_are_exact"]
        seconds, receipt = train(service, body)
        assert receipt == f"Training hours billed: {estimate['price']['quantity']}"
        found.append(Measured(f"{name} x {epochs}, batch {batch}", estimate, seconds))
    show(found)
    assert [one.estimate["times_from"] for one in found] == ["calibration", "jobs", "jobs", "jobs"]
    assert found[0].in_range, "before the first job the range holds"
    assert all(abs(one.ratio - 1) <= 0.25 for one in found[2:]), [one.ratio for one in found]


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
