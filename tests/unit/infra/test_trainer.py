"""LocalRun tails what a child process writes; the child here is a script, so that every order of events can be made."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tailorbird.infra.trainer import LocalRun, LocalTrainer
from tailorbird.protocol.training import (
    EVENTS_FILE,
    Finished,
    Interrupted,
    Metrics,
    Started,
    Step,
    TrainPlan,
    event_to_line,
)
from tailorbird.service.ports import TrainerCrashed

STARTED = event_to_line(Started(10, 5, 20, 100, 1))
FINISHED = event_to_line(Finished(10, 200, 1.0, "a", "r", "p"))
INTERRUPTED = event_to_line(Interrupted(3))

WRITE = """
import os, signal, sys, time
folder = sys.argv[1]
def fresh(lines):
    with open(folder + "/new", "w") as out: out.write("".join(line + "\\n" for line in lines))
    os.replace(folder + "/new", folder + "/events.jsonl")
def add(text):
    with open(folder + "/events.jsonl", "a") as out: out.write(text)
"""


def _step(number: int) -> str:
    return event_to_line(Step(number, 10, 1, 1e-3, 5, Metrics(train_loss=1.0 / number)))


async def _run(folder: Path, script: str) -> LocalRun:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", WRITE + script, str(folder))
    return LocalRun(folder, process)


async def _read(run: LocalRun) -> list[object]:
    try:
        return [event async for event in run.events()]
    finally:
        await run.stop()


async def test_events_come_in_order_and_end_with_the_last(tmp_path: Path) -> None:
    run = await _run(tmp_path, f"fresh(['{STARTED}']); time.sleep(0.3); add('{_step(1)}\\n{FINISHED}\\n')")
    events = await _read(run)
    assert [type(event) for event in events] == [Started, Step, Finished]


async def test_half_a_line_is_not_read_before_its_end_is_there(tmp_path: Path) -> None:
    line = _step(1)
    script = f"fresh(['{STARTED}']); add('{line[:20]}'); time.sleep(0.5); add('{line[20:]}\\n{FINISHED}\\n')"
    assert (await _read(await _run(tmp_path, script)))[1] == Step(1, 10, 1, 1e-3, 5, Metrics(train_loss=1.0))


async def test_a_torn_line_of_a_killed_predecessor_is_not_mixed_with_the_new_one(tmp_path: Path) -> None:
    kept = f"{STARTED}\n{_step(1)}\n"
    (tmp_path / EVENTS_FILE).write_text(kept + _step(2)[:30])
    script = f"time.sleep(0.4); os.truncate(folder + '/events.jsonl', {len(kept)}); add('{_step(2)}\\n{FINISHED}\\n')"
    steps = [event.step for event in await _read(await _run(tmp_path, script)) if isinstance(event, Step)]
    assert steps == [1, 2]


async def test_a_process_that_ends_without_a_last_event_has_crashed(tmp_path: Path) -> None:
    run = await _run(tmp_path, f"fresh(['{STARTED}']); os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(TrainerCrashed) as caught:
        await _read(run)
    assert caught.value.exit_code == -9


async def test_an_interruption_in_the_past_does_not_end_the_new_run(tmp_path: Path) -> None:
    script = f"fresh(['{STARTED}', '{INTERRUPTED}', '{STARTED}']); time.sleep(0.4); add('{FINISHED}\\n')"
    events = await _read(await _run(tmp_path, script))
    assert isinstance(events[-1], Finished)


async def test_stop_lets_the_trainer_write_its_last_event(tmp_path: Path) -> None:
    script = (
        f"fresh(['{STARTED}'])\n"
        f"def leave(*_): add('{INTERRUPTED}\\n'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, leave); time.sleep(30)"
    )
    run = await _run(tmp_path, script)
    events = run.events()
    assert isinstance(await anext(events), Started)
    await run.stop()
    assert [type(event) async for event in events] == [Interrupted]


async def test_a_run_that_had_finished_before_is_read_again_without_a_new_file(tmp_path: Path) -> None:
    (tmp_path / EVENTS_FILE).write_text(f"{STARTED}\n{FINISHED}\n")
    assert isinstance((await _read(await _run(tmp_path, "pass")))[-1], Finished)


async def test_stepped_waits_for_a_step_of_this_process_and_not_of_one_before(tmp_path: Path) -> None:
    (tmp_path / EVENTS_FILE).write_text(f"{STARTED}\n{_step(1)}\n")
    script = f"add('{STARTED}\\n'); time.sleep(0.4); add('{_step(2)}\\n'); time.sleep(30)"
    run = await _run(tmp_path, script)
    began = time.monotonic()
    await asyncio.wait_for(run.stepped(), 10)
    assert time.monotonic() - began > 0.3
    await run.kill()


async def test_stepped_ends_with_the_process(tmp_path: Path) -> None:
    run = await _run(tmp_path, f"fresh(['{STARTED}', '{FINISHED}'])")
    await asyncio.wait_for(run.stepped(), 10)
    assert isinstance((await _read(run))[-1], Finished)


async def test_stop_waits_as_long_as_it_is_told_to(tmp_path: Path) -> None:
    slow = "signal.signal(signal.SIGTERM, lambda *_: None); fresh([]); time.sleep(30)"
    run = await _run(tmp_path, slow)
    while not (tmp_path / EVENTS_FILE).exists():
        await asyncio.sleep(0.02)
    began = time.monotonic()
    await run.stop(0.3)
    assert 0.2 < time.monotonic() - began < 5


async def test_a_run_in_several_processes_is_the_same_command_with_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, ...]] = []
    spawn = asyncio.create_subprocess_exec

    async def start(*command: str, **options: Any) -> asyncio.subprocess.Process:
        started.append(command)
        return await spawn(sys.executable, "-c", "", **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    for processes in (1, 2):
        run = await LocalTrainer({}, processes).start(TrainPlan("j", str(tmp_path), "b", "t", 1, 1, 0.1, 1, 9, "h"))
        await run.kill()
    assert [[part for part in command if "processes" in part] for command in started] == [[], ["--processes=2"]]
