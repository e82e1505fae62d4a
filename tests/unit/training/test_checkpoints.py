from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tailorbird.protocol.training import (
    EVENTS_FILE,
    RESULTS_FILE,
    STATE_FOLDER,
    CheckpointSaved,
    Interrupted,
    Metrics,
    Started,
    Step,
    TrainPlan,
    event_to_line,
)
from tailorbird.training import TrainingError
from tailorbird.training.checkpoints import (
    EventLog,
    Results,
    ResumePoint,
    load_resume_point,
    plan_fingerprint,
    save_resume_point,
)
from tailorbird.training.turns import to_the_end

STARTED = Started(total_steps=4, steps_per_epoch=2, examples=4, epoch_tokens=40, trained_parameters=8)


def step(number: int, **metrics: float) -> Step:
    return Step(number, 4, (number + 1) // 2, 0.1, 20, Metrics(**metrics))


def open_log(folder: Path) -> EventLog:
    log = to_the_end(EventLog.open(folder, give_up=lambda: True))
    assert log is not None
    return log


def lines(folder: Path) -> list[str]:
    return (folder / EVENTS_FILE).read_text().splitlines()


def test_events_are_visible_at_once_and_read_again_by_the_next_process(tmp_path: Path):
    log = open_log(tmp_path)
    assert log.append(STARTED)
    assert log.append(step(1, train_loss=0.1))
    assert lines(tmp_path) == [event_to_line(STARTED), event_to_line(step(1, train_loss=0.1))]
    log.close()
    again = open_log(tmp_path)
    assert again.events == [STARTED, step(1, train_loss=0.1)]
    again.close()


def test_a_step_or_checkpoint_that_stands_in_the_file_is_not_written_again(tmp_path: Path):
    saved = CheckpointSaved(2, 1, "/run/checkpoints/step-2", Metrics())
    first = open_log(tmp_path)
    for event in (STARTED, step(1), step(2), saved, Interrupted(2)):
        first.append(event)
    first.close()
    second = open_log(tmp_path)
    assert second.append(STARTED)
    assert not second.append(step(2))
    assert not second.append(saved)
    assert second.append(step(3))
    second.close()
    kinds = [event.kind for event in second.events]
    assert kinds == ["started", "step", "step", "checkpoint", "interrupted", "started", "step"]
    assert len(lines(tmp_path)) == 7


@pytest.mark.parametrize("torn", ['{"kind":"st', '{"kind":"step","step":3}\n', "\x00\x00\x00\n", "[1]\n"])
def test_a_torn_tail_is_cut_off(tmp_path: Path, torn: str):
    whole = event_to_line(STARTED) + "\n" + event_to_line(step(1)) + "\n"
    (tmp_path / EVENTS_FILE).write_text(whole + torn)
    log = open_log(tmp_path)
    assert log.events == [STARTED, step(1)]
    log.append(step(2))
    log.close()
    assert (tmp_path / EVENTS_FILE).read_text() == whole + event_to_line(step(2)) + "\n"


def test_the_log_knows_whether_it_holds_every_step(tmp_path: Path):
    log = open_log(tmp_path)
    for number in (1, 2, 4):
        log.append(step(number))
    assert log.covers(0)
    assert log.covers(2)
    assert not log.covers(4)
    log.close()


def test_a_second_process_waits_and_goes_when_told(tmp_path: Path):
    log = open_log(tmp_path)
    asked: list[bool] = []

    def give_up() -> bool:
        asked.append(True)
        return len(asked) > 1

    assert to_the_end(EventLog.open(tmp_path, give_up=give_up)) is None
    assert len(asked) == 2
    log.close()
    open_log(tmp_path).close()


def test_results_have_azures_columns_shortest_floats_and_blank_cells(tmp_path: Path):
    results = Results(tmp_path, [step(1, train_loss=0.1, train_mean_token_accuracy=1 / 3)])
    results.append(step(2, train_loss=1e-05, train_mean_token_accuracy=0.5, full_valid_loss=2.0))
    results.close()
    assert (tmp_path / RESULTS_FILE).read_bytes().decode() == (
        "step,train_loss,train_mean_token_accuracy,valid_loss,valid_mean_token_accuracy,"
        "full_valid_loss,full_valid_mean_token_accuracy\n"
        "1,0.1,0.3333333333333333,,,,\n"
        "2,1e-05,0.5,,,2.0,\n"
    )


def test_torn_results_are_written_anew_from_the_events(tmp_path: Path):
    (tmp_path / RESULTS_FILE).write_text("step,train_loss\n1,0.")
    Results(tmp_path, [step(1, train_loss=0.25)]).close()
    assert (tmp_path / RESULTS_FILE).read_text().splitlines()[1:] == ["1,0.25,,,,,"]


def a_point() -> ResumePoint:
    parameter = torch.nn.Parameter(torch.ones(2, 3))
    optimizer = torch.optim.AdamW([parameter], fused=True)
    parameter.grad = torch.full((2, 3), 0.5)
    optimizer.step()
    pair = (torch.randn(2, 3), torch.randn(3, 2))
    return ResumePoint(7, 12.5, {"layer": pair}, optimizer.state_dict(), torch.get_rng_state())


def test_a_resume_point_comes_back_bit_for_bit(tmp_path: Path):
    point = a_point()
    save_resume_point(tmp_path, point, "f")
    found = load_resume_point(tmp_path, "f")
    assert found is not None
    assert (found.step, found.seconds) == (7, 12.5)
    assert all(torch.equal(a, b) for a, b in zip(found.adapter["layer"], point.adapter["layer"], strict=True))
    assert torch.equal(found.random_state, point.random_state)
    for key, value in point.optimizer["state"][0].items():
        assert torch.equal(found.optimizer["state"][0][key], value), key
    assert found.optimizer["param_groups"] == point.optimizer["param_groups"]


def test_no_saved_state_is_no_resume_point(tmp_path: Path):
    assert load_resume_point(tmp_path, "f") is None


@pytest.mark.parametrize("keep", [0, 10, 1000])
def test_an_unreadable_state_starts_the_run_over(tmp_path: Path, keep: int):
    save_resume_point(tmp_path, a_point(), "f")
    (path,) = (tmp_path / STATE_FOLDER).iterdir()
    path.write_bytes(path.read_bytes()[:keep])
    assert load_resume_point(tmp_path, "f") is None


def test_the_state_of_another_plan_is_refused(tmp_path: Path):
    save_resume_point(tmp_path, a_point(), "f")
    with pytest.raises(TrainingError, match="another training plan"):
        load_resume_point(tmp_path, "g")


def test_a_plan_may_move_to_another_folder_but_not_change_its_numbers():
    plan = TrainPlan("j", "/run", "/base", "/train", 1, 1, 0.1, 1, 100, "hash")
    moved = replace(plan, run_folder="/elsewhere", threads=4, save_every=1)
    assert plan_fingerprint(moved, 40) == plan_fingerprint(plan, 40)
    assert plan_fingerprint(replace(plan, seed=2), 40) != plan_fingerprint(plan, 40)
    assert plan_fingerprint(plan, 41) != plan_fingerprint(plan, 40)
