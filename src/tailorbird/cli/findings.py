"""jobs findings: where harm was found in a job's data, through the public API as in `remote`."""

from __future__ import annotations

import json
from typing import Any

import typer
from rich.table import Table

from tailorbird.cli import remote
from tailorbird.cli.usage import Plain, PlainOutput

_COLUMNS = ("file", "line", "role", "category", "severity")


def findings(
    job_id: remote.JobId,
    output: PlainOutput = Plain.TABLE,
) -> None:
    """Lists where harm was found in a job's data: file, line, role, category and severity."""
    rows: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    more = True
    while more:
        page = remote.own("GET", f"/fine_tuning/jobs/{job_id}/findings", params={"limit": "100", **after}).json()
        rows += page["data"]
        more = page["has_more"]
        after = {"after": page["last_id"]}
    if output is Plain.JSON:
        typer.echo(json.dumps(rows, indent=1))
        return
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(str(row[name]) for name in _COLUMNS))
    remote.console.print(table)
    typer.echo(f"{len(rows)} finding(s)")
