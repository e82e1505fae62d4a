"""usage, budget, jobs estimate: what things cost, through the public API as in `remote`."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table

from tailorbird.cli import remote

budget = typer.Typer(no_args_is_help=True, help="What an account may spend, and what happens when it has.")


_SOURCES = {
    "jobs": "from {} finished job(s)",
    "calibration": "from a short measurement on this machine: no job has been trained on this base yet",
    "catalogue": "from the catalogue: this machine was not measured",
}


_CHARGE_COLUMNS: Sequence[str] = (
    "id", "at", "account", "job", "deployment", "model", "meter", "quantity", "unit", "unit_price", "amount",
    "price_list",
)  # fmt: skip


class Shape(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class Plain(StrEnum):
    TABLE = "table"
    JSON = "json"


PlainOutput = Annotated[Plain, typer.Option("--output", "-o", help="How to print.")]


def usage(
    start: Annotated[str | None, typer.Option(help="A day or a moment; default: the first of this month.")] = None,
    end: Annotated[str | None, typer.Option(help="Not included itself; default: now.")] = None,
    by: Annotated[str, typer.Option(help="day, model, deployment or account.")] = "day",
    all_accounts: Annotated[bool, typer.Option("--all", help="Every account the application may see.")] = False,
    charges: Annotated[bool, typer.Option("--charges", help="Each charge instead of totals; newest first.")] = False,
    output: Annotated[Shape, typer.Option("--output", "-o", help="How to print.")] = Shape.TABLE,
) -> None:
    """Prints what was used and what it cost."""
    query = {"start": start or "", "end": end or ""}
    everywhere = all_accounts or by == "account"
    if charges:
        _print_charges(query, everywhere, output)
        return
    shape = "csv" if output is Shape.CSV else "json"
    answer = remote.own(
        "GET",
        "/usage",
        as_application=everywhere,
        any_account=everywhere,
        params={**query, "group_by": by, "format": shape},
    )
    if output is Shape.CSV:
        typer.echo(answer.text, nl=False)
        return
    found = answer.json()
    if output is Shape.JSON:
        typer.echo(json.dumps(found, indent=1))
        return
    _table((by, "meter", "quantity", "unit_price", "amount"), found["data"])
    typer.echo(f"total {found['total']} {found['currency']} from {found['start']} to {found['end']}")
    for one in found["budgets"]:
        typer.echo(f"budget of {one['account']}: {_budget_line(one)}")


def estimate(
    training_file: Annotated[str, typer.Argument(help="file-… of the training data")],
    model: Annotated[str, typer.Option(help="A base model's or a fine-tuned model's name.")] = "gpt-35-turbo-0613",
    validation_file: Annotated[str | None, typer.Option(help="file-… of the validation data.")] = None,
    n_epochs: Annotated[int | None, typer.Option(help="Default: chosen from the data.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Default: chosen from the data.")] = None,
    method: Annotated[str | None, typer.Option(help="supervised (the default), or dpo for preference pairs.")] = None,
    output: PlainOutput = Plain.TABLE,
) -> None:
    """Tells what a job would take and cost; nothing is started.

    The first time for a base model it measures how fast this machine trains it, which takes about half a minute.
    """
    chosen = {"n_epochs": n_epochs, "batch_size": batch_size}
    body: dict[str, Any] = {
        "model": model,
        "training_file": training_file,
        "validation_file": validation_file,
        "hyperparameters": {name: value for name, value in chosen.items() if value is not None},
        "method": None if method is None else {"type": method},
    }
    sent = {name: value for name, value in body.items() if value is not None}
    found = remote.own("POST", "/fine_tuning/jobs/estimate", json=sent).json()
    if output is Plain.JSON:
        typer.echo(json.dumps(found, indent=1))
        return
    price, seconds = found["price"], found["total_seconds"]
    about = "" if found["tokens_are_exact"] else "about "
    source = _SOURCES[found["times_from"]].format(found["measured_runs"])
    typer.echo(f"tokens  {about}{found['trained_tokens']:,} in {found['hyperparameters']['n_epochs']} epoch(s)")
    typer.echo(f"steps   {found['steps']:,} of batch size {found['hyperparameters']['batch_size']}")
    typer.echo(f"time    {_span(seconds['likely'])} ({_span(seconds['low'])} to {_span(seconds['high'])}), {source}")
    typer.echo(f"price   {price['amount']} {price['currency']} ({price['low']} to {price['high']})")


@budget.command("show")
def show_budget(
    output: PlainOutput = Plain.TABLE,
) -> None:
    """Prints the account's budget and how much of it is spent."""
    found = remote.own("GET", "/budget").json()
    typer.echo(_budget_line(found) if output is Plain.TABLE else json.dumps(found, indent=1))


@budget.command("set")
def set_budget(
    amount: Annotated[str, typer.Argument(help="In the price list's currency, as 250.00.")],
    period: Annotated[str, typer.Option(help="day, month or year, in UTC.")] = "month",
    stop_jobs: Annotated[bool, typer.Option(help="Refuse new fine-tuning jobs once it is spent.")] = True,
    retire_deployments: Annotated[bool, typer.Option(help="Delete deployments once it is spent.")] = False,
) -> None:
    """Sets the account's budget, as the service principal: a key cannot."""
    chosen = ((stop_jobs, "stop_jobs"), (retire_deployments, "retire_deployments"))
    body = {"amount": amount, "period": period, "actions": [name for on, name in chosen if on]}
    typer.echo(_budget_line(remote.own("PUT", "/budget", as_application=True, json=body).json()))


@budget.command("remove")
def remove_budget() -> None:
    """Removes the account's budget."""
    remote.own("DELETE", "/budget", as_application=True)


def _print_charges(query: dict[str, str], everywhere: bool, output: Shape) -> None:
    rows: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    more = True
    while more:
        page = remote.own(
            "GET",
            "/usage/charges",
            as_application=everywhere,
            any_account=everywhere,
            params={**query, "limit": "1000", **after},
        ).json()
        rows += page["data"]
        more = page["has_more"]
        after = {"after": page["last_id"]}
    if output is Shape.TABLE:
        _table(("at", "job", "deployment", "model", "meter", "quantity", "unit_price", "amount"), rows)
    elif output is Shape.JSON:
        typer.echo(json.dumps(rows, indent=1))
    else:
        writer = csv.DictWriter(sys.stdout, _CHARGE_COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _budget_line(found: dict[str, Any]) -> str:
    actions = " and ".join(found["actions"]).replace("_", " ") or "only warn"
    text = f"{found['spent']} of {found['amount']} {found['currency']} this {found['period']}; then: {actions}"
    return f"{text} ({found['reached']} % reached)" if found["reached"] else text


def _table(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*("" if row[name] is None else str(row[name]) for name in columns))
    remote.console.print(table)


def _span(seconds: float) -> str:
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h {whole % 3600 // 60} min"
