"""Runs a client's script in its own environment, with what it has to know in a file, and reads what it printed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from client_runs import ROOT, SCRIPTS, Judge, Result, read_result

_SECONDS = 300


def installed(client: str, version: str) -> Path:
    """The interpreter of the client's environment. Fails naming the make target that makes it."""
    python = ROOT / ".venvs" / f"{client}-{version}" / "bin" / "python"
    assert python.exists(), f"{client} {version} is not installed: `make clients-all` makes its environment"
    return python


def run_script(
    judge: Judge, environment: str, script: str, given: dict[str, Any], folder: Path, *words: str, **variables: str
) -> tuple[Result, dict[str, Any]]:
    """What its calls did, and what else it told; `environment` is the folder below .venvs, without the version."""
    path = folder / f"{judge}.json"
    path.write_text(json.dumps(given), encoding="utf-8")
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AZ", "ARM_"))}
    ended = subprocess.run(
        [str(installed(environment, judge.version)), str(SCRIPTS / script), str(path), *words],
        env={**outside, "NO_PROXY": "localhost,127.0.0.1", **variables},
        capture_output=True, text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
    result = read_result(judge, ended.stdout)
    result.keep()
    told: dict[str, Any] = {}
    for line in ended.stdout.splitlines():
        said = json.loads(line) if line.startswith("{") else {}
        told |= {} if "call" in said else said
    return result, told
