"""Writes docs/clients.md from the results that `make test-wire` left behind.

    python tools/clients_table.py RESULTS-FOLDER

A result is one JSON file for each client, version, surface and mode, written by tests/live/client_runs.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "clients.md"

HEAD = """\
# Clients

Made by `make test-wire`, which runs each of these unmodified clients against a live server; `make test` runs a quick
set and compares its rows. Every call's answer is checked, not only its status; on `openai` the SDK validates strictly.

| client | version | surface | mode | calls | passed |
| --- | --- | --- | --- | --- | --- |
"""


def row(result: Mapping[str, Any]) -> str:
    """The line of one run: its `judge`, the `calls` it made, those that `failed`."""
    judge, calls = result["judge"], len(result["calls"])
    who = " | ".join(judge[key] for key in ("client", "version", "surface", "mode"))
    return f"| {who} | {calls} | {calls - len(result['failed'])} |"


def page(results: Iterable[Mapping[str, Any]]) -> str:
    """The whole page, ordered by client, version and surface."""
    return HEAD + "".join(f"{row(result)}\n" for result in sorted(results, key=_place))


def _place(result: Mapping[str, Any]) -> tuple[str, list[int], str, str]:
    judge = result["judge"]
    return judge["client"], _numbers(judge["version"]), judge["surface"], judge["mode"]


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdecimal()]


if __name__ == "__main__":
    found = sorted(Path(sys.argv[1]).glob("*.json"))
    if not found:
        sys.exit(f"{sys.argv[1]} holds no results; `make test-wire` makes them")
    PAGE.write_text(page(json.loads(path.read_text(encoding="utf-8")) for path in found), encoding="utf-8")
