"""Runs with patience: they end when the loss on the validation file no longer falls, and keep the best epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from run_events import steps_of

from tailorbird.lm.adapter import load_adapter
from tailorbird.protocol.training import (
    EVENTS_FILE,
    CheckpointSaved,
    Finished,
    Interrupted,
    Metrics,
    Step,
    TrainPlan,
    event_from_line,
)
from tailorbird.training import TrainingError
from tailorbird.training.run import run
from tailorbird.training.stopping import Best, best_epoch

MakePlan = Callable[..., TrainPlan]


def step(number: int, loss: float | None) -> Step:
    return Step(number, 9, 1, 0.1, 5, Metrics(train_loss=1.0, full_valid_loss=loss))


def test_the_best_epoch_is_the_one_with_the_lowest_loss_and_ages_with_each_that_is_not_lower():
    steps = [step(1, None), step(2, 2.0), step(4, 1.0), step(6, 1.0), step(8, 3.0), step(9, 0.5)]
    assert best_epoch(steps, 1) is None
    assert best_epoch(steps, 3) == Best(2, 2.0, 0)
    assert best_epoch(steps, 4) == Best(4, 1.0, 0)
    assert best_epoch(steps, 8) == Best(4, 1.0, 2)
    assert best_epoch(reversed(steps), 8) == Best(4, 1.0, 2)
    assert best_epoch(steps, 9) == Best(9, 0.5, 0)
    assert best_epoch([step(1, float("nan")), step(2, 3.0)], 2) == Best(2, 3.0, 0)


def test_a_run_that_gets_worse_ends_early_with_its_best_epoch(make_plan: MakePlan):
    plan = make_plan(n_epochs=20, learning_rate=0.05, patience=2, schedule="constant")
    finished = run(plan)
    assert isinstance(finished, Finished)
    losses = {one.step: one.metrics.full_valid_loss for one in steps_of(plan) if one.metrics.full_valid_loss}
    best = min(losses, key=lambda number: losses[number])
    assert finished.final_step == best == finished.steps - 10  # two epochs of five steps later
    assert finished.steps == max(losses) < 100
    assert finished.trained_tokens == finished.steps // 5 * sum(one.tokens for one in steps_of(plan)[:5])
    kept = load_adapter(finished.adapter_path).tensors
    expected = load_adapter(Path(plan.run_folder) / "checkpoints" / f"step-{best}").tensors
    assert all(kept[name][1].equal(expected[name][1]) for name in expected)


def test_until_its_end_a_patient_run_takes_the_steps_of_an_impatient_one(make_plan: MakePlan):
    patient, plain = make_plan("patient", patience=9), make_plan("plain")
    finished = run(patient)
    run(plain)
    assert isinstance(finished, Finished)
    assert [one.metrics for one in steps_of(patient)] == [one.metrics for one in steps_of(plain)]
    assert finished.final_step in (5, 10)


def test_an_interrupted_patient_run_ends_at_the_same_step(make_plan: MakePlan):
    whole = make_plan("whole", n_epochs=20, learning_rate=0.05, patience=1, schedule="constant")
    cut = make_plan("cut", n_epochs=20, learning_rate=0.05, patience=1, schedule="constant")
    expected = run(whole)
    assert isinstance(expected, Finished)
    for after in (3, 4, 1):
        left = [after]

        def stop(left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] < 0

        assert isinstance(run(cut, stop_requested=stop), Interrupted)
    finished = run(cut)
    assert isinstance(finished, Finished)
    assert (finished.steps, finished.final_step) == (expected.steps, expected.final_step)
    weights = "adapter_model.safetensors"
    assert (Path(finished.adapter_path) / weights).read_bytes() == (Path(expected.adapter_path) / weights).read_bytes()
    assert any(isinstance(one, CheckpointSaved) for one in map(event_from_line, _lines(cut)))


def _lines(plan: TrainPlan) -> list[str]:
    return (Path(plan.run_folder) / EVENTS_FILE).read_text().splitlines()


def test_patience_without_a_validation_file_is_refused(make_plan: MakePlan):
    with pytest.raises(TrainingError, match="validation file") as caught:
        run(make_plan(patience=1, validation_file=None))
    assert caught.value.code == "invalid_plan"
