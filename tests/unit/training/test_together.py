"""Runs side by side in one process: each as it would be alone, whatever becomes of the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from run_events import events_of, steps_of

from tailorbird.lm.lora import lora_parameters
from tailorbird.protocol.training import (
    EVENTS_FILE,
    PLAN_FILE,
    Failed,
    Finished,
    Interrupted,
    Started,
    TrainPlan,
)
from tailorbird.training.replicas import Replicas
from tailorbird.training.run import run
from tailorbird.training.together import Group
from tailorbird.training.trainee import Trainee

MakePlan = Callable[..., TrainPlan]


def adapter_of(plan: TrainPlan) -> bytes:
    return (Path(plan.run_folder) / "adapter" / "adapter_model.safetensors").read_bytes()


class Several:
    """A group with runs numbered from 0, and the numbers of those that have left, in their order."""

    def __init__(self, *plans: TrainPlan) -> None:
        self.left: list[int] = []
        self.stop_all = False
        self.group = Group(stop_requested=lambda: self.stop_all, left=self.left.append)
        self.count = 0
        for plan in plans:
            self.take_in(plan)

    def take_in(self, plan: TrainPlan) -> None:
        path = Path(plan.run_folder) / PLAN_FILE
        path.write_text(plan.to_json())
        self.group.take_in(self.count, path)
        self.count += 1

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.group.turn()

    def to_the_end(self) -> None:
        while len(self.group):
            self.group.turn()


def test_each_run_computes_what_it_would_alone(make_plan: MakePlan, make_pair_plan: MakePlan):
    changes = {
        "plain": {},
        "seeded": {"seed": 7, "validation_file": None},
        "larger": {"lora_rank": 8, "lora_alpha": 16, "batch_size": 5, "n_epochs": 3},
        "steady": {"schedule": "constant", "learning_rate": 0.003, "weight_decay": 0.1},
    }
    alone = [make_plan(f"{name}-alone", **fields) for name, fields in changes.items()]
    beside = [make_plan(name, **fields) for name, fields in changes.items()]
    alone.append(make_pair_plan("pairs-alone"))
    beside.append(make_pair_plan("pairs"))
    for plan in alone:
        run(plan)
    Several(*beside).to_the_end()
    for one, other in zip(alone, beside, strict=True):
        assert steps_of(other) == steps_of(one)
        assert adapter_of(other) == adapter_of(one)
        assert [event.kind for event in events_of(other)] == [event.kind for event in events_of(one)]


def test_runs_take_their_steps_in_turn(make_plan: MakePlan):
    plans = [make_plan("first"), make_plan("second", seed=3)]
    several = Several(*plans)
    several.turns(8)  # the first of each makes it ready
    assert [len(steps_of(plan)) for plan in plans] == [3, 3]


def test_a_run_that_joins_later_changes_nothing_for_those_that_are_there(make_plan: MakePlan):
    alone, first, late = make_plan("alone"), make_plan("first"), make_plan("late", seed=9)
    run(alone)
    several = Several(first)
    several.turns(5)
    several.take_in(late)
    several.to_the_end()
    assert steps_of(first) == steps_of(alone)
    assert isinstance(events_of(late)[-1], Finished)
    assert several.left == [0, 1]


def test_a_stopped_run_saves_and_leaves_while_the_others_go_on(make_plan: MakePlan):
    alone, stopped, other = make_plan("alone"), make_plan("stopped"), make_plan("other")
    run(alone)
    several = Several(stopped, other)
    several.turns(9)
    several.group.stop(0)
    before = len(steps_of(other))
    several.turns(1)
    assert several.left == [0]
    last = events_of(stopped)[-1]
    assert last == Interrupted(len(steps_of(stopped)))
    assert len(steps_of(other)) == before
    several.to_the_end()
    assert steps_of(other) == steps_of(alone)


def test_a_stopped_run_goes_on_in_another_group_and_then_alone_to_the_same_numbers(make_plan: MakePlan):
    alone, moved = make_plan("alone"), make_plan("moved")
    run(alone)
    several = Several(moved, make_plan("first", seed=1))
    several.turns(8)
    several.group.stop(0)
    several.turns(1)
    several = Several(make_plan("second", seed=2), moved)
    several.turns(8)
    several.group.stop(1)
    several.turns(1)
    run(moved)
    resumes = [event.resumed_step for event in events_of(moved) if isinstance(event, Started)]
    assert resumes == [0, 3, 6]
    assert steps_of(moved) == steps_of(alone)
    assert adapter_of(moved) == adapter_of(alone)


def test_when_all_are_told_to_stop_all_save(make_plan: MakePlan):
    plans = [make_plan("first"), make_plan("second", seed=3)]
    several = Several(*plans)
    several.turns(7)
    several.stop_all = True
    several.to_the_end()
    assert [events_of(plan)[-1] for plan in plans] == [Interrupted(3), Interrupted(2)]
    assert several.group.failed == 0


def test_a_run_that_diverges_fails_alone(make_plan: MakePlan):
    alone, beside = make_plan("alone"), make_plan("beside")
    broken = make_plan("broken", learning_rate=1e30, warmup_ratio=0.0)
    run(alone)
    several = Several(broken, beside)
    several.to_the_end()
    failed = events_of(broken)[-1]
    assert isinstance(failed, Failed)
    assert failed.code == "not_finite"
    assert (several.left, several.group.failed) == ([0, 1], 1)
    assert steps_of(beside) == steps_of(alone)


def test_a_run_with_a_row_that_cannot_be_trained_fails_alone(make_plan: MakePlan, tmp_path: Path):
    rows = tmp_path / "bad.jsonl"
    rows.write_text('{"messages": []}\n')
    broken, beside = make_plan("broken", training_file=str(rows)), make_plan("beside")
    several = Several(broken, beside)
    several.to_the_end()
    assert isinstance(events_of(broken)[-1], Failed)
    assert isinstance(events_of(beside)[-1], Finished)


def test_a_plan_that_cannot_be_read_fails_in_its_folder_and_leaves(make_plan: MakePlan, tmp_path: Path):
    folder = tmp_path / "unreadable"
    folder.mkdir()
    (folder / PLAN_FILE).write_text("{")
    several = Several(make_plan("beside"))
    several.group.take_in(5, folder / PLAN_FILE)
    assert several.left == [5]
    assert b'"kind":"failed"' in (folder / EVENTS_FILE).read_bytes()
    several.to_the_end()
    assert several.left == [5, 0]


def test_a_base_that_does_not_load_fails_its_own_run_alone(make_plan: MakePlan, tmp_path: Path, base_folder: Path):
    empty = tmp_path / "empty"
    empty.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        (empty / name).write_bytes((base_folder / name).read_bytes())
    broken, beside = make_plan("broken", base_model=str(empty)), make_plan("beside")
    several = Several(broken, beside)
    several.to_the_end()
    failed = events_of(broken)[-1]
    assert isinstance(failed, Failed)
    assert failed.code == "model_unusable"
    assert isinstance(events_of(beside)[-1], Finished)


def test_a_run_waits_for_its_folder_without_holding_up_the_others(make_plan: MakePlan):
    held, other = make_plan("held"), make_plan("other")
    first = Several(held)
    first.turns(2)
    several = Several(held, other)
    while 1 not in several.left:
        several.group.turn()
    assert isinstance(events_of(other)[-1], Finished)
    assert len(several.group) == 1
    first.group.stop(0)
    first.to_the_end()
    several.to_the_end()
    assert isinstance(events_of(held)[-1], Finished)


def test_a_run_tells_the_seconds_of_its_own_turns_only(make_plan: MakePlan):
    plan = make_plan("one")
    others = [make_plan(f"other{n}", seed=n) for n in range(4)]
    Several(plan, *others).to_the_end()
    finished = events_of(plan)[-1]
    assert isinstance(finished, Finished)
    seconds = [step.seconds for step in steps_of(plan)]
    assert all(one is not None and one > 0 for one in seconds)
    assert sum(one or 0 for one in seconds) < finished.train_seconds


def test_runs_on_one_base_share_its_merged_matrices(make_plan: MakePlan):
    replicas, plan = Replicas(), make_plan()
    first, second = (Trainee.build(plan, replicas.load).model for _ in range(2))
    own = {id(parameter) for parameter in lora_parameters(first)}
    pairs = list(zip(first.named_parameters(), second.named_parameters(), strict=True))
    assert len(pairs) > len(own) > 0
    for (name, one), (_, other) in pairs:
        assert (one.data_ptr() == other.data_ptr()) is (id(one) not in own), name


def test_replicas_share_every_number_of_the_base_and_nothing_of_the_adapters(make_plan: MakePlan):
    replicas, plan = Replicas(), make_plan()
    first, second = replicas.load(plan), replicas.load(plan)
    assert first is not second
    for (name, one), (_, other) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        assert one.data_ptr() == other.data_ptr(), name
    assert all(one is not other for one, other in zip(first.modules(), second.modules(), strict=True))
