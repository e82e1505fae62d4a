"""Estimates: times from what jobs took here, files counted in part, what finished jobs leave behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tailorbird.dataset.render import Rendered
from tailorbird.dataset.validate import read_records
from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.jobs import Hyperparameters, JobStatus, Method
from tailorbird.domain.pricing import NO_PRICES, Calibration, Work
from tailorbird.service.intake import NewJob
from tailorbird.service.usage import estimates
from tailorbird.service.usage.estimates import Estimator
from tailorbird.service.usage.pace import Range, Source, pace_of_calibration, pace_of_catalogue, pace_of_runs
from tailorbird.service.usage.prefixes import cost_share, distinct_share

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
TURBO = "gpt-35-turbo-0613"
MEASURED = Calibration("weaver", NOON, NOON, "here", 0.0003, 0.2, 4.0)


def ran(tokens: int, steps: int, seconds: float, name: str = "j") -> Work:
    return Work(name, "acc", "weaver", "supervised", steps, tokens, seconds, tokens, seconds + 20, NOON)


def times(cost_tokens: int, steps: int, runs: list[Work]) -> tuple[Range, Range]:
    found = pace_of_runs(runs)
    training = found.training(cost_tokens, steps)
    return training, training + found.beside


def pace(tokens: int, steps: int, token: float = 0.0003, step: float = 0.2) -> Work:
    return ran(tokens, steps, token * tokens + step * steps)


def test_runs_of_two_shapes_tell_the_time_of_a_third() -> None:
    runs = [pace(140_000, 240), pace(180_000, 150)]
    training, total = times(50_000, 400, runs)
    assert training.likely == pytest.approx(15 + 80, rel=0.06)
    assert training.low <= training.likely / 1.25 * 1.001
    assert total.likely == pytest.approx(training.likely + 20)


def test_one_run_tells_the_time_of_another_of_its_shape() -> None:
    training, _ = times(280_000, 480, [pace(140_000, 240)])
    assert training.likely == pytest.approx(2 * (42 + 48), rel=0.001)


def test_runs_that_contradict_each_other_never_make_a_negative_time() -> None:
    runs = [ran(100_000, 100, 100), ran(100_000, 1000, 50), ran(200_000, 10, 10)]
    training, total = times(1000, 1, runs)
    assert 0 < training.low < training.likely < training.high
    assert total.low > training.low
    assert training.high / training.likely > 1.25, "the range is as wide as what was seen"


def test_without_any_measurement_the_catalogue_is_asked_and_the_doubt_is_large() -> None:
    training = pace_of_catalogue(5000.0).training(100_000, 0)
    assert (training.low, training.likely, training.high) == (10, 20, 40)
    assert pace_of_catalogue(None).training(100_000, 0).likely == 100


def test_a_calibration_tells_the_time_of_a_first_job_with_less_doubt_than_the_catalogue() -> None:
    found = pace_of_calibration(MEASURED, screened=False)
    training = found.training(100_000, 100)
    assert training.likely == pytest.approx(100_000 * 0.0003 + 100 * 0.2)
    assert (training.low, training.high) == pytest.approx((training.likely / 1.5, training.likely * 1.5))
    assert found.beside.low < MEASURED.beside_seconds < found.beside.likely
    assert pace_of_calibration(MEASURED, screened=True).beside.likely > found.beside.likely


class Waiting:
    """Counts the seconds an estimate waits; `then` happens when so many have passed."""

    def __init__(self, then: dict[float, Callable[[], None]] | None = None) -> None:
        self.seconds = 0.0
        self._then = then or {}

    def __call__(self, seconds: float) -> None:
        self.seconds += seconds
        if self.seconds in self._then:
            self._then[self.seconds]()


def measuring_estimator(house: Any, waiting: Waiting) -> Estimator:
    return Estimator(house.store, house.blobs, house.catalogue, house.jobs.draft, NO_PRICES, wait=waiting)


def put(house: Any, calibration: Calibration) -> Callable[[], None]:
    def done() -> None:
        with house.store.begin() as tx:
            assert tx.calibrations.get("weaver") is not None, "nobody asked for it"
            tx.calibrations.put(calibration)

    return done


def test_the_first_estimate_waits_until_the_base_is_measured_and_the_second_asks_no_more(house: Any, rows: Any) -> None:
    new = NewJob(TURBO, house.upload(rows(12)), asked=Hyperparameters(n_epochs=4, batch_size=2))
    taken = put(house, Calibration("weaver", taken_at=NOON))
    waiting = Waiting({2.0: taken, 20.0: put(house, MEASURED)})
    found = measuring_estimator(house, waiting).estimate("acc", new)
    assert (found.source, found.measured_runs, waiting.seconds) == (Source.CALIBRATION, 0, 20.0)
    assert found.training.likely > 24 * MEASURED.step_seconds
    again = Waiting()
    assert measuring_estimator(house, again).estimate("acc", new).training == found.training
    assert again.seconds == 0


@pytest.mark.parametrize(
    ("taken", "waited"), [(False, 3.0), (True, 90.0)], ids=["no worker begins", "a worker never ends"]
)
def test_an_estimate_gives_up_waiting_and_says_where_its_times_come_from(
    house: Any, rows: Any, taken: bool, waited: float
) -> None:
    waiting = Waiting({1.0: put(house, Calibration("weaver", taken_at=NOON))} if taken else {})
    found = measuring_estimator(house, waiting).estimate("acc", NewJob(TURBO, house.upload(rows(12))))
    assert (found.source, waiting.seconds) == (Source.CATALOGUE, waited)


def test_a_base_that_could_not_be_measured_is_not_waited_for_again(house: Any, rows: Any) -> None:
    waiting = Waiting({1.0: put(house, Calibration("weaver", NOON, NOON))})
    new = NewJob(TURBO, house.upload(rows(12)))
    assert measuring_estimator(house, waiting).estimate("acc", new).source is Source.CATALOGUE
    assert measuring_estimator(house, waiting).estimate("acc", new).source is Source.CATALOGUE
    assert waiting.seconds == 1.0


@pytest.fixture
def estimator(house: Any) -> Estimator:
    return Estimator(house.store, house.blobs, house.catalogue, house.jobs.draft, NO_PRICES)


async def test_a_job_that_has_succeeded_is_what_the_next_estimate_is_made_of(
    house: Any, estimator: Estimator, rows: Any
) -> None:
    new = NewJob(TURBO, house.upload(rows(12)), asked=Hyperparameters(n_epochs=4, batch_size=2))
    before = estimator.estimate("acc", new)
    assert (before.measured_runs, before.examples, before.steps) == (0, 12, 24)
    job = await house.pipeline().run(house.job(), "worker-1")
    assert job.status is JobStatus.SUCCEEDED
    with house.store.begin() as tx:
        kept = tx.work.get(job.id)
    assert kept is not None
    assert kept.finished_at == job.finished_at
    validating = next(event for event in house.events(job) if event.key == "validating")
    taken_up = (job.finished_at - validating.created_at).total_seconds()
    assert kept.total_seconds == pytest.approx(taken_up)
    assert taken_up > (job.finished_at - job.started_at).total_seconds()
    after = estimator.estimate("acc", new)
    assert (after.source, after.measured_runs) == (Source.JOBS, 1)
    assert after.total.likely == pytest.approx(after.training.likely + kept.total_seconds - kept.seconds)
    assert after.epoch_tokens == before.epoch_tokens == job.epoch_tokens
    # The scripted run has 40 steps, this job would have 24.
    assert 0.5 * kept.seconds < after.training.likely < kept.seconds
    preferences = replace(new, method=Method.DPO, training_file=house.upload(pairs(12)))
    assert estimator.estimate("acc", preferences).measured_runs == 0


async def test_a_job_that_failed_is_no_measurement(house: Any, estimator: Estimator, rows: Any) -> None:
    await house.pipeline(engine=house.engine(error=1.0)).run(house.job(), "worker-1")
    assert estimator.estimate("acc", NewJob(TURBO, house.upload(rows(12)))).measured_runs == 0


def test_validation_costs_a_third_of_training(house: Any, estimator: Estimator, rows: Any) -> None:
    new = NewJob(TURBO, house.upload(rows(12)), asked=Hyperparameters(n_epochs=3, batch_size=12))
    alone = estimator.estimate("acc", new)
    checked = estimator.estimate("acc", replace(new, validation_file=house.upload(rows(12))))
    # A batch of validation beside each step and the whole file once an epoch: two more passes forward.
    # All answers are alike, so of a batch little more than the questions is computed.
    tokens = alone.trained_tokens * cost_share(rendered(house, rows(12)), 12)
    ratio = (tokens * 5 / 3 + 3 * 64) / (tokens + 3 * 64)
    assert checked.training.likely / alone.training.likely == pytest.approx(ratio, rel=0.01)


def test_a_long_file_is_counted_in_part_and_says_so(
    house: Any, estimator: Estimator, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = NewJob(TURBO, house.upload(rows(400)), asked=Hyperparameters(n_epochs=1))
    whole = estimator.estimate("acc", new)
    monkeypatch.setattr(estimates, "_EXACT_BYTES", 10_000)
    part = estimator.estimate("acc", new)
    assert (whole.exact, part.exact) == (True, False)
    assert part.examples == pytest.approx(whole.examples, rel=0.05)
    assert part.trained_tokens == pytest.approx(whole.trained_tokens, rel=0.05)


@pytest.mark.parametrize(
    ("line", "text"),
    [("{", "Line 13"), (json.dumps({"messages": [{"role": "user", "content": "x"}]}), "Line 13")],
)
def test_a_line_that_would_fail_the_job_is_named(
    house: Any, estimator: Estimator, rows: Any, line: str, text: str
) -> None:
    with pytest.raises(InvalidRequest, match=text) as caught:
        estimator.estimate("acc", NewJob(TURBO, house.upload([*rows(12), line])))
    assert caught.value.param == "training_file"


def rendered(house: Any, lines: list[str]) -> list[Any]:
    renderer = house.catalogue.renderer("weaver")
    found = read_records(["\n".join(lines).encode()])
    return [renderer.render_record(item[1]) for item in found if isinstance(item, tuple)]


def test_only_what_differs_within_a_batch_is_computed() -> None:
    alike = [[[1, 2, 3, n]] for n in range(10, 18)]
    assert distinct_share(alike, 1) == 1.0
    assert distinct_share(alike, 8) == (3 + 8) / 32
    assert distinct_share(alike, 4) == 2 * (3 + 4) / 32
    assert distinct_share([[[1, 2, 3], [1, 2, 4]]], 1) == 4 / 6, "both sides of a pair share their prompt"
    assert distinct_share([], 4) == 1.0


def test_a_token_that_is_predicted_costs_more_than_one_that_is_read() -> None:
    read, predicted = (Rendered([1, 2, 3, 4], [0.0, 0.0, 0.0, weight]) for weight in (0.0, 1.0))
    assert cost_share([[read]], 1) == 1.0
    assert cost_share([[predicted]], 1) == pytest.approx(1 + 0.36 / 4)
    assert cost_share([], 1) == 1.0


def pairs(count: int) -> list[str]:
    turn = {"role": "assistant", "content": "good"}
    line = {
        "input": {"messages": [{"role": "user", "content": "question"}]},
        "preferred_output": [turn],
        "non_preferred_output": [{**turn, "content": "bad"}],
    }
    return [json.dumps(line)] * count
