"""Runs the trainer as a child process and tails its events.

events.jsonl only grows, over all processes of a run, but for a torn last line of a killed one, which its successor cuts
off: so nothing is remembered of a line before its end is there.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

from tailorbird.protocol.training import (
    EVENTS_FILE,
    PLAN_FILE,
    Failed,
    Finished,
    Interrupted,
    TrainEvent,
    TrainPlan,
    event_from_line,
)
from tailorbird.service.ports import TrainerCrashed, TrainerRun

_POLL_SECONDS = 0.1
_STOP_SECONDS = 8.0
_LOG_FILE = "trainer.log"
_STEP = b'"kind":"step"'
LOG_TAIL_BYTES = 2_000

# Measured in shared/perf: glibc's default returns big blocks to the kernel after every step and faults them in again.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
    # In bfloat16 oneDNN keeps what it made for each shape of a product, 1,024 of them by default: more than a gigabyte.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
}


class LocalTrainer:
    def __init__(self, environment: Mapping[str, str], processes: int = 1) -> None:
        """`processes` share the work of each run."""
        self._environment = {**environment, **MALLOC}
        self._processes = [f"--processes={processes}"] if processes > 1 else []

    async def start(self, plan: TrainPlan) -> TrainerRun:
        path = write_plan(plan)
        folder = path.parent
        with (folder / _LOG_FILE).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tailorbird.training",
                str(path),
                f"--exit-with-parent={os.getpid()}",
                *self._processes,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                # A Ctrl-C in the terminal is the worker's to pass on.
                start_new_session=True,
            )
        return LocalRun(folder, process)


def write_plan(plan: TrainPlan) -> Path:
    """Into its run folder, whole or not at all."""
    folder = Path(plan.run_folder)
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{PLAN_FILE}"
    draft.write_text(plan.to_json())
    return draft.replace(folder / PLAN_FILE)


class Training(Protocol):
    """What a run is for its worker: a process of its own, or a place in one."""

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> int: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


class LocalRun:
    def __init__(self, folder: Path, process: Training, tail: Callable[[], str] | None = None) -> None:
        """`tail` answers the end of what the process has logged, where that is not in the folder."""
        self._folder = folder
        self._process = process
        self._tail = tail or partial(_tail, folder / _LOG_FILE)
        self._said_before = len(_read_from(folder / EVENTS_FILE, 0))

    async def events(self) -> AsyncIterator[TrainEvent]:
        offset = 0
        last: TrainEvent | None = None
        while True:
            ended = self._process.returncode is not None
            data = _read_from(self._folder / EVENTS_FILE, offset)
            complete = data[: data.rfind(b"\n") + 1]
            offset += len(complete)
            for line in complete.splitlines():
                last = event_from_line(line.decode())
                # Whether an interruption is this process's or history shows only when the process has ended.
                if not isinstance(last, Interrupted):
                    yield last
                if isinstance(last, Finished | Failed):
                    return
            if ended:
                break
            await asyncio.sleep(_POLL_SECONDS)
        if not isinstance(last, Interrupted):
            raise TrainerCrashed(self._process.returncode or 0, self._tail())
        yield last

    async def stepped(self) -> None:
        # A process answers SIGTERM from its first lines on, but only one that has trained has something to save.
        while self._process.returncode is None:
            if _STEP in _read_from(self._folder / EVENTS_FILE, self._said_before):
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def stop(self, patience: float | None = None) -> None:
        if self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), _STOP_SECONDS if patience is None else patience)
            except TimeoutError:
                await self.kill()

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


def _read_from(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as source:
            source.seek(offset)
            return source.read()
    except FileNotFoundError:
        return b""


def _tail(path: Path) -> str:
    try:
        return path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
    except FileNotFoundError:
        return ""
