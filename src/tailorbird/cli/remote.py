"""files, jobs, deployments, chat: a client of the public HTTP API and nothing else.

Endpoint, key and the rest come from the environment, as `credentials.env` sets it (`source DATA_DIR/credentials.env`).
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import httpx
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

files = typer.Typer(no_args_is_help=True, help="Training, validation and result files.")
jobs = typer.Typer(no_args_is_help=True, help="Fine-tuning jobs.")
deployments = typer.Typer(no_args_is_help=True, help="Deployments of base and fine-tuned models.")

_PAGE = 100
_ENDED = ("succeeded", "failed", "cancelled")
_TIMEOUT = httpx.Timeout(600.0, connect=5.0)
console = Console()

JobId = Annotated[str, typer.Argument(help="ftjob-…")]
FileId = Annotated[str, typer.Argument(help="file-…")]


# --- files ------------------------------------------------------------------------------------------------------------


@files.command("upload")
def upload(path: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A JSONL file.")]) -> None:
    """Uploads a JSONL file for fine-tuning, waits until it is checked and prints its id."""
    with path.open("rb") as source:
        row = _data("POST", "/files", data={"purpose": "fine-tune"}, files={"file": (path.name, source)})
    while row["status"] in ("pending", "running", "uploaded"):
        time.sleep(0.2)
        row = _data("GET", f"/files/{row['id']}")
    if row["status"] != "processed":
        _fail(f"{path} was refused:\n{row.get('status_details') or row['status']}")
    typer.echo(row["id"])


@files.command("list")
def list_files() -> None:
    """Lists files, newest first."""
    columns = ("id", "filename", "purpose", "status", "bytes")
    _table(columns, ([str(row.get(name, "")) for name in columns] for row in _pages("/files")))


@files.command("content")
def content(file_id: FileId) -> None:
    """Writes a file's bytes to standard output."""
    with _client().stream("GET", _url(f"/files/{file_id}/content")) as response:
        if response.status_code != 200:
            response.read()
            _refused(response)
        for chunk in response.iter_bytes():
            sys.stdout.buffer.write(chunk)


@files.command("delete")
def delete_file(file_id: FileId) -> None:
    """Deletes a file."""
    _data("DELETE", f"/files/{file_id}")


# --- jobs -------------------------------------------------------------------------------------------------------------


@jobs.command("create")
def create_job(
    training_file: Annotated[str, typer.Argument(help="file-… of the training data")],
    model: Annotated[str, typer.Option(help="A base model's or a fine-tuned model's name.")] = "gpt-35-turbo-0613",
    validation_file: Annotated[str | None, typer.Option(help="file-… of the validation data.")] = None,
    suffix: Annotated[str | None, typer.Option(help="Stands at the end of the model's name.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same model.")] = None,
    n_epochs: Annotated[int | None, typer.Option(help="Default: chosen from the data.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Default: chosen from the data.")] = None,
    learning_rate_multiplier: Annotated[float | None, typer.Option(help="Default: 1.")] = None,
    method: Annotated[str | None, typer.Option(help="supervised (the default), or dpo for preference pairs.")] = None,
    beta: Annotated[float | None, typer.Option(help="With dpo: up to 2; default: 0.1.")] = None,
    follow: Annotated[bool, typer.Option(help="Stay until the job has ended.")] = False,
) -> None:
    """Starts a fine-tuning job and prints its id."""
    parameters = {
        "n_epochs": n_epochs,
        "batch_size": batch_size,
        "learning_rate_multiplier": learning_rate_multiplier,
        "beta": beta,
    }
    body: dict[str, Any] = {
        "model": model,
        "training_file": training_file,
        "validation_file": validation_file,
        "suffix": suffix,
        "seed": seed,
        "hyperparameters": {name: value for name, value in parameters.items() if value is not None},
        "method": None if method is None else {"type": method},
    }
    row = _data("POST", "/fine_tuning/jobs", json={name: value for name, value in body.items() if value is not None})
    typer.echo(row["id"])
    if follow:
        follow_job(row["id"])


@jobs.command("list")
def list_jobs() -> None:
    """Lists jobs, newest first."""
    columns = ("id", "status", "model", "fine_tuned_model")
    _table(columns, ([str(row.get(name) or "") for name in columns] for row in _pages("/fine_tuning/jobs")))


@jobs.command("show")
def show_job(job_id: JobId) -> None:
    """Prints a job as JSON."""
    typer.echo(json.dumps(_data("GET", f"/fine_tuning/jobs/{job_id}"), indent=1))


@jobs.command("events")
def events(job_id: JobId) -> None:
    """Prints a job's events, oldest first."""
    for event in reversed(list(_pages(f"/fine_tuning/jobs/{job_id}/events"))):
        typer.echo(f"{_moment(event['created_at'])} {event['level']:7} {event['message']}")


@jobs.command("checkpoints")
def checkpoints(job_id: JobId) -> None:
    """Lists a job's checkpoints, the last first."""
    rows = (
        [row["id"], str(row["step_number"]), row["fine_tuned_model_checkpoint"], _loss(row["metrics"])]
        for row in _pages(f"/fine_tuning/jobs/{job_id}/checkpoints")
    )
    _table(("id", "step", "model", "loss (train / validation)"), rows)


@jobs.command("cancel")
def cancel(job_id: JobId) -> None:
    """Cancels a job that has not ended."""
    typer.echo(_data("POST", f"/fine_tuning/jobs/{job_id}/cancel")["status"])


@jobs.command("pause")
def pause(job_id: JobId) -> None:
    """Pauses a job that trains; its checkpoint can be deployed."""
    typer.echo(_data("POST", f"/fine_tuning/jobs/{job_id}/pause")["status"])


@jobs.command("resume")
def resume(job_id: JobId) -> None:
    """Goes on with a paused job."""
    typer.echo(_data("POST", f"/fine_tuning/jobs/{job_id}/resume")["status"])


@jobs.command("follow")
def follow_job(job_id: JobId) -> None:
    """Shows a job's progress until it has ended; exit code 1 unless it succeeded."""
    seen: set[str] = set()
    with Progress(console=console) as progress:
        task = progress.add_task("waiting", total=None)
        while True:
            row = _data("GET", f"/fine_tuning/jobs/{job_id}")
            page = _data("GET", f"/fine_tuning/jobs/{job_id}/events", params={"limit": _PAGE})
            for event in reversed([event for event in page["data"] if event["id"] not in seen]):
                seen.add(event["id"])
                numbers: dict[str, Any] = event.get("data") or {}
                step = numbers.get("step")
                if step is None:
                    progress.console.print(event["message"], markup=False)
                else:
                    progress.update(task, completed=step, total=numbers.get("total_steps"), description=row["status"])
            if row["status"] in _ENDED:
                break
            time.sleep(1.0)
    if row["status"] != "succeeded":
        error: dict[str, Any] = row.get("error") or {}
        _fail(error.get("message") or f"the job was {row['status']}")
    typer.echo(row["fine_tuned_model"])


# --- deployments ------------------------------------------------------------------------------------------------------


@deployments.command("create")
def create_deployment(
    name: Annotated[str, typer.Argument(help="What clients will give as model.")],
    model: Annotated[str, typer.Argument(help="A fine-tuned model, a checkpoint (name or ftchkpt-…) or a base model.")],
    sku: Annotated[str, typer.Option(help="Standard, GlobalStandard, DeveloperTier, …")] = "Standard",
    capacity: Annotated[int, typer.Option(help="Thousands of tokens per minute.")] = 10,
) -> None:
    """Deploys a model and waits until it answers."""
    body = {
        "sku": {"name": sku, "capacity": capacity},
        "properties": {"model": {"format": "OpenAI", "name": model}},
    }
    row = _control("PUT", f"/deployments/{name}", body)
    while row["properties"]["provisioningState"] not in ("Succeeded", "Failed", "Canceled"):
        time.sleep(0.3)
        row = _control("GET", f"/deployments/{name}")
    if row["properties"]["provisioningState"] != "Succeeded":
        _fail(f"the deployment failed: {json.dumps(row['properties'])}")
    typer.echo(row["name"])


@deployments.command("list")
def list_deployments() -> None:
    """Lists deployments."""
    rows = (
        [row["name"], row["properties"]["model"]["name"], row["sku"]["name"], row["properties"]["provisioningState"]]
        for row in _control("GET", "/deployments")["value"]
    )
    _table(("name", "model", "sku", "state"), rows)


@deployments.command("delete")
def delete_deployment(name: str) -> None:
    """Deletes a deployment; its model stays."""
    _control("DELETE", f"/deployments/{name}")


def chat(
    deployment: Annotated[str, typer.Argument(help="Name of a deployment.")],
    message: Annotated[str, typer.Argument(help="What to say.")],
    system: Annotated[str | None, typer.Option(help="The system message; use the one of the training data.")] = None,
    temperature: Annotated[float, typer.Option(help="0 is the likeliest answer.")] = 1.0,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer.")] = None,
) -> None:
    """Sends one message to a deployment and prints the answer as it comes."""
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": message})
    body: dict[str, Any] = {"messages": messages, "temperature": temperature, "stream": True}
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    with _client().stream("POST", _url(f"/deployments/{deployment}/chat/completions"), json=body) as response:
        if response.status_code != 200:
            response.read()
            _refused(response)
        for line in response.iter_lines():
            data = line.removeprefix("data:").strip()
            if line.startswith("data:") and data != "[DONE]":
                for choice in json.loads(data)["choices"]:
                    typer.echo(choice["delta"].get("content") or "", nl=False)
    typer.echo()


# --- the wire ---------------------------------------------------------------------------------------------------------


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        _fail(f"{name} is not set. `source DATA_DIR/credentials.env` sets it for an installation of `tailorbird up`.")
    return value


def _url(path: str) -> str:
    return f"{_variable('AZURE_OPENAI_ENDPOINT').rstrip('/')}/openai{path}"


def _client() -> httpx.Client:
    return httpx.Client(
        headers={"api-key": _variable("AZURE_OPENAI_API_KEY")},
        params={"api-version": os.environ.get("OPENAI_API_VERSION", "2024-10-21")},
        timeout=_TIMEOUT,
    )


def _data(method: str, path: str, **options: Any) -> dict[str, Any]:
    with _client() as client:
        return _answer(client, method, _url(path), **options)


def _control(method: str, path: str, body: object = None) -> dict[str, Any]:
    """A control-plane call below the account's resource id, with a token of the service principal."""
    trusted = ssl.create_default_context(cafile=os.environ.get("REQUESTS_CA_BUNDLE"))
    account = (
        f"{_variable('ARM_ENDPOINT')}/subscriptions/{_variable('AZURE_SUBSCRIPTION_ID')}/resourceGroups/"
        f"{_variable('AZURE_RESOURCE_GROUP')}/providers/Microsoft.CognitiveServices/accounts/"
        f"{_variable('AZURE_OPENAI_RESOURCE')}"
    )
    with httpx.Client(verify=trusted, timeout=_TIMEOUT) as client:
        headers = {"Authorization": f"Bearer {_token(client)}"}
        return _answer(client, method, account + path, headers=headers, params={"api-version": "2023-05-01"}, json=body)


def _token(client: httpx.Client) -> str:
    """The service principal's, for the control plane and what is paid for."""
    login = {
        "grant_type": "client_credentials",
        "client_id": _variable("AZURE_CLIENT_ID"),
        "client_secret": _variable("AZURE_CLIENT_SECRET"),
        "scope": "https://management.azure.com/.default",
    }
    authority = f"{_variable('AZURE_AUTHORITY_HOST')}/{_variable('AZURE_TENANT_ID')}"
    return _answer(client, "POST", f"{authority}/oauth2/v2.0/token", data=login)["access_token"]


def _answer(client: httpx.Client, method: str, url: str, **options: Any) -> dict[str, Any]:
    response = _answered(client, method, url, **options)
    return response.json() if response.content else {}


def _answered(client: httpx.Client, method: str, url: str, **options: Any) -> httpx.Response:
    try:
        response = client.request(method, url, **options)
    except httpx.TransportError as error:
        _fail(f"{url} cannot be reached: {error}")
    if response.is_error:
        _refused(response)
    return response


def own(
    method: str, path: str, *, as_application: bool = False, any_account: bool = False, **options: Any
) -> httpx.Response:
    """A call below our own prefix; with a token of the service principal where a key is not enough, about this account
    or, with `any_account`, about all that it may see."""
    headers = {"api-key": _variable("AZURE_OPENAI_API_KEY")}
    trusted = ssl.create_default_context(cafile=os.environ.get("REQUESTS_CA_BUNDLE"))
    with httpx.Client(verify=trusted, timeout=_TIMEOUT) as client:
        if as_application:
            meant = {} if any_account else {"x-tailorbird-account": _variable("AZURE_OPENAI_RESOURCE")}
            headers = {"Authorization": f"Bearer {_token(client)}", **meant}
        url = f"{_variable('AZURE_OPENAI_ENDPOINT').rstrip('/')}/tailorbird/v1{path}"
        return _answered(client, method, url, headers=headers, **options)


def _pages(path: str) -> Iterator[dict[str, Any]]:
    after: dict[str, str] = {}
    while True:
        page = _data("GET", path, params={"limit": str(_PAGE), **after})
        yield from page["data"]
        if not page["data"] or not page.get("has_more"):
            return
        after = {"after": page["data"][-1]["id"]}


def _refused(response: httpx.Response) -> NoReturn:
    try:
        body: dict[str, Any] = response.json()
        # A token endpoint answers OAuth's shape: `error` is a word there.
        error: dict[str, Any] | str = body.get("error", body)
        message = body.get("error_description", error) if isinstance(error, str) else error.get("message", error)
    except ValueError:
        message = response.text
    _fail(f"{response.status_code}: {message}")


def _fail(message: object) -> NoReturn:
    typer.echo(f"tailorbird: {message}", err=True)
    raise typer.Exit(1)


def _table(columns: tuple[str, ...], rows: Iterator[list[str]]) -> None:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _loss(metrics: dict[str, float]) -> str:
    shown = [metrics.get("train_loss"), metrics.get("full_valid_loss")]
    return " / ".join("-" if value is None else f"{value:.4f}" for value in shown)


def _moment(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
