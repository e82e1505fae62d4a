"""Whole runs of the method dpo."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from run_events import StopAfter, events_of, steps_of

from tailorbird.dataset.render import Renderer
from tailorbird.lm.lora import LoraLinear
from tailorbird.protocol.training import (
    DPO_RESULT_COLUMNS,
    PROBES_FILE,
    Finished,
    Interrupted,
    Started,
    TrainPlan,
    probes_from_json,
)
from tailorbird.training import TrainingError
from tailorbird.training.run import run
from tailorbird.training.shared import Shared

MakePlan = Callable[..., TrainPlan]


def test_a_run_learns_to_prefer(make_pair_plan: MakePlan):
    plan = make_pair_plan(n_epochs=6)
    finished = run(plan)
    assert isinstance(finished, Finished)
    first, *_, last = (step.metrics for step in steps_of(plan))
    assert first.train_loss == pytest.approx(math.log(2), rel=1e-4)
    assert first.train_reward_margin == pytest.approx(0, abs=1e-3)
    assert (last.train_loss or 9) < 0.2
    assert last.train_reward_accuracy == 1.0
    assert (last.train_reward_margin or 0) > 2
    assert (last.full_valid_loss or 9) < 0.3
    assert last.full_valid_reward_accuracy == 1.0


def test_both_sides_are_counted_and_the_preferred_ones_are_probed(make_pair_plan: MakePlan, base_folder: Path):
    plan = make_pair_plan()
    finished = run(plan)
    assert isinstance(finished, Finished)
    started = events_of(plan)[0]
    assert isinstance(started, Started)
    assert (started.examples, started.steps_per_epoch) == (14, 5)
    assert finished.trained_tokens == 2 * started.epoch_tokens == sum(step.tokens for step in steps_of(plan))
    renderer = Renderer.from_folder(base_folder)
    probes = probes_from_json((Path(plan.run_folder) / PROBES_FILE).read_text())
    texts = [renderer.decode(probe.token_ids, skip_special_tokens=False) for probe in probes]
    assert len(texts) == plan.probe_count
    assert not any("No idea" in text for text in texts)
    shortest = min(len(probe.token_ids) for probe in probes)
    assert started.epoch_tokens > 2 * 14 * shortest * 0.9


def test_results_hold_the_seven_columns_and_the_rewards(make_pair_plan: MakePlan):
    plan = make_pair_plan()
    finished = run(plan)
    assert isinstance(finished, Finished)
    header, *rows = Path(finished.results_path).read_text().splitlines()
    assert header == ",".join(DPO_RESULT_COLUMNS)
    for row, step in zip(rows, steps_of(plan), strict=True):
        values = [float(cell) if cell else None for cell in row.split(",")]
        assert values == [step.step, *(getattr(step.metrics, column) for column in DPO_RESULT_COLUMNS[1:])]
        assert step.metrics.valid_reward_accuracy is not None
        assert (step.metrics.full_valid_reward_margin is None) == (step.step % 5 != 0)


def test_a_stopped_run_goes_on_to_the_same_losses_and_never_computes_its_reference_again(
    make_pair_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
):
    undisturbed, stopped = make_pair_plan("undisturbed"), make_pair_plan("stopped")
    whole = run(undisturbed)
    assert run(stopped, stop_requested=StopAfter(4)) == Interrupted(3)
    with monkeypatch.context() as patch:
        patch.setattr(Shared, "logprobs", None)
        resumed = run(stopped)
    assert steps_of(stopped) == steps_of(undisturbed)
    assert isinstance(whole, Finished)
    assert isinstance(resumed, Finished)
    assert Path(resumed.results_path).read_bytes() == Path(whole.results_path).read_bytes()
    assert Path(resumed.probes_path).read_bytes() == Path(whole.probes_path).read_bytes()
    weights = "adapter_model.safetensors"
    assert (Path(resumed.adapter_path) / weights).read_bytes() == (Path(whole.adapter_path) / weights).read_bytes()


def test_a_lost_reference_is_that_of_the_start_even_in_the_middle_of_a_run(make_pair_plan: MakePlan):
    undisturbed, stopped = make_pair_plan("undisturbed"), make_pair_plan("stopped")
    run(undisturbed)
    run(stopped, stop_requested=StopAfter(4))
    (Path(stopped.run_folder) / "state" / "reference.json").unlink()
    assert run(stopped, stop_requested=StopAfter(0)) == Interrupted(3)
    run(stopped)
    assert steps_of(stopped) == steps_of(undisturbed)


def test_a_run_stopped_before_its_reference_is_known_has_done_nothing(make_pair_plan: MakePlan):
    plan = make_pair_plan()
    assert run(plan, stop_requested=StopAfter(0)) == Interrupted(0)
    assert [event.kind for event in events_of(plan)] == ["started", "interrupted"]
    assert isinstance(run(plan), Finished)


def test_a_continued_run_measures_from_the_adapter_it_starts_with(make_plan: MakePlan, make_pair_plan: MakePlan):
    first = run(make_plan("first", n_epochs=3))
    assert isinstance(first, Finished)
    plan = make_pair_plan("second", initial_adapter=first.adapter_path)
    run(plan)
    assert steps_of(plan)[0].metrics.train_loss == pytest.approx(math.log(2), rel=1e-4)


def test_no_second_model_is_ever_loaded(make_pair_plan: MakePlan, monkeypatch: pytest.MonkeyPatch):
    built: list[str] = []
    create = LoraLinear.__init__

    def counting(self: LoraLinear, *arguments: object) -> None:
        built.append("layer")
        create(self, *arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(LoraLinear, "__init__", counting)
    run(make_pair_plan(n_epochs=1))
    assert len(built) == 2 * 7  # layers of the model x projections of a layer


def test_another_beta_gives_other_losses(make_pair_plan: MakePlan):
    weak, strong = make_pair_plan("weak", beta=0.1), make_pair_plan("strong", beta=0.5)
    run(weak)
    run(strong)
    assert steps_of(weak)[0].metrics.train_loss == pytest.approx(steps_of(strong)[0].metrics.train_loss, rel=1e-3)
    assert (steps_of(strong)[-1].metrics.train_loss or 9) < 0.9 * (steps_of(weak)[-1].metrics.train_loss or 0)


def test_files_of_the_other_method_are_refused_with_the_line(make_plan: MakePlan, make_pair_plan: MakePlan):
    chat, pairs = make_plan().training_file, make_pair_plan().training_file
    with pytest.raises(TrainingError, match="Line 1 of the training file is no preference pair") as caught:
        run(make_pair_plan(training_file=chat))
    assert caught.value.code == "wrong_kind"
    with pytest.raises(TrainingError, match="Line 1 of the training file is a preference pair"):
        run(make_plan(training_file=pairs))


def test_a_side_that_is_too_long_is_refused_with_its_line_and_name(make_pair_plan: MakePlan):
    with pytest.raises(TrainingError, match=r"Line 1 of the training file, preferred_output, has \d+ tokens") as caught:
        run(make_pair_plan(max_tokens=20))
    assert caught.value.code == "example_too_long"
