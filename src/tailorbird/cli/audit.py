"""`tailorbird audit`: the audit trail, read straight from the database of DATA_DIR."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tailorbird import settings as settings_module
from tailorbird.cli.access import Output, Shape
from tailorbird.domain.audit import Entry, Wanted
from tailorbird.domain.errors import ServiceError
from tailorbird.service.audit import Audit, outcome_named, time_named

_PAGE = 1000
_COLUMNS = ("time", "outcome", "principal", "from", "action", "resource", "detail")


def audit(
    scope: Annotated[str, typer.Option(help="At or below this ARM id.")] = "/",
    principal: Annotated[str | None, typer.Option(help="Id or name of who did it.")] = None,
    action: Annotated[str | None, typer.Option(help="Its full name, or the beginning of one and an asterisk.")] = None,
    outcome: Annotated[str | None, typer.Option(help="Succeeded or Denied.")] = None,
    since: Annotated[str | None, typer.Option(help="ISO 8601; in UTC without a zone.")] = None,
    until: Annotated[str | None, typer.Option(help="ISO 8601, not included.")] = None,
    request_id: Annotated[str | None, typer.Option(help="The x-request-id of one request.")] = None,
    limit: Annotated[int, typer.Option(help="The newest so many.", min=1)] = 50,
    data_dir: Annotated[str | None, typer.Option(help="Folder of the installation; default as for `up`.")] = None,
    output: Shape = Output.TABLE,
) -> None:
    """Prints who did what, newest first (works on the database)."""
    try:
        wanted = Wanted(
            scopes=(scope,),
            principal=principal,
            action=action,
            outcome=None if outcome is None else outcome_named(outcome),
            request_id=request_id,
            since=None if since is None else time_named(since, "since"),
            until=None if until is None else time_named(until, "until"),
        )
        entries = _read(data_dir, wanted, limit)
    except (ServiceError, ValueError) as error:
        typer.echo(f"tailorbird audit: {error}", err=True)
        raise typer.Exit(1) from error
    if output is Output.JSON:
        from tailorbird.api.audit import entry_body

        typer.echo(json.dumps([entry_body(entry) for entry in entries], indent=2))
        return
    _print(entries)


def _read(data_dir: str | None, wanted: Wanted, limit: int) -> list[Entry]:
    from tailorbird import wiring

    settings = settings_module.load({"data_dir": data_dir})
    wiring.migrate_database(settings)
    trail = Audit(wiring.build_store(settings))
    found: list[Entry] = []
    while len(found) < limit:
        before = found[-1].number if found else None
        page = trail.list(wanted, before=before, limit=min(_PAGE, limit - len(found)))
        found += page.items
        if not page.has_more:
            break
    return found


def _print(entries: list[Entry]) -> None:
    """One line each and nothing cut or wrapped: an id cut short names nothing, and lines are there to be searched."""
    rows = [_COLUMNS, *(_row(entry) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _row(entry: Entry) -> tuple[str, ...]:
    who = entry.principal_name or entry.principal_id or "(unknown)"
    at = entry.at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return at, entry.outcome.value, who, entry.address or "-", entry.action, entry.resource, entry.detail
