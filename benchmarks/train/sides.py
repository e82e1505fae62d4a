"""A side of the training comparison as a process: started, paced step by step, and asked for its result."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# Large blocks stay with the process: without that, TRL runs at 0.7 of its speed on CPUs. The same for all sides.
VARIABLES = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONPATH": str(ROOT / "src"),
}


def _inherited() -> dict[str, str]:
    """Without a wish on how OpenMP's threads wait: the Makefile's is for busy machines, and with two threads on two
    idle cores it makes steps of many small operations 1.4 times slower."""
    return {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}


@dataclass(frozen=True, eq=False)
class Side:
    name: str
    program: Path
    script: Path
    options: dict[str, Any] = field(default_factory=dict[str, Any])


class SideFailed(Exception):
    """Its message says why, in the side's own words where it has any."""


class Running:
    """A started side. It waits before each step, so two of them can take turns without disturbing each other."""

    def __init__(self, side: Side, task: dict[str, Any], *, limit: float) -> None:
        if not side.program.exists():
            raise SideFailed(f"{side.program.relative_to(ROOT)} is missing: make bench-train builds it")
        self._limit = limit
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        (folder / "task.json").write_text(json.dumps(task | {"options": side.options}))
        self._errors = folder / "stderr"
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                [str(side.program), str(side.script), str(folder / "task.json")],
                env=_inherited() | VARIABLES | {"OMP_NUM_THREADS": str(task["threads"])},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._result: dict[str, Any] | None = None
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
        self._folder.cleanup()

    def ready(self) -> None:
        """Returns when it is loaded."""
        self._until_it_speaks(self._limit)

    def step(self, limit: float | None = None) -> None:
        """Returns after one step."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise SideFailed(self._last_words()) from None
        self._until_it_speaks(limit or self._limit)

    def finish(self) -> dict[str, Any]:
        """Its result over the steps it took."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        while self._result is None:
            self._until_it_speaks(self._limit)
        return self._result

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self._lines.put(line)
        except ValueError:  # closed while it was read
            pass
        self._lines.put(None)

    def _until_it_speaks(self, limit: float) -> None:
        ends = time.monotonic() + limit
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, ends - time.monotonic()))
            except queue.Empty:
                raise SideFailed(f"given up after {limit:.0f} s") from None
            if line is None:
                raise SideFailed(self._last_words())
            if line.startswith("@result "):
                self._result = json.loads(line.removeprefix("@result "))
                return
            if line.startswith("@waiting"):
                return

    def _last_words(self) -> str:
        if self._process.wait() < 0:
            return f"ended by signal {-self._process.returncode}"
        words = self._errors.read_text(errors="replace").strip().splitlines()
        return words[-1][:300] if words else f"exit status {self._process.returncode}"


def run(side: Side, task: dict[str, Any], *, limit: float, step_limit: float | None = None) -> dict[str, Any]:
    """The result of all the task's steps, one after the other."""
    with Running(side, task, limit=limit) as running:
        running.ready()
        for number in range(task["steps"]):
            running.step(step_limit if number else limit)
        return running.finish()
