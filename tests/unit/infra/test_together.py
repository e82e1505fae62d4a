"""TogetherTrainer's bookkeeping; the child here is a script that writes what it is told to, so that runs end on cue."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tailorbird.infra import together
from tailorbird.infra.together import TogetherTrainer
from tailorbird.protocol.training import EVENTS_FILE, Finished, Interrupted, Started, TrainPlan, event_to_line
from tailorbird.service.ports import TrainerCrashed, TrainerRun

# Stands in for `python -m tailorbird.training --listen`: a run starts, and ends when its folder holds a file `end`; one
# with a file `crash` takes the process along. A stop is answered unless there is a file `deaf`.
CHILD = f"""
import json, os, select, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_DFL)
runs, heard = {{}}, b""
def add(folder, line):
    with open(folder + "/{EVENTS_FILE}", "a") as out: out.write(line + "\\n")
def leave(number, line):
    add(runs.pop(number), line)
    os.write(1, json.dumps({{"word": "left", "run": number}}).encode() + b"\\n")
open_ = True
while open_ or runs:
    if open_ and select.select([0], [], [], 0.01)[0]:
        data = os.read(0, 65536)
        open_, heard = bool(data), heard + data
    *lines, heard = heard.split(b"\\n")
    for line in lines:
        told = json.loads(line)
        if told["word"] == "train":
            runs[told["run"]] = os.path.dirname(told["plan"])
            add(runs[told["run"]], '{event_to_line(Started(10, 5, 20, 100, 1))}')
            with open(runs[told["run"]] + "/pid", "a") as out: out.write(str(os.getpid()) + "\\n")
        elif told["run"] in runs and not os.path.exists(runs[told["run"]] + "/deaf"):
            leave(told["run"], '{event_to_line(Interrupted(3))}')
    for number, folder in list(runs.items()):
        if os.path.exists(folder + "/crash"):
            sys.stderr.write("the last words")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        if os.path.exists(folder + "/end"):
            leave(number, '{event_to_line(Finished(10, 200, 1.0, "a", "r", "p"))}')
"""


def plan(folder: Path, job: str, base: str = "/bases/weaver") -> TrainPlan:
    return TrainPlan(job, str(folder / job), base, "rows.jsonl", 1, 1, 1e-3, 1, 100, "hash")


PATIENCE = 300  # seconds; a busy machine takes long over what is a moment on an idle one


class Bench:
    def __init__(self, folder: Path, most: int) -> None:
        self._folder = folder
        self._trainer = TogetherTrainer(dict(os.environ), most)
        self.runs: dict[str, TrainerRun] = {}

    async def start(self, *jobs: str, base: str = "/bases/weaver") -> None:
        """And waits until they have begun."""
        before = {job: len(self.processes(job)) for job in jobs}
        started = await asyncio.gather(*(self._trainer.start(plan(self._folder, job, base)) for job in jobs))
        self.runs |= dict(zip(jobs, started, strict=True))
        async with asyncio.timeout(PATIENCE):
            while any(len(self.processes(job)) == before[job] for job in jobs):
                await asyncio.sleep(0.01)

    def tell(self, job: str, word: str) -> None:
        (self._folder / job / word).touch()

    def take_back(self, job: str, word: str) -> None:
        (self._folder / job / word).unlink()

    def processes(self, job: str) -> list[int]:
        """The processes the job was trained in, the last one last."""
        path = self._folder / job / "pid"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    def group_of(self, job: str) -> int:
        return self.processes(job)[-1]

    async def last(self, job: str) -> object:
        async with asyncio.timeout(PATIENCE):
            return [event async for event in self.runs[job].events()][-1]


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[int], Bench]]:
    monkeypatch.setattr(together, "COMMAND", (sys.executable, "-c", CHILD))
    made: list[Bench] = []

    def make(most: int) -> Bench:
        made.append(Bench(tmp_path, most))
        return made[-1]

    yield make
    for one in made:
        await asyncio.gather(*(run.kill() for run in one.runs.values()))


async def test_jobs_of_one_base_share_a_process_up_to_the_limit(bench: Callable[[int], Bench]) -> None:
    one = bench(2)
    await one.start("a", "b", "c")
    assert one.group_of("a") == one.group_of("b") != one.group_of("c")


async def test_jobs_of_two_bases_do_not(bench: Callable[[int], Bench]) -> None:
    one = bench(4)
    await one.start("a")
    await one.start("b", base="/bases/other")
    assert one.group_of("a") != one.group_of("b")


async def test_a_job_takes_the_place_of_one_that_has_left(bench: Callable[[int], Bench]) -> None:
    one = bench(2)
    await one.start("a", "b")
    one.tell("a", "end")
    assert isinstance(await one.last("a"), Finished)
    await one.runs["a"].stop()
    await one.start("c")
    assert one.group_of("c") == one.group_of("b")


async def test_the_process_ends_with_its_last_run_and_the_next_job_has_another(bench: Callable[[int], Bench]) -> None:
    one = bench(2)
    await one.start("a")
    one.tell("a", "end")
    assert isinstance(await one.last("a"), Finished)
    await one.runs["a"].stop()
    with pytest.raises(ProcessLookupError):
        os.kill(one.group_of("a"), 0)
    await one.start("b")
    assert one.group_of("b") != one.group_of("a")


async def test_a_stop_is_for_one_run_alone(bench: Callable[[int], Bench]) -> None:
    one = bench(2)
    await one.start("a", "b")
    await one.runs["a"].stop()
    assert await one.last("a") == Interrupted(3)
    one.tell("b", "end")
    assert isinstance(await one.last("b"), Finished)


async def test_a_crash_is_one_of_every_run_and_they_go_on_in_smaller_company(bench: Callable[[int], Bench]) -> None:
    one, jobs = bench(8), "abcdefgh"
    await one.start(*jobs)
    assert len({one.group_of(job) for job in jobs}) == 1
    one.tell("d", "crash")
    for job in jobs:
        with pytest.raises(TrainerCrashed) as caught:
            await one.last(job)
        assert caught.value.exit_code == -9
        assert "the last words" in caught.value.tail
    one.take_back("d", "crash")
    await one.start(*jobs)
    assert sorted(Counter(one.group_of(job) for job in jobs).values()) == [2, 2, 2, 2]


async def test_a_run_that_left_in_good_order_may_share_again(bench: Callable[[int], Bench]) -> None:
    one = bench(2)
    await one.start("a", "b")
    one.tell("b", "crash")
    for job in "ab":
        with pytest.raises(TrainerCrashed):
            await one.last(job)
    await one.start("a")
    await one.runs["a"].stop()
    await one.start("a", "c")
    assert one.group_of("a") == one.group_of("c")


async def test_a_run_that_does_not_answer_is_waited_for_while_another_is_wanted(bench: Callable[[int], Bench]) -> None:
    one = bench(2)
    await one.start("a", "b")
    one.tell("a", "deaf")
    killing = asyncio.create_task(one.runs["a"].stop(0.05))
    await asyncio.wait({killing}, timeout=0.3)
    assert not killing.done()
    os.kill(one.group_of("b"), 0)  # still there
    one.tell("a", "end")
    await asyncio.wait_for(killing, PATIENCE)
    one.tell("b", "end")
    assert isinstance(await one.last("b"), Finished)


async def test_a_process_nobody_wants_any_more_is_killed(bench: Callable[[int], Bench]) -> None:
    one = bench(2)
    await one.start("a", "b")
    for job in "ab":
        one.tell(job, "deaf")
    await asyncio.wait_for(asyncio.gather(*(one.runs[job].stop(0.05) for job in "ab")), PATIENCE)
    with pytest.raises(ProcessLookupError):
        os.kill(one.group_of("a"), 0)
