"""The process of a group, as the worker starts it: a line each on stdin and stdout, signals, exit status."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from run_events import events_of, steps_of

import tailorbird
from tailorbird.protocol.together import Left, Message, Stop, Train, message_from_line, message_to_line
from tailorbird.protocol.training import (
    PLAN_FILE,
    Failed,
    Finished,
    Interrupted,
    Started,
    TrainPlan,
)
from tailorbird.training.run import run

MakePlan = Callable[..., TrainPlan]
PATIENCE = 600  # seconds; a busy machine takes minutes over what is a moment on an idle one


def write_plan(plan: TrainPlan) -> Path:
    path = Path(plan.run_folder) / PLAN_FILE
    path.write_text(plan.to_json())
    return path


class Process:
    def __init__(self, *arguments: str) -> None:
        source = Path(tailorbird.__file__).parents[1]
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "tailorbird.training", *arguments],
            env=os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def say(self, *messages: Message) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.writelines(message_to_line(message) for message in messages)
        self.popen.stdin.flush()

    def hear(self) -> Message:
        assert self.popen.stdout is not None
        return message_from_line(self.popen.stdout.readline())

    def wait_for_steps(self, plan: TrainPlan, count: int) -> None:
        until = time.monotonic() + PATIENCE
        while len(steps_of(plan)) < count:
            assert self.popen.poll() is None, "the process was over before the test could disturb it"
            assert time.monotonic() < until
            time.sleep(0.01)

    def end(self) -> int:
        """Says that no run comes any more; the exit status."""
        self.popen.communicate(timeout=PATIENCE)
        return self.popen.returncode

    def kill(self) -> None:
        """Nothing happens to one that has ended."""
        self.popen.kill()
        self.popen.wait(PATIENCE)


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def begin(*arguments: str) -> Process:
        started.append(Process(*arguments))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        for pipe in (process.popen.stdin, process.popen.stdout):
            assert pipe is not None
            pipe.close()


def test_several_plans_train_in_one_process_and_a_failure_shows_in_its_status(make_plan: MakePlan, start):
    plans = [make_plan("good"), make_plan("bad", template_hash="0"), make_plan("other", seed=1)]
    process = start(*(str(write_plan(plan)) for plan in plans))
    assert process.end() == 1
    assert [type(events_of(plan)[-1]) for plan in plans] == [Finished, Failed, Finished]


def test_runs_come_and_go_as_the_worker_says(make_plan: MakePlan, start):
    long, short, alone = make_plan("long", n_epochs=400), make_plan("short"), make_plan("alone")
    process = start("--listen")
    process.say(Train(1, str(write_plan(long))))
    process.wait_for_steps(long, 2)
    process.say(Train(2, str(write_plan(short))))
    assert process.hear() == Left(2)
    process.say(Stop(1))
    assert process.hear() == Left(1)
    assert events_of(long)[-1] == Interrupted(len(steps_of(long)))
    assert process.end() == 0
    run(alone)
    assert steps_of(short) == steps_of(alone)


def test_a_closed_stdin_lets_the_last_run_finish_and_a_line_nobody_understands_does_no_harm(make_plan: MakePlan, start):
    process, plan = start("--listen"), make_plan()
    process.popen.stdin.write(b'nonsense\n{"word":"dance"}\n')
    process.say(Train(1, str(write_plan(plan))))
    assert process.end() == 0
    assert isinstance(events_of(plan)[-1], Finished)


def test_sigterm_saves_every_run_and_ends_the_process(make_plan: MakePlan, start):
    plans = [make_plan("first", n_epochs=400), make_plan("second", n_epochs=400, seed=1)]
    process = start("--listen")
    process.say(*(Train(number, str(write_plan(plan))) for number, plan in enumerate(plans)))
    for plan in plans:
        process.wait_for_steps(plan, 2)
    process.popen.terminate()
    assert process.popen.wait(PATIENCE) == 0
    for plan in plans:
        assert events_of(plan)[-1] == Interrupted(len(steps_of(plan)))


def test_sigterm_ends_a_process_that_waits_for_runs(make_plan: MakePlan, start):
    process = start("--listen")
    process.say(Train(7, str(write_plan(make_plan(n_epochs=1)))))
    assert process.hear() == Left(7)
    process.popen.terminate()
    assert process.popen.wait(PATIENCE) == 0


def test_runs_of_a_group_killed_at_random_moments_end_with_the_numbers_of_undisturbed_ones(make_plan: MakePlan, start):
    settings = {"n_epochs": 12, "save_every": 7, "validation_file": None}
    seeds = (105, 3)
    undisturbed = [make_plan(f"undisturbed{seed}", seed=seed, **settings) for seed in seeds]
    killed = [make_plan(f"killed{seed}", seed=seed, **settings) for seed in seeds]
    for plan in undisturbed:
        run(plan)
    source, reached = random.Random(4), 0
    for _ in range(2):
        process = start(*(str(write_plan(plan)) for plan in killed))
        reached += source.randint(10, 20)
        process.wait_for_steps(killed[0], reached)
        process.kill()
    assert start(*(str(write_plan(plan)) for plan in killed)).end() == 0
    for plan, other in zip(killed, undisturbed, strict=True):
        resumes = [event.resumed_step for event in events_of(plan) if isinstance(event, Started)]
        assert resumes[0] == 0 < resumes[1] < resumes[2]
        assert steps_of(plan) == steps_of(other)
        for name in ("results.csv", "probes.json", "adapter/adapter_model.safetensors"):
            assert (Path(plan.run_folder) / name).read_bytes() == (Path(other.run_folder) / name).read_bytes()
