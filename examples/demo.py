"""Microsoft's documented fine-tuning flow against Tailorbird, with the unmodified openai SDK and requests.

    python examples/demo.py [--train FILE] [--valid FILE] [--test FILE] [--base-model NAME] [--port 0] [--out FOLDER]

Starts `tailorbird up`, uploads the files, trains, deploys the tuned and the plain base model, asks both every held-out
question and compares. Exit code 1 when the tuned model does not answer more of them exactly right than the base.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import requests
from demo_files import DemoError, Question, hold_out, questions, read_lines
from demo_report import Outcome, checkpoint_table, plot, show_answers, write_report
from demo_service import Service
from openai import AzureOpenAI
from openai.types.fine_tuning import FineTuningJob
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

HERE = Path(__file__).parent
SEED = 105  # the one in Microsoft's tutorial
TUNED_DEPLOYMENT = "demo-tuned"
BASE_DEPLOYMENT = "demo-base"
ANSWER_TOKENS = 256
JOB_SECONDS = 3600
console = Console(width=None if sys.stdout.isatty() else 130)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Fine-tune, deploy and compare, the way Azure's documentation does it."
    )
    parser.add_argument("--train", type=Path, default=HERE / "bookings.train.jsonl", help="training rows (JSONL)")
    parser.add_argument("--valid", type=Path, help="validation rows; default: a tenth of the training rows is held out")
    parser.add_argument("--test", type=Path, help="held-out questions; default with the default data: its test file")
    parser.add_argument("--base-model", help="default: gpt-35-turbo-0613, or babbage-002 for prompt/completion rows")
    parser.add_argument("--epochs", type=int, help="rounds over the training rows; default: the service chooses (auto)")
    parser.add_argument("--port", type=int, default=0, help="port of the data plane; 0 picks a free one")
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder for everything the demo writes")
    options = parser.parse_args()
    if options.train == HERE / "bookings.train.jsonl":
        options.valid = options.valid or HERE / "bookings.valid.jsonl"
        options.test = options.test or HERE / "bookings.test.jsonl"
    if options.test is None:
        parser.error("--test is needed with your own --train (make demo DATA=train.jsonl TEST=test.jsonl)")
    return options


def upload(client: AzureOpenAI, path: Path) -> str:
    with path.open("rb") as file:
        uploaded = client.files.create(file=file, purpose="fine-tune")
    processed = client.files.wait_for_processing(uploaded.id)
    if processed.status != "processed":
        raise DemoError(f"{path} was refused: {processed.status_details or processed.status}")
    console.print(f"  {path.name} → {processed.id}, {processed.bytes} bytes, {processed.status}")
    return processed.id


def total_steps(job: FineTuningJob, examples: int) -> int | None:
    """Known once the service has replaced "auto" (-1 on Azure) by numbers."""
    epochs, batch = job.hyperparameters.n_epochs, job.hyperparameters.batch_size
    if isinstance(epochs, int) and isinstance(batch, int) and epochs > 0 and batch > 0:
        return math.ceil(examples / batch) * epochs
    return None


def follow(client: AzureOpenAI, job_id: str, examples: int) -> FineTuningJob:
    """Draws a progress bar from the job's events until the job ends. Raises DemoError unless it succeeded."""
    seen: set[str] = set()
    deadline = time.monotonic() + JOB_SECONDS
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("waiting", total=None)
        while True:
            job = client.fine_tuning.jobs.retrieve(job_id)  # before the events: the last ones are then read, too
            page = client.fine_tuning.jobs.list_events(fine_tuning_job_id=job_id, limit=100)
            for event in reversed([event for event in page.data if event.id not in seen]):  # a page is newest first
                seen.add(event.id)
                data = cast("Mapping[str, Any]", event.data if isinstance(event.data, dict) else {})
                if "step" in data:
                    loss = data.get("train_loss")
                    shown = "" if loss is None else f", loss {loss:.3f}"
                    progress.update(task, completed=data["step"], description=f"{job.status}{shown}")
                else:
                    progress.console.print(f"  {event.message}", markup=False)
            progress.update(task, total=total_steps(job, examples))
            if job.status in ("succeeded", "failed", "cancelled"):
                break
            if time.monotonic() > deadline:
                raise DemoError(f"the job is still {job.status} after {JOB_SECONDS} s")
            time.sleep(1)
    if job.status != "succeeded":
        raise DemoError(f"the job {job.status}: {job.error.message if job.error else 'no reason given'}")
    return job


def save_results(client: AzureOpenAI, job: FineTuningJob, out: Path) -> Path:
    target = out / "results.csv"
    target.write_bytes(client.files.content(job.result_files[0]).read())
    plot(target, out / "results.png")
    return target


def management_token(credentials: Mapping[str, str]) -> str:
    """A token for Azure Resource Manager, for the service principal (client credentials grant)."""
    answer = requests.post(
        f"{credentials['AZURE_AUTHORITY_HOST'].rstrip('/')}/{credentials['AZURE_TENANT_ID']}/oauth2/v2.0/token",
        data={
            "grant_type": "client_credentials",
            "client_id": credentials["AZURE_CLIENT_ID"],
            "client_secret": credentials["AZURE_CLIENT_SECRET"],
            "scope": "https://management.azure.com/.default",
        },
        timeout=30,
    )
    if answer.status_code != 200:
        raise DemoError(f"no token: {answer.status_code} {answer.text}")
    return str(answer.json()["access_token"])


def deploy(credentials: Mapping[str, str], token: str, deployment: str, model: str, version: str) -> None:
    """The PUT of Microsoft's tutorial, then a GET a second until the deployment is there."""
    deploy_params = {"api-version": "2023-05-01"}
    deploy_headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    deploy_data = json.dumps(
        {
            "sku": {"name": "standard", "capacity": 200},
            "properties": {"model": {"format": "OpenAI", "name": model, "version": version}},
        }
    )
    request_url = (
        f"{credentials['ARM_ENDPOINT'].rstrip('/')}/subscriptions/{credentials['AZURE_SUBSCRIPTION_ID']}"
        f"/resourceGroups/{credentials['AZURE_RESOURCE_GROUP']}/providers/Microsoft.CognitiveServices"
        f"/accounts/{credentials['AZURE_OPENAI_RESOURCE']}/deployments/{deployment}"
    )
    r = requests.put(request_url, params=deploy_params, headers=deploy_headers, data=deploy_data, timeout=60)
    deadline = time.monotonic() + 120
    while r.ok and r.json()["properties"]["provisioningState"] not in ("Succeeded", "Failed", "Canceled"):
        if time.monotonic() > deadline:
            raise DemoError(f"deployment {deployment} is not there after 120 s: {r.text}")
        time.sleep(1)
        r = requests.get(request_url, params=deploy_params, headers=deploy_headers, timeout=30)
    if not r.ok or r.json()["properties"]["provisioningState"] != "Succeeded":
        raise DemoError(f"deployment {deployment} of {model} failed: {r.status_code} {r.reason} {r.text}")
    console.print(f"  {deployment} → {model}: {r.json()['properties']['provisioningState']}")


def ask(client: AzureOpenAI, deployment: str, question: Question) -> str:
    if not question.chat:
        completion = client.completions.create(
            model=deployment, prompt=question.prompt, temperature=0, max_tokens=ANSWER_TOKENS
        )
        return completion.choices[0].text
    reply = client.chat.completions.create(
        model=deployment, messages=cast("Any", question.messages), temperature=0, max_tokens=ANSWER_TOKENS
    )
    return reply.choices[0].message.content or ""


def ask_all(client: AzureOpenAI, deployment: str, asked: Sequence[Question]) -> list[str]:
    with ThreadPoolExecutor(max_workers=8) as pool:  # so that the engine has something to batch
        return list(pool.map(lambda question: ask(client, deployment, question), asked))


def stream_one(client: AzureOpenAI, deployment: str, question: Question) -> None:
    console.print(f"  {question.text.strip()}", style="bold", markup=False)
    stream = client.chat.completions.create(
        model=deployment,
        messages=cast("Any", question.messages),
        temperature=0,
        max_tokens=ANSWER_TOKENS,
        stream=True,
    )
    console.print("  ", end="")
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            console.print(chunk.choices[0].delta.content, end="", markup=False, highlight=False, style="green")
    console.print()


def run(
    options: argparse.Namespace, credentials: Mapping[str, str], asked: Sequence[Question], started: float
) -> Outcome:
    client = AzureOpenAI(
        azure_endpoint=credentials["AZURE_OPENAI_ENDPOINT"],
        api_key=credentials["AZURE_OPENAI_API_KEY"],
        api_version=credentials["OPENAI_API_VERSION"],
    )
    console.rule("1. upload")
    train, valid = options.train, options.valid
    if valid is None:
        train, valid = hold_out(train, options.out, SEED)
        console.print(f"  no validation file given: {len(read_lines(valid))} training rows are held out for it")
    training_file, validation_file = upload(client, train), upload(client, valid)

    console.rule("2. fine-tune")
    job = client.fine_tuning.jobs.create(
        training_file=training_file,
        validation_file=validation_file,
        model=options.base_model,
        seed=SEED,
        hyperparameters={"n_epochs": options.epochs or "auto"},
    )
    console.print(f"  {job.id} on {job.model}: {job.status}")
    job = follow(client, job.id, len(read_lines(train)))
    checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id).data
    console.print(checkpoint_table(checkpoints))
    results = save_results(client, job, options.out)
    console.print(f"  fine-tuned model {job.fine_tuned_model}; {results} and results.png saved")

    console.rule("3. deploy")
    token = management_token(credentials)
    version = re.search(r"-(\d{4}(-\d\d-\d\d)?)$", options.base_model)
    deploy(credentials, token, TUNED_DEPLOYMENT, str(job.fine_tuned_model), "1")
    deploy(credentials, token, BASE_DEPLOYMENT, options.base_model, version.group(1) if version else "1")

    console.rule("4. chat and compare")
    if asked[0].chat:
        stream_one(client, TUNED_DEPLOYMENT, asked[0])
    tuned = ask_all(client, TUNED_DEPLOYMENT, asked)
    base = ask_all(client, BASE_DEPLOYMENT, asked)
    return Outcome(options.base_model, job, checkpoints, asked, base, tuned, time.monotonic() - started)


def main() -> int:
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    # Ended from outside, the demo still leaves through `with Service(...)`, which stops what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        asked = questions(options.test)
        options.base_model = options.base_model or ("gpt-35-turbo-0613" if asked[0].chat else "babbage-002")
        console.print("Starting tailorbird up ...")
        started = time.monotonic()
        with Service(options.out.resolve(), options.port) as credentials:
            console.print(f"  ready at {credentials['AZURE_OPENAI_ENDPOINT']}")
            os.environ["REQUESTS_CA_BUNDLE"] = credentials["REQUESTS_CA_BUNDLE"]  # trusts the local certificate
            os.environ["NO_PROXY"] = ",".join(filter(None, [os.environ.get("NO_PROXY"), "localhost,127.0.0.1"]))
            outcome = run(options, credentials, asked, started)
    except DemoError as problem:
        console.print(f"The demo stopped: {problem}", style="bold red", markup=False)
        return 1
    show_answers(console, outcome)
    write_report(options.out / "report.md", outcome, " ".join(["python", *sys.argv]))
    verdict = "beats" if outcome.tuned_is_better else "does NOT beat"
    console.print(f"The tuned model {verdict} its base. Report: {options.out / 'report.md'}, {outcome.seconds:.0f} s.")
    return 0 if outcome.tuned_is_better else 1


if __name__ == "__main__":
    sys.exit(main())
