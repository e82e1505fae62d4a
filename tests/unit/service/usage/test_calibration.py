"""How fast a base trains is measured on made-up text, by the trainer itself, and put down when it cannot be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tailorbird.dataset.records import CompletionExample
from tailorbird.domain.pricing import Calibration
from tailorbird.protocol import training as wire
from tailorbird.protocol.training import TrainPlan
from tailorbird.service.ports import TrainerCrashed
from tailorbird.service.runs import TrainerOptions
from tailorbird.service.usage.calibration import Calibrator

TOKEN, STEP, START, LEAVE = 0.002, 0.05, 3.0, 1.0
STEP_EVENT = wire.Metrics(1.0, 0.5)


class PacedRun:
    """Steps take TOKEN a token and STEP a step; every 0.1 s the trainer's events are looked at."""

    def __init__(self, house: Any, plan: TrainPlan, fault: str) -> None:
        rows = [json.loads(line) for line in Path(plan.training_file).read_text().splitlines()]
        renderer = house.catalogue.renderer("weaver")
        self.lengths = [len(renderer.render_example(CompletionExample(**row)).token_ids) for row in rows]
        self.batch = plan.batch_size
        self._clock = house.clock
        self._fault = fault
        self.ended: list[str] = []

    async def events(self) -> AsyncIterator[wire.TrainEvent]:
        self._pass(START)
        if self._fault == "crash":
            raise TrainerCrashed(-9, "Killed")
        yield wire.Started(9, 9, 9, 9, 9)
        if self._fault == "hang":
            await asyncio.Event().wait()
        passed, looked = 0.0, 0.0
        for number in range(10_000):
            first = number * self.batch % len(self.lengths)
            tokens = sum(self.lengths[first : first + self.batch])
            passed += TOKEN * tokens + STEP
            if passed - looked >= 0.1:
                self._pass(passed - looked)
                looked = passed
            yield wire.Step(number + 1, 10_000, 1, 1e-3, tokens, STEP_EVENT)

    async def stop(self, patience: float | None = None) -> None:
        self._pass(LEAVE)
        self.ended.append("stopped")

    async def kill(self) -> None:
        self.ended.append("gone")

    async def stepped(self) -> None:
        raise AssertionError("nobody pauses a calibration")

    def _pass(self, seconds: float) -> None:
        self._clock.time += timedelta(seconds=seconds)


class PacedTrainer:
    def __init__(self, house: Any, fault: str = "") -> None:
        self._house = house
        self._fault = fault
        self.plans: list[TrainPlan] = []
        self.runs: list[PacedRun] = []

    async def start(self, plan: TrainPlan) -> PacedRun:
        self.plans.append(plan)
        self.runs.append(PacedRun(self._house, plan, self._fault))
        return self.runs[-1]


class StandingClock:
    """Time passes only where the trainer says so."""

    def __init__(self, inner: Any) -> None:
        self.time = inner.time

    def now(self) -> Any:
        return self.time


@pytest.fixture
def measure(house: Any) -> Callable[[PacedTrainer], Calibrator]:
    house.clock = StandingClock(house.clock)
    options = TrainerOptions(20, 1, "float32")
    folder = house.folder / "runs"
    return lambda trainer: Calibrator(house.store, trainer, house.catalogue, house.clock, folder, options, "here")


def ask(house: Any) -> None:
    with house.store.begin() as tx:
        tx.calibrations.ask("weaver")


def kept(house: Any) -> Calibration:
    with house.store.begin() as tx:
        found = tx.calibrations.get("weaver")
    assert found is not None
    return found


async def test_seconds_of_a_token_and_of_a_step_are_found_and_nothing_is_left_behind(house: Any, measure: Any) -> None:
    trainer = PacedTrainer(house)
    await measure(trainer).run()
    assert trainer.plans == [], "nobody asked"
    ask(house)
    await measure(trainer).run()
    found = kept(house)
    # Half of the tokens are predicted, which counts for a bit more.
    assert found.token_seconds == pytest.approx(TOKEN / 1.18, rel=0.1)
    assert found.step_seconds == pytest.approx(STEP, rel=0.25)
    assert found.beside_seconds == pytest.approx(START + LEAVE)
    assert (found.machine, found.measured_at) == ("here", house.clock.now())
    assert [run.ended for run in trainer.runs] == [["stopped", "gone"]] * 2
    assert [plan.batch_size for plan in trainer.plans] == [1, 8]
    assert not list((house.folder / "runs").iterdir())
    await measure(trainer).run()
    assert len(trainer.plans) == 2, "it is measured once"


async def test_the_texts_are_as_long_as_they_should_be_and_begin_differently(house: Any, measure: Any) -> None:
    trainer = PacedTrainer(house)
    ask(house)
    await measure(trainer).run()
    short, long = (run.lengths for run in trainer.runs)
    assert len(short) == len(long) == 512
    assert sum(short) / 512 == pytest.approx(48, rel=0.2)
    assert sum(long) / 512 == pytest.approx(192, rel=0.2)


async def test_a_base_whose_trainer_crashes_is_told_and_not_tried_again(house: Any, measure: Any) -> None:
    trainer = PacedTrainer(house, "crash")
    ask(house)
    await measure(trainer).run()
    assert kept(house).token_seconds == 0
    assert kept(house).measured_at is not None
    await measure(trainer).run()
    assert len(trainer.plans) == 1


async def test_a_measurement_that_is_put_down_ends_its_trainer_and_is_made_later(house: Any, measure: Any) -> None:
    trainer = PacedTrainer(house, "hang")
    ask(house)
    task = asyncio.create_task(measure(trainer).run())
    await house.until(lambda: bool(trainer.runs))
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert trainer.runs[0].ended == ["gone"]
    assert kept(house) == Calibration("weaver")
    await measure(PacedTrainer(house)).run()
    assert kept(house).token_seconds > 0
