"""A run in two processes: the losses of one, one story, one saved state, and no run is lost with either of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from run_events import events_of

import tailorbird
from tailorbird.protocol.training import (
    EVENTS_FILE,
    PLAN_FILE,
    Finished,
    Interrupted,
    Started,
    Step,
    TrainPlan,
)
from tailorbird.training.run import run

MakePlan = Callable[..., TrainPlan]


def start(plan: TrainPlan, *, torchrun: bool = False) -> subprocess.Popen[bytes]:
    path = Path(plan.run_folder) / PLAN_FILE
    path.write_text(plan.to_json())
    source = Path(tailorbird.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"] if torchrun else []
    asked = [] if torchrun else ["--processes=2"]
    command = [sys.executable, "-m", *launch, "tailorbird.training", str(path), *asked]
    with (Path(plan.run_folder) / "trainer.log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stderr=log, stdout=log)


def ended(process: subprocess.Popen[bytes]) -> int:
    return process.wait(300)


def losses_of(plan: TrainPlan) -> list[float]:
    steps = [event for event in events_of(plan) if isinstance(event, Step)]
    assert [step.step for step in steps] == list(range(1, len(steps) + 1))
    return [value for step in steps for value in (step.metrics.train_loss, step.metrics.valid_loss) if value]


def wait_for_steps(plan: TrainPlan, count: int, process: subprocess.Popen[bytes]) -> None:
    path = Path(plan.run_folder) / EVENTS_FILE
    deadline = time.monotonic() + 300
    while not path.exists() or path.read_bytes().count(b'"kind":"step"}\n') < count:
        assert process.poll() is None, "the run was over before the test could disturb it"
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(
    "torchrun", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["by itself", "under torchrun"]
)
def test_two_processes_have_the_losses_of_one_and_tell_one_story(make_plan: MakePlan, torchrun: bool):
    alone, two = make_plan("alone"), make_plan("two")
    run(alone)
    assert ended(start(two, torchrun=torchrun)) == 0, (Path(two.run_folder) / "trainer.log").read_text()
    assert losses_of(two) == pytest.approx(losses_of(alone), rel=1e-6)
    kinds = [event.kind for event in events_of(two)]
    assert kinds == ["started", *(["step"] * 5 + ["checkpoint"]) * 2, "finished"]
    started, finished = events_of(two)[0], events_of(two)[-1]
    assert isinstance(started, Started)
    assert started.notes["processes"] == 2
    assert isinstance(finished, Finished)
    assert finished.notes["examples_per_second"] > 0
    assert not list(Path(two.run_folder).glob(".ranks-*"))


@pytest.mark.slow
def test_a_run_in_two_processes_outlives_its_signals_and_the_death_of_either(make_plan: MakePlan):
    settings = {"n_epochs": 40, "validation_file": None, "save_every": 7}
    alone, two = make_plan("alone", **settings), make_plan("two", **settings)
    run(alone)

    process = start(two)
    wait_for_steps(two, 3, process)
    process.terminate()
    assert ended(process) == 0
    assert isinstance(events_of(two)[-1], Interrupted)

    process = start(two)
    wait_for_steps(two, 12, process)
    (other,) = psutil.Process(process.pid).children()
    other.kill()
    assert ended(process) == 3
    assert events_of(two)[-1].kind in ("step", "checkpoint")  # nothing has failed

    process = start(two)
    wait_for_steps(two, 25, process)
    (other,) = psutil.Process(process.pid).children()
    process.kill()
    assert ended(process) == -signal.SIGKILL
    psutil.wait_procs([other], timeout=300)
    assert not other.is_running()

    assert ended(start(two)) == 0
    assert isinstance(events_of(two)[-1], Finished)
    # Sums in another order differ in their last bit, which two hundred steps make visible.
    assert losses_of(two)[:60] == pytest.approx(losses_of(alone)[:60], rel=1e-3)
    assert len(losses_of(two)) == 200
    resumes = [event.resumed_step for event in events_of(two) if isinstance(event, Started)]
    assert resumes[0] == 0 < resumes[1] <= resumes[2] <= resumes[3]
