"""The Azure CLI in an environment and a configuration folder of its own, told of our cloud."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client_runs import ROOT
from ledger import Ledger

VERSION = "2.91.0"
SURFACE = "control plane"
_SECONDS = 120


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


class AzureCli:
    """`az` with one configuration folder: what it logs in with there it remembers there."""

    def __init__(self, folder: Path, bundle: str, ledger: Ledger) -> None:
        self._az = ROOT / ".venvs" / f"azure-cli-{VERSION}" / "bin" / "az"
        assert self._az.exists(), f"azure-cli {VERSION} is not installed: `make clients-all` makes its environment"
        self._ledger = ledger
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AZ", "ARM_"))}
        self._environment = {
            **outside,
            "AZURE_CONFIG_DIR": str(folder),
            "AZURE_CORE_COLLECT_TELEMETRY": "false",
            "AZURE_CORE_NO_COLOR": "true",
            "REQUESTS_CA_BUNDLE": bundle,
            "NO_PROXY": "localhost,127.0.0.1",
        }

    def ok(self, command: str, *arguments: str, name: str = "") -> Any:
        """What the command prints, as JSON; None when it prints nothing. It has to end with 0."""
        with self._ledger.call(SURFACE, command, name or " ".join(arguments)):
            ended = self._end([*command.split(), *arguments, "--output", "json"])
            assert ended.code == 0, f"az {command} ended with {ended.code}: {ended.err[-3000:]}"
            return json.loads(ended.out) if ended.out.strip() else None

    def refused(self, command: str, *arguments: str, saying: Sequence[str]) -> None:
        """The command has to fail, and to say each of these."""
        with self._ledger.call(SURFACE, command, f"refused: {' '.join(arguments)}"):
            ended = self._end([*command.split(), *arguments])
            assert ended.code != 0, ended.out
            assert "Traceback" not in ended.err, ended.err
            missing = [text for text in saying if text not in ended.err]
            assert not missing, f"{missing} is not in: {ended.err[-3000:]}"

    def start(self, *words: str) -> subprocess.Popen[str]:
        """The command while it runs, for one that asks for something first."""
        return subprocess.Popen(
            [str(self._az), *words],
            env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def _end(self, words: list[str]) -> Ended:
        ended = subprocess.run(
            [str(self._az), *words],
            env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS,
            check=False,
        )  # fmt: skip
        return Ended(ended.returncode, ended.stdout, ended.stderr)
