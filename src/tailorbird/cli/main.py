"""up, serve, worker, engine, migrate, train: each starts something."""

from __future__ import annotations

import asyncio
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from tailorbird import settings as settings_module
from tailorbird.cli import access, accounts, audit, findings, remote, usage
from tailorbird.protocol import logs
from tailorbird.service import acting
from tailorbird.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    # A traceback with the values of local variables would print keys.
    pretty_exceptions_enable=False,
    help="A self-hosted fine-tuning service that speaks Azure OpenAI. `tailorbird up` starts everything here.",
)

app.add_typer(remote.files, name="files")
app.add_typer(remote.jobs, name="jobs")
app.add_typer(remote.deployments, name="deployments")
app.add_typer(access.app, name="access")
app.add_typer(accounts.app, name="accounts")
app.add_typer(usage.budget, name="budget")
remote.jobs.command("estimate")(usage.estimate)
remote.jobs.command("findings")(findings.findings)
app.command("usage")(usage.usage)
app.command("chat")(remote.chat)
app.command("audit")(audit.audit)

DataDir = Annotated[str | None, typer.Option(help="Folder for everything this machine keeps.")]
Port = Annotated[int | None, typer.Option(help="Port of the data plane (http); 0 picks a free one.")]
ArmPort = Annotated[int | None, typer.Option(help="Port of the control plane (https); 0 picks a free one.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on; loopback unless told otherwise.")]


def _settings(**options: object) -> Settings:
    try:
        loaded = settings_module.load(options)
        logs.set_up(loaded.log_level, acting.facts)
        loaded.engines  # noqa: B018
        loaded.issuers  # noqa: B018
        loaded.moderation  # noqa: B018
        loaded.thresholds  # noqa: B018
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return loaded


def _run(main: Callable[[asyncio.Event], object]) -> None:
    """Runs an async main with an event that SIGINT and SIGTERM set."""

    async def with_signals() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await main(stop)  # type: ignore[misc]

    logs.catch_the_rest()
    asyncio.run(with_signals())


@app.command()
def up(data_dir: DataDir = None, port: Port = None, arm_port: ArmPort = None, host: Host = None) -> None:
    """Starts server, worker and engine on this machine, creating what is missing, and prints one `ready` line.

    Keys and addresses are then in DATA_DIR/credentials.env. Ctrl-C stops everything it started.
    """
    from tailorbird.cli.up import Up, UpFailed

    settings = _settings(data_dir=data_dir, port=port, arm_port=arm_port, host=host)
    try:
        _run(Up(settings).run)
    except (UpFailed, OSError) as error:
        typer.echo(f"tailorbird up: {error}", err=True)
        raise typer.Exit(1) from error


@app.command()
def serve(data_dir: DataDir = None, port: Port = None, arm_port: ArmPort = None, host: Host = None) -> None:
    """Starts the server alone (data plane and control plane); engines come from TAILORBIRD_ENGINE_URLS."""
    from tailorbird.cli.up import Front

    settings = _settings(data_dir=data_dir, port=port, arm_port=arm_port, host=host)
    try:
        front = Front(settings)
        _run(lambda stop: front.serve(settings, stop))
    except OSError as error:
        typer.echo(f"tailorbird serve: {error}", err=True)
        raise typer.Exit(1) from error


@app.command()
def worker(
    data_dir: DataDir = None,
    exit_with_parent: Annotated[
        int | None, typer.Option(help="End when the process with this id, which started this one, ends.")
    ] = None,
) -> None:
    """Starts one worker: it claims fine-tuning jobs and trains each in a child process of its own."""
    from tailorbird import wiring
    from tailorbird.protocol.parent import end_with_parent

    if exit_with_parent is not None:
        end_with_parent(exit_with_parent)
    settings = _settings(data_dir=data_dir)
    wiring.migrate_database(settings)
    built = wiring.build_worker(settings)
    try:
        wiring.expose_worker(settings, built)
    except OSError as error:
        typer.echo(f"tailorbird worker: TAILORBIRD_WORKER_METRICS_PORT: {error}", err=True)
        raise typer.Exit(1) from error

    async def main(stop: asyncio.Event) -> None:
        task = asyncio.create_task(built.run())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        built.stop()
        await task

    _run(main)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def engine(context: typer.Context) -> None:
    """Starts an inference engine: options are those of `python -m tailorbird.serving` (try `--help` there)."""
    raise typer.Exit(subprocess.call([sys.executable, "-m", "tailorbird.serving", *context.args]))


@app.command()
def migrate(data_dir: DataDir = None) -> None:
    """Brings the database to this version's tables; every other command does it too."""
    from tailorbird import wiring

    settings = _settings(data_dir=data_dir)
    wiring.migrate_database(settings)
    typer.echo(f"The database {settings.resolved_database_url} is up to date.")


@app.command()
def train(
    plans: Annotated[list[Path], typer.Argument(metavar="PLAN", help="plan.json of a run folder.", exists=True)],
) -> None:
    """Runs the trainer on a plan, as the worker does, or on several side by side; events go to their run folders."""
    sys.argv = ["tailorbird.training", *map(str, plans)]
    runpy.run_module("tailorbird.training", run_name="__main__")


@app.command()
def settings() -> None:
    """Prints every setting as Markdown; docs/settings.md is this output."""
    typer.echo(settings_module.as_markdown(), nl=False)


if __name__ == "__main__":
    app()
