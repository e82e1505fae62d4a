"""A job to which everything happens: its trainer is killed, it is paused and resumed, and it ends well."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from installation import wait_for
from shared_service import Served

JOBS = "/fine_tuning/jobs"
ENDED = {"succeeded", "failed", "cancelled"}


@dataclass(frozen=True)
class Seen:
    """What one surface said of the job while it went on."""

    states: set[str] = field(default_factory=set[str])
    levels: set[str] = field(default_factory=set[str])
    kinds: set[str] = field(default_factory=set[str])


@dataclass(frozen=True)
class Troubled:
    """`paused` is OpenAI's answer to the pause, `resumed` Azure v1's to the resume."""

    azure: Seen
    openai: Seen
    paused: dict[str, Any]
    resumed: dict[str, Any]


@contextmanager
def troubled_job(served: Served) -> Generator[Troubled]:
    """Takes it to its end; its model is deleted when it is no longer looked at."""
    azure, openai = Seen(), Seen()
    fields = {"training_file": served.training_file, "hyperparameters": {"n_epochs": 3, "batch_size": 2}}
    with served.job("openai", **fields) as made:
        job = f"{JOBS}/{made.json()['id']}"
        openai.states.add(made.json()["status"])

        def look_until(check: Callable[[], bool]) -> None:
            def look() -> bool:
                _look(served, "azure-2024-10-21", job, azure)
                _look(served, "openai", job, openai)
                return check()

            wait_for("the job", look, 240)

        look_until(lambda: "metrics" in openai.kinds)
        killed = served.installation.part_with("tailorbird.training", made.json()["id"])
        assert killed is not None
        killed.kill()
        look_until(lambda: "warn" in openai.levels)
        paused = served.ask("POST", "openai", f"{job}/pause")
        assert paused.ok, paused.text
        # Each surface is asked by itself: what one has seen the other may have missed.
        look_until(lambda: "paused" in openai.states & azure.states)
        resumed = served.ask("POST", "azure-v1", f"{job}/resume")
        assert resumed.ok, resumed.text
        look_until(lambda: bool(openai.states & ENDED and azure.states & ENDED))
        name = served.ask("GET", "openai", job).json()["fine_tuned_model"]
        yield Troubled(azure, openai, paused.json(), resumed.json())
    assert served.ask("DELETE", "openai", f"/models/{name}").ok


def _look(served: Served, surface: str, job: str, seen: Seen) -> None:
    seen.states.add(served.ask("GET", surface, job).json()["status"])
    events = served.ask("GET", surface, f"{job}/events", params={"limit": 100}).json()["data"]
    seen.levels.update(event["level"] for event in events)
    seen.kinds.update(event["type"] for event in events)
