"""Runs a vendor's client in an environment of its own and keeps what each of its calls did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from shared_service import Served

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "tests" / "wire" / "clients"
RESULTS_VARIABLE = "WIRE_RESULTS"
"""Names a folder; each run leaves its result there, and tools/clients_table.py makes the table of them."""
RUN_SECONDS = 400
PARALLEL_RUNS = 3


@dataclass(frozen=True, order=True)
class Judge:
    """One client in one version, on one surface, used in one way."""

    client: str
    version: str
    surface: str
    mode: str

    def __str__(self) -> str:
        return f"{self.client}-{self.version}-{self.surface}-{self.mode}".replace(" ", "-")

    @property
    def trains(self) -> bool:
        return self.mode.endswith(" training")


@dataclass(frozen=True)
class Result:
    """`calls` are the names of those that were made, in order; `failed` name to reason; `absent` is not in the SDK."""

    judge: Judge
    calls: tuple[str, ...]
    failed: dict[str, str]
    absent: tuple[str, ...] = ()

    def keep(self) -> None:
        """Writes it where WIRE_RESULTS says; nowhere when it says nothing."""
        folder = os.environ.get(RESULTS_VARIABLE)
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / f"{self.judge}.json").write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


def openai_python(wanted: str) -> Path:
    """The interpreter that has this version of openai. Fails naming the make target that installs it."""
    if wanted == version("openai"):
        return Path(sys.executable)
    python = ROOT / ".venvs" / f"openai-{wanted}" / "bin" / "python"
    assert python.exists(), f"openai {wanted} is not installed: `make clients-all` makes its environment"
    return python


class Runs:
    """All runs that were asked for, some at a time: most of a run is waiting for a job."""

    def __init__(self, served: Served, sections: tuple[str, ...], folder: Path) -> None:
        self._served = served
        self._sections = sections
        self._folder = folder
        self._pool = ThreadPoolExecutor(PARALLEL_RUNS)
        self._futures: dict[Judge, Future[Result]] = {}

    def begin(self, judges: list[Judge]) -> None:
        for judge in judges:
            if judge not in self._futures:
                self._futures[judge] = self._pool.submit(self._run, judge)

    def result(self, judge: Judge) -> Result:
        self.begin([judge])
        return self._futures[judge].result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _run(self, judge: Judge) -> Result:
        given = self._served.given(("training",) if judge.trains else self._sections)
        if "permissions" in given["sections"] and judge.surface == "openai":
            # Checkpoints are given to projects; each run has its own.
            given["project"] = self._served.other_account(f"wire-{judge.mode}-{judge.version}".replace(".", "-"))
        path = self._folder / f"{judge}.json"
        path.write_text(json.dumps(given), encoding="utf-8")
        command = [str(openai_python(judge.version)), str(SCRIPTS / "openai_calls.py"), str(path)]
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OPENAI", "AZ"))}
        ended = subprocess.run(
            [*command, judge.surface, judge.mode.removesuffix(" training")],
            env={**outside, "NO_PROXY": "localhost,127.0.0.1"},
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
        result = read_result(judge, ended.stdout)
        result.keep()
        return result


def read_result(judge: Judge, output: str) -> Result:
    """What a script printed, line by line."""
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    calls = [line for line in lines if "call" in line]
    absent = next(line["absent"] for line in lines if "absent" in line)
    failed = {line["call"]: line["detail"] for line in calls if not line["ok"]}
    return Result(judge, tuple(line["call"] for line in calls), failed, tuple(absent))
