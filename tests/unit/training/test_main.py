"""The command as the worker starts it: a process of its own, signals, exit status, last event."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from run_events import events_of, steps_of

import tailorbird
from tailorbird.protocol.training import (
    EVENTS_FILE,
    PLAN_FILE,
    Failed,
    Finished,
    Interrupted,
    Started,
    TrainPlan,
    event_from_line,
)
from tailorbird.training.__main__ import main
from tailorbird.training.run import run

MakePlan = Callable[..., TrainPlan]


@pytest.fixture
def signals_restored() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def write_plan(plan: TrainPlan) -> Path:
    path = Path(plan.run_folder) / PLAN_FILE
    path.write_text(plan.to_json())
    return path


def start(plan: TrainPlan) -> subprocess.Popen[bytes]:
    source = Path(tailorbird.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tailorbird.training", str(write_plan(plan))]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def wait_for_steps(plan: TrainPlan, count: int, alive: Callable[[], bool]) -> None:
    path = Path(plan.run_folder) / EVENTS_FILE
    deadline = time.monotonic() + 300
    while not path.exists() or path.read_bytes().count(b'"kind":"step"}\n') < count:
        assert alive(), "the run was over before the test could disturb it"
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_run_killed_at_random_moments_ends_with_the_losses_of_an_undisturbed_run(make_plan: MakePlan):
    settings = {"n_epochs": 16, "save_every": 7, "validation_file": None}
    undisturbed, killed = make_plan("undisturbed", **settings), make_plan("killed", **settings)
    whole = run(undisturbed)
    source = random.Random(2)
    reached = 0
    trainers = multiprocessing.get_context("forkserver")  # imports torch once for all three
    trainers.set_forkserver_preload(["tailorbird.training.run", "transformers.models.llama.modeling_llama"])
    for _ in range(3):
        process = trainers.Process(target=run, args=(killed,))
        process.start()
        reached += source.randint(10, 20)
        wait_for_steps(killed, reached, process.is_alive)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    torn = Path(killed.run_folder) / EVENTS_FILE
    torn.write_bytes(torn.read_bytes() + b'{"step":77,"total_st')
    resumed = run(killed)
    resumes = [event.resumed_step for event in events_of(killed) if isinstance(event, Started)]
    assert resumes[0] == 0 < resumes[1] < resumes[2] < resumes[3]
    assert steps_of(killed) == steps_of(undisturbed)
    assert isinstance(whole, Finished)
    assert isinstance(resumed, Finished)
    assert Path(resumed.results_path).read_bytes() == Path(whole.results_path).read_bytes()
    assert Path(resumed.probes_path).read_bytes() == Path(whole.probes_path).read_bytes()
    checkpoints = [event.step for event in events_of(killed) if event.kind == "checkpoint"]
    assert checkpoints == list(range(5, 81, 5))


def test_sigterm_saves_says_so_and_leaves_with_status_zero(make_plan: MakePlan):
    plan = make_plan(n_epochs=400)
    process = start(plan)
    wait_for_steps(plan, 3, lambda: process.poll() is None)
    process.terminate()
    assert process.wait(120) == 0
    last = events_of(plan)[-1]
    assert isinstance(last, Interrupted)
    assert last.step == steps_of(plan)[-1].step >= 3


@pytest.mark.usefixtures("signals_restored")
def test_a_finished_plan_exits_with_status_zero(make_plan: MakePlan, capfd: pytest.CaptureFixture[str]):
    plan = make_plan()
    assert main([str(write_plan(plan))]) == 0
    assert isinstance(events_of(plan)[-1], Finished)
    assert capfd.readouterr().out == ""


@pytest.mark.usefixtures("signals_restored")
def test_a_refused_plan_ends_in_failed_with_a_message_for_the_customer(make_plan: MakePlan):
    plan = make_plan(template_hash="0")
    assert main([str(write_plan(plan))]) == 1
    failed = events_of(plan)[-1]
    assert isinstance(failed, Failed)
    assert failed.code == "template_changed"
    assert "Traceback" not in failed.message
    assert "Traceback" in failed.detail


@pytest.mark.usefixtures("signals_restored")
def test_an_unexpected_error_shows_the_customer_nothing_of_itself(make_plan: MakePlan):
    plan = make_plan(training_file="/nowhere/rows.jsonl")
    assert main([str(write_plan(plan))]) == 1
    failed = events_of(plan)[-1]
    assert isinstance(failed, Failed)
    assert (failed.code, failed.message) == ("internal_error", "Training stopped because of an internal error.")
    assert "/nowhere" in failed.detail


@pytest.mark.usefixtures("signals_restored")
def test_a_broken_plan_fails_in_its_own_folder(tmp_path: Path):
    (tmp_path / EVENTS_FILE).write_text('{"kind":"st')  # half a line of a killed process
    (tmp_path / PLAN_FILE).write_text('{"job_id": "ftjob-1"}')
    assert main([str(tmp_path / PLAN_FILE)]) == 1
    last = event_from_line((tmp_path / EVENTS_FILE).read_text().splitlines()[-1])
    assert isinstance(last, Failed)
    assert "missing field" in last.detail


def test_a_wrong_command_line_is_answered_with_the_usage(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
