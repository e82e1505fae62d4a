from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from run_events import StopAfter, events_of, steps_of
from torch.nn import functional
from transformers import AutoModelForCausalLM

from tailorbird.lm.adapter import load_adapter
from tailorbird.protocol.training import (
    EVENTS_FILE,
    PROBES_FILE,
    RESULT_COLUMNS,
    CheckpointSaved,
    Finished,
    Interrupted,
    Started,
    TrainPlan,
    probes_from_json,
)
from tailorbird.training import TrainingError
from tailorbird.training import run as run_module
from tailorbird.training.run import learning_rate, run

MakePlan = Callable[..., TrainPlan]

# Random weights of seed 0, data and plan of conftest. A plain loop over transformers, PEFT and torch's AdamW, one row
# at a time, gave the same figures within 2e-7. A change of them is a change of what is trained.
GOLDEN_LOSSES = [6.663345031738281, 7.076828275408063, 7.005982912503756, 6.201101105788658, 6.642554788028493]


def test_losses_are_the_golden_ones(make_plan: MakePlan):
    plan = make_plan()
    run(plan)
    assert [step.metrics.train_loss for step in steps_of(plan)][:5] == pytest.approx(GOLDEN_LOSSES, rel=1e-4)


def test_a_run_tells_its_whole_story(make_plan: MakePlan):
    plan = make_plan()
    finished = run(plan)
    assert isinstance(finished, Finished)
    started, *middle, last = events_of(plan)
    assert isinstance(started, Started)
    assert (started.total_steps, started.steps_per_epoch, started.examples, started.resumed_step) == (10, 5, 14, 0)
    assert started.trained_parameters == sum(
        a.numel() + b.numel() for a, b in load_adapter(finished.adapter_path).tensors.values()
    )
    kinds = [event.kind for event in middle]
    assert kinds == (["step"] * 5 + ["checkpoint"]) * 2
    steps = steps_of(plan)
    assert [step.step for step in steps] == list(range(1, 11))
    assert [step.epoch for step in steps] == [1] * 5 + [2] * 5
    assert sum(step.tokens for step in steps[:5]) == sum(step.tokens for step in steps[5:]) == started.epoch_tokens
    assert last == finished
    assert (finished.steps, finished.trained_tokens) == (10, 2 * started.epoch_tokens)
    assert finished.train_seconds > 0


def test_training_learns(make_plan: MakePlan):
    plan = make_plan(n_epochs=12, validation_file=None)
    run(plan)
    losses = [step.metrics.train_loss or 0 for step in steps_of(plan)]
    assert losses[0] > math.log(259)  # worse than a guess among all tokens
    assert losses[-1] < 0.6 * losses[0]
    assert all(step.metrics.valid_loss is None for step in steps_of(plan))


def test_validation_is_one_batch_a_step_and_the_whole_file_at_the_end_of_an_epoch(make_plan: MakePlan):
    plan = make_plan(learning_rate=0.0)
    run(plan)
    steps = steps_of(plan)
    assert [step.metrics.full_valid_loss is not None for step in steps] == ([False] * 4 + [True]) * 2
    # Nothing is learned at rate 0, so the two batches (3 and 2 of the 5 rows) come round again with the same figures.
    assert [step.metrics.valid_loss for step in steps] == [steps[i % 2].metrics.valid_loss for i in range(10)]
    assert steps[0].metrics.valid_loss != steps[1].metrics.valid_loss
    low, high = sorted(step.metrics.valid_loss or 0 for step in steps[:2])
    assert low < (steps[4].metrics.full_valid_loss or 0) < high


def test_results_hold_one_row_a_step(make_plan: MakePlan):
    plan = make_plan()
    finished = run(plan)
    assert isinstance(finished, Finished)
    header, *rows = Path(finished.results_path).read_text().splitlines()
    assert header == ",".join(RESULT_COLUMNS)
    for row, step in zip(rows, steps_of(plan), strict=True):
        values = [float(cell) if cell else None for cell in row.split(",")]
        assert values == [step.step, *(getattr(step.metrics, column) for column in RESULT_COLUMNS[1:])]


def test_checkpoints_are_adapters_and_the_last_one_is_the_final_adapter(make_plan: MakePlan):
    plan = make_plan()
    finished = run(plan)
    assert isinstance(finished, Finished)
    first, last = (event for event in events_of(plan) if isinstance(event, CheckpointSaved))
    assert (first.step, first.epoch, last.step, last.epoch) == (5, 1, 10, 2)
    assert Path(last.path) == Path(plan.run_folder) / "checkpoints" / "step-10"
    final, final_checkpoint, early = (
        load_adapter(path).tensors for path in (finished.adapter_path, last.path, first.path)
    )
    assert all(torch.equal(final[name][1], final_checkpoint[name][1]) for name in final)
    assert not any(torch.equal(final[name][1], early[name][1]) for name in final)


def test_probes_are_the_log_probabilities_peft_computes_with_the_saved_adapter(make_plan: MakePlan, base_folder: Path):
    plan = make_plan()
    finished = run(plan)
    assert isinstance(finished, Finished)
    probes = probes_from_json((Path(plan.run_folder) / PROBES_FILE).read_text())
    assert len(probes) == plan.probe_count
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_folder), finished.adapter_path)
    for probe in probes:
        logprobs = functional.log_softmax(model(torch.tensor([probe.token_ids])).logits[0], dim=-1)
        expected = [logprobs[i - 1, probe.token_ids[i]].item() for i in probe.positions]
        assert probe.logprobs == pytest.approx(expected, abs=1e-4)


def test_the_same_plan_gives_the_same_losses_to_the_last_bit(make_plan: MakePlan):
    first, second, other = make_plan("first"), make_plan("second"), make_plan("other", seed=106)
    for plan in (first, second, other):
        run(plan)
    assert steps_of(first) == steps_of(second)
    assert steps_of(first)[0].metrics != steps_of(other)[0].metrics


def test_a_stopped_run_goes_on_to_the_same_losses_and_the_same_adapter(make_plan: MakePlan):
    undisturbed, stopped = make_plan("undisturbed"), make_plan("stopped")
    whole = run(undisturbed)
    assert run(stopped, stop_requested=StopAfter(3)) == Interrupted(3)
    assert events_of(stopped)[-1] == Interrupted(3)
    assert run(stopped, stop_requested=StopAfter(0)) == Interrupted(3)
    resumed = run(stopped)
    assert [event.resumed_step for event in events_of(stopped) if isinstance(event, Started)] == [0, 3, 3]
    assert steps_of(stopped) == steps_of(undisturbed)
    assert isinstance(whole, Finished)
    assert isinstance(resumed, Finished)
    assert Path(resumed.results_path).read_bytes() == Path(whole.results_path).read_bytes()
    weights = "adapter_model.safetensors"
    assert (Path(resumed.adapter_path) / weights).read_bytes() == (Path(whole.adapter_path) / weights).read_bytes()


def test_a_run_stopped_before_its_first_step_starts_at_the_first_step(make_plan: MakePlan):
    plan = make_plan()
    assert run(plan, stop_requested=StopAfter(0)) == Interrupted(0)
    assert isinstance(run(plan), Finished)
    assert [step.step for step in steps_of(plan)] == list(range(1, 11))


def test_a_stop_leaves_the_adapter_of_its_step_once_and_nothing_of_it_is_in_the_end(make_plan: MakePlan):
    undisturbed, stopped = make_plan("undisturbed"), make_plan("stopped")
    whole = run(undisturbed)
    run(stopped, stop_requested=StopAfter(3))
    (saved,) = (event for event in events_of(stopped) if isinstance(event, CheckpointSaved))
    assert saved == CheckpointSaved(3, 1, saved.path, steps_of(stopped)[2].metrics, epoch_end=False)
    assert [event.kind for event in events_of(stopped)[-2:]] == ["checkpoint", "interrupted"]
    assert Path(saved.path).name == "step-3"
    early = load_adapter(saved.path).tensors
    run(stopped, stop_requested=StopAfter(0))
    resumed = run(stopped)
    assert isinstance(whole, Finished)
    assert isinstance(resumed, Finished)
    checkpoints = [event for event in events_of(stopped) if isinstance(event, CheckpointSaved)]
    assert [(event.step, event.epoch_end) for event in checkpoints] == [(3, False), (5, True), (10, True)]
    final = load_adapter(resumed.adapter_path).tensors
    assert not any(torch.equal(final[name][1], early[name][1]) for name in final)
    assert Path(resumed.results_path).read_bytes() == Path(whole.results_path).read_bytes()


def test_a_stop_right_after_an_epoch_finds_its_checkpoint_there(make_plan: MakePlan):
    plan = make_plan()
    assert run(plan, stop_requested=StopAfter(5)) == Interrupted(5)
    saved = [event for event in events_of(plan) if isinstance(event, CheckpointSaved)]
    assert [(event.step, event.epoch_end) for event in saved] == [(5, True)]


def test_a_finished_run_does_nothing_when_started_again(make_plan: MakePlan):
    plan = make_plan()
    finished = run(plan)
    before = events_of(plan)
    shutil.rmtree(Path(plan.run_folder) / "state")
    assert run(plan) == finished
    assert events_of(plan) == before


def test_a_state_without_its_events_is_not_used(make_plan: MakePlan):
    plan = make_plan()
    run(plan, stop_requested=StopAfter(4))
    (Path(plan.run_folder) / EVENTS_FILE).unlink()
    run(plan)
    assert [step.step for step in steps_of(plan)] == list(range(1, 11))


def test_a_changed_template_is_refused(make_plan: MakePlan):
    with pytest.raises(TrainingError, match="template has changed") as caught:
        run(make_plan(template_hash="0" * 64))
    assert caught.value.code == "template_changed"


def test_a_base_that_does_not_load_is_refused_without_its_path(make_plan: MakePlan, base_folder: Path, tmp_path: Path):
    folder = shutil.copytree(base_folder, tmp_path / "broken")
    (folder / "model.safetensors").unlink()
    with pytest.raises(TrainingError, match=r"^The model to train could not be loaded\.$"):
        run(make_plan(base_model=str(folder)))


def test_a_diverging_run_names_step_rate_and_lines(make_plan: MakePlan):
    plan = make_plan(learning_rate=1e30, warmup_ratio=0.0)
    with pytest.raises(
        TrainingError, match=r"at step 2 with learning rate \S+, on line\(s\) \d+, \d+, \d+ of"
    ) as caught:
        run(plan)
    assert caught.value.code == "not_finite"
    assert len(steps_of(plan)) == 1


def test_training_can_go_on_from_an_earlier_adapter(make_plan: MakePlan):
    first = run(make_plan("first", n_epochs=6))
    assert isinstance(first, Finished)
    plan = make_plan("second", initial_adapter=first.adapter_path)
    run(plan)
    assert (steps_of(plan)[0].metrics.train_loss or 9) < 0.8 * math.log(259)


def test_an_earlier_adapter_of_another_rank_is_refused(make_plan: MakePlan):
    first = run(make_plan("first", n_epochs=1))
    assert isinstance(first, Finished)
    with pytest.raises(TrainingError, match="could not be loaded"):
        run(make_plan("second", initial_adapter=first.adapter_path, lora_rank=8))


def test_bfloat16_trains_to_nearly_the_same_losses(make_plan: MakePlan):
    precise, rough = make_plan("precise"), make_plan("rough", dtype="bfloat16")
    run(precise)
    run(rough)
    losses = [[step.metrics.train_loss for step in steps_of(plan)] for plan in (precise, rough)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]


def test_the_callers_torch_settings_come_back(make_plan: MakePlan):
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    run(make_plan(threads=before[0] + 1), stop_requested=StopAfter(1))
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_rate_climbs_to_its_peak(make_plan: MakePlan, schedule: str):
    plan = make_plan(schedule=schedule, warmup_ratio=0.1, learning_rate=1.0)
    assert [learning_rate(plan, step, 40) for step in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]


def test_the_rate_falls_nearly_to_zero_but_a_last_step_is_never_for_nothing(make_plan: MakePlan):
    plan = make_plan(learning_rate=1.0, warmup_ratio=0.05)
    for schedule in ("cosine", "linear"):
        rates = [learning_rate(replace(plan, schedule=schedule), step, 100) for step in range(5, 101)]
        assert rates == sorted(rates, reverse=True)
        assert 0 < rates[-1] < 0.02
    assert learning_rate(replace(plan, schedule="constant"), 100, 100) == 1.0
    assert learning_rate(plan, 1, 1) == 1.0


def test_a_failing_step_leaves_the_events_readable(make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch):
    def broken_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    plan = make_plan()
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "save_resume_point", broken_disk)
        with pytest.raises(OSError, match="No space"):
            run(plan)
    assert [event.kind for event in events_of(plan)] == ["started", "step", "step"]
    run(plan)
    assert [step.step for step in steps_of(plan)] == list(range(1, 11))
    assert json.loads((Path(plan.run_folder) / EVENTS_FILE).read_text().splitlines()[-1])["kind"] == "finished"
