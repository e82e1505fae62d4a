"""What of a run is work that is paid: each step once, however often it had to be trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tailorbird.domain.pricing import Work
from tailorbird.protocol import training as wire
from tailorbird.service.usage.training import TrainingMeter


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 1, 5, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def after(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


def started(resumed: int = 0) -> wire.Started:
    return wire.Started(10, 5, 10, 100, 1, resumed)


def step(number: int) -> wire.Step:
    return wire.Step(number, 10, 1, 1e-3, 7, wire.Metrics())


def watch(house: Any, job: Any) -> tuple[TrainingMeter, Clock, Callable[[], Work]]:
    clock = Clock()

    def kept() -> Work:
        with house.store.begin() as tx:
            found = tx.work.get(job.id)
        assert found is not None
        return found

    return TrainingMeter(house.store, clock, job), clock, kept


def test_the_time_from_the_models_loading_to_the_last_step_counts(house: Any) -> None:
    meter, clock, kept = watch(house, house.job())
    clock.after(60)  # loading
    meter.take(started())
    for number in (1, 2, 3):
        clock.after(4)
        meter.take(step(number))
    clock.after(60)  # whatever comes after
    meter.keep()
    assert (kept().steps, kept().tokens, kept().seconds) == (3, 21, 12.0)


def test_steps_a_crash_made_necessary_again_are_free(house: Any) -> None:
    job = house.job()
    meter, clock, kept = watch(house, job)
    meter.take(started())
    for number in range(1, 7):
        clock.after(4)
        meter.take(step(number))
    # Killed; the next process goes on from step 2, and tells of nothing before step 7.
    clock.after(100)
    meter.take(started(resumed=2))
    clock.after(20)
    meter.take(step(7))
    meter.keep()
    assert (kept().steps, kept().tokens, kept().seconds) == (7, 49, 28.0)


def test_the_turns_of_other_runs_in_the_process_are_not_paid_for(house: Any) -> None:
    meter, clock, kept = watch(house, house.job())
    meter.take(started())
    for number in (1, 2, 3):
        clock.after(32)  # seven others train beside it
        meter.take(dataclasses.replace(step(number), seconds=4.0))
    meter.keep()
    assert (kept().steps, kept().tokens, kept().seconds) == (3, 21, 12.0)


def test_another_worker_reads_the_history_again_and_pays_nothing_for_it(house: Any) -> None:
    job = house.job()
    meter, clock, _ = watch(house, job)
    meter.take(started())
    for number in range(1, 5):
        clock.after(4)
        meter.take(step(number))
    meter.keep()
    other, clock, kept = watch(house, job)
    clock.after(500)
    for message in (started(), *(step(n) for n in range(1, 6)), started(resumed=5)):
        other.take(message)
    clock.after(4)
    other.take(step(6))
    other.keep()
    # Step 5 was trained before the first worker was killed, but nobody has seen how long it took.
    assert (kept().steps, kept().tokens, kept().seconds) == (6, 42, 20.0)


def test_nothing_is_written_while_nothing_has_changed(house: Any) -> None:
    job = house.job()
    meter, _, _ = watch(house, job)
    meter.take(started())
    meter.keep()
    with house.store.begin() as tx:
        assert tx.work.get(job.id) is None
