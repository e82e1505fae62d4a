"""The documentation's curl commands, as they are printed there, run by bash with the real curl.

They have what other clients do not: `//openai`, a Content-Type without a boundary that curl completes, POST where the
specification says GET or PUT, versions of one plane on the other.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from installation import small_rows, wait_for
from ledger import Ledger
from shared_service import Served

UPLOAD = """
curl -X POST $AZURE_OPENAI_ENDPOINT/openai/files?api-version=2023-12-01-preview \\
  -H "Content-Type: multipart/form-data" \\
  -H "api-key: $AZURE_OPENAI_API_KEY" \\
  -F "purpose=fine-tune" \\
  -F "file=@$FILE;type=application/json"
"""
CREATE = """
curl -X POST $AZURE_OPENAI_ENDPOINT/openai/fine_tuning/jobs?api-version=2024-05-01-preview \\
  -H "Content-Type: application/json" \\
  -H "api-key: $AZURE_OPENAI_API_KEY" \\
  -d '{
    "model": "gpt-35-turbo-0613",
    "training_file": "<TRAINING_FILE_ID>",
    "validation_file": "<VALIDATION_FILE_ID>",
    "seed": 105
}'
"""
CREATE_V1 = """
curl -X POST $AZURE_OPENAI_ENDPOINT/openai/v1/fine_tuning/jobs \\
  -H "Content-Type: application/json" \\
  -H "api-key: $AZURE_OPENAI_API_KEY" \\
  -d '{
    "model": "gpt-4o-mini",
    "training_file": "<TRAINING_FILE_ID>",
    "validation_file": "<VALIDATION_FILE_ID>",
    "trainingType": "globalstandard",
    "method": {"type": "dpo", "dpo": {"beta": 0.1}}
}'
"""
CONTINUE = """
curl -X POST $AZURE_OPENAI_ENDPOINT/openai/fine_tuning/jobs?api-version=2023-12-01-preview \\
  -H "Content-Type: application/json" \\
  -H "api-key: $AZURE_OPENAI_API_KEY" \\
  -d '{
    "model": "<FINE_TUNED_MODEL>",
    "training_file": "<TRAINING_FILE_ID>",
    "validation_file": "<VALIDATION_FILE_ID>",
    "suffix": "curled-again"
}'
"""
STATUS = """
curl -X GET $AZURE_OPENAI_ENDPOINT/openai/fine_tuning/jobs/<YOUR-JOB-ID>?api-version=2024-05-01-preview \\
  -H "api-key: $AZURE_OPENAI_API_KEY"
"""
LIST_JOBS = """
curl $AZURE_OPENAI_ENDPOINT//openai/v1/fine_tuning/jobs \\
  -H "api-key: $AZURE_OPENAI_API_KEY"
"""
EVENTS = """
curl -X POST $AZURE_OPENAI_ENDPOINT/openai/fine_tuning/jobs/<YOUR-JOB-ID>/events?api-version=2024-05-01-preview \\
  -H "Content-Type: application/json" \\
  -H "api-key: $AZURE_OPENAI_API_KEY"
"""
CHECKPOINTS = """
curl -X POST $AZURE_OPENAI_ENDPOINT/openai/fine_tuning/jobs/<YOUR-JOB-ID>/checkpoints?api-version=2024-05-01-preview \\
  -H "Content-Type: application/json" \\
  -H "api-key: $AZURE_OPENAI_API_KEY"
"""
PAUSE_OR_RESUME = """
curl -X POST $AZURE_OPENAI_ENDPOINT/openai/v1/fine_tuning/jobs/<YOUR-JOB-ID>/<MOVE> \\
  -H "Content-Type: application/json" \\
  -H "api-key: $AZURE_OPENAI_API_KEY"
"""
COPY = """
curl --request POST \\
  --url "$AZURE_OPENAI_ENDPOINT/openai/v1/fine_tuning/jobs/<YOUR-JOB-ID>/checkpoints/<CHECKPOINT>/copy" \\
  --header 'Content-Type: application/json' \\
  --header "<KEY_OR_TOKEN>" \\
  --header 'aoai-copy-ft-checkpoints: preview' \\
  --data '{
  "destinationResourceId": "<RESOURCE_ID>",
  "region": "<REGION>"
}'
"""
COPY_STATUS = """
curl --request GET \\
  --url "$AZURE_OPENAI_ENDPOINT//openai/v1/fine_tuning/jobs/<YOUR-JOB-ID>/checkpoints/<CHECKPOINT>/copy" \\
  --header 'Content-Type: application/json' \\
  --header "<KEY_OR_TOKEN>" \\
  --header 'aoai-copy-ft-checkpoints: preview'
"""
DEPLOY = """
curl -X <METHOD> "$ARM_ENDPOINT/subscriptions/<SUBSCRIPTION>/resourceGroups/<RESOURCE_GROUP>/providers/\
Microsoft.CognitiveServices/accounts/<RESOURCE_NAME>/deployments/<MODEL_DEPLOYMENT_NAME>?api-version=2024-10-21" \\
  -H "Authorization: Bearer $TOKEN" \\
  -H "Content-Type: application/json" \\
  -d '{
    "sku": {"name": "standard", "capacity": 1},
    "properties": {
        "model": {
            "format": "OpenAI",
            "name": "<FINE_TUNED_MODEL>",
            "version": "1"
        }
    }
}'
"""
DEPLOYMENT = """
curl -X <METHOD> "$ARM_ENDPOINT/subscriptions/<SUBSCRIPTION>/resourceGroups/<RESOURCE_GROUP>/providers/\
Microsoft.CognitiveServices/accounts/<RESOURCE_NAME>/deployments/<MODEL_DEPLOYMENT_NAME>?api-version=2023-05-01" \\
  -H "Authorization: Bearer $TOKEN"
"""
CHAT = """
curl $AZURE_OPENAI_ENDPOINT/openai/deployments/<deployment_name>/chat/completions?api-version=2023-05-15 \\
  -H "Content-Type: application/json" \\
  -H "api-key: $AZURE_OPENAI_API_KEY" \\
  -d '{"messages":[{"role": "system", "content": "You are a helpful assistant."},
{"role": "user", "content": "Does Azure OpenAI support customer managed keys?"},
{"role": "assistant", "content": "Yes, customer managed keys are supported by Azure OpenAI."},
{"role": "user", "content": "Do other Azure AI services support this too?"}]}'
"""
RESULTS = """
curl -X GET "$AZURE_OPENAI_ENDPOINT/openai/files/<RESULT_FILE_ID>/content?api-version=2023-12-01-preview" \\
  -H "api-key: $AZURE_OPENAI_API_KEY" > <RESULT_FILENAME>
"""
DELETE = """
curl -X DELETE $AZURE_OPENAI_ENDPOINT/openai/<NOUN>/<ID>?api-version=2024-10-21 \\
  -H "api-key: $AZURE_OPENAI_API_KEY"
"""


class Curl:
    """Runs a documented command with its placeholders filled in, in a folder of its own."""

    def __init__(self, served: Served, folder: Path, ledger: Ledger) -> None:
        env = served.installation.credentials
        self._served = served
        self._folder = folder
        self._ledger = ledger
        self._account = {
            "SUBSCRIPTION": env["AZURE_SUBSCRIPTION_ID"],
            "RESOURCE_GROUP": env["AZURE_RESOURCE_GROUP"],
            "RESOURCE_NAME": env["AZURE_OPENAI_RESOURCE"],
        }
        self._environment = {
            "PATH": os.environ["PATH"],
            "AZURE_OPENAI_ENDPOINT": served.endpoint,
            "AZURE_OPENAI_API_KEY": served.key,
            "ARM_ENDPOINT": env["ARM_ENDPOINT"],
            # The documents take one with `az account get-access-token`.
            "TOKEN": served.token("https://management.azure.com/.default"),
            "CURL_CA_BUNDLE": env["REQUESTS_CA_BUNDLE"],
            "NO_PROXY": "localhost,127.0.0.1",
        }

    def __call__(self, step: str, command: str, expected: int, file: str = "", **placeholders: str) -> Any:
        """The answer's JSON, or its text; the status has to be the expected one."""
        for name, value in (self._account | placeholders).items():
            command = command.replace(f"<{name.replace('__', '-')}>", value)
        with self._ledger.call("documented lines", step, command.split("\\n", 1)[0]):
            line = command.strip().replace("curl ", "curl -sS -w '%{stderr}%{http_code}' ", 1)
            ended = subprocess.run(
                ["bash", "-c", line],
                env=self._environment | {"FILE": file}, cwd=self._folder, capture_output=True, text=True, timeout=90,
                check=False,
            )  # fmt: skip
            assert (ended.returncode, ended.stderr) == (0, str(expected)), (line, ended.stderr, ended.stdout)
            return json.loads(ended.stdout) if ended.stdout.startswith("{") else ended.stdout


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    one = Ledger("curl", "any")
    yield one
    one.keep()


@pytest.fixture
def curl(served: Served, tmp_path: Path, ledger: Ledger) -> Curl:
    return Curl(served, tmp_path, ledger)


@pytest.fixture
def uploaded(curl: Curl, served: Served, tmp_path: Path) -> str:
    """The id of a training file that curl uploaded."""
    (tmp_path / "training_set.jsonl").write_bytes(small_rows(12))
    made = curl("upload a file", UPLOAD, 201, file=str(tmp_path / "training_set.jsonl"))
    assert (made["filename"], made["purpose"], made["object"]) == ("training_set.jsonl", "fine-tune", "file")

    def processed() -> bool:
        return served.ask("GET", "azure-v1", f"/files/{made['id']}").json()["status"] == "processed"

    wait_for("the file", processed, 30)
    return str(made["id"])


def job_id(served: Served) -> dict[str, str]:
    return {"YOUR__JOB__ID": served.job_id}


def end(served: Served, job: str) -> None:
    served.ask("POST", "azure-v1", f"/fine_tuning/jobs/{job}/cancel")


def test_files_are_uploaded_a_job_is_made_and_looked_at_and_all_is_deleted(
    curl: Curl, uploaded: str, served: Served
) -> None:
    made = curl("create a job", CREATE, 201, TRAINING_FILE_ID=uploaded, VALIDATION_FILE_ID=uploaded)
    assert (made["status"], made["seed"], made["training_file"]) == ("pending", 105, uploaded)
    assert curl("status of a job", STATUS, 200, YOUR__JOB__ID=made["id"])["id"] == made["id"]
    assert made["id"] in [job["id"] for job in curl("list jobs", LIST_JOBS, 200)["data"]]
    end(served, made["id"])
    events = curl("events", EVENTS, 200, **job_id(served))["data"]
    assert "Job succeeded." in [event["message"] for event in events]
    checkpoints = curl("checkpoints", CHECKPOINTS, 200, **job_id(served))["data"]
    assert [one["id"].startswith("ftchkpt-") for one in checkpoints] == [True, True]
    assert curl("delete a file", DELETE, 200, NOUN="files", ID=uploaded)["deleted"] is True


@pytest.mark.wire_full
def test_a_job_of_preferences_with_a_training_type_and_a_flat_beta_is_made(curl: Curl, served: Served) -> None:
    pairs = {"TRAINING_FILE_ID": served.preference_file, "VALIDATION_FILE_ID": served.preference_file}
    made = curl("create a job on v1", CREATE_V1, 200, **pairs)
    assert (made["trainingType"], made["method"]["type"]) == ("globalStandard", "dpo")
    assert made["method"]["dpo"]["hyperparameters"]["beta"] == 0.1
    end(served, made["id"])


@pytest.mark.wire_full
def test_a_fine_tuned_model_is_trained_further(curl: Curl, uploaded: str, served: Served) -> None:
    files = {"TRAINING_FILE_ID": uploaded, "VALIDATION_FILE_ID": uploaded}
    made = curl("continue a fine-tuned model", CONTINUE, 201, FINE_TUNED_MODEL=served.azure_model, **files)
    # A job names the base, here of the model it goes on from.
    assert (made["model"], made["suffix"]) == (served.azure_model.split(".ft-")[0], "curled-again")
    end(served, made["id"])


@pytest.mark.wire_full
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_the_model_is_deployed_looked_at_and_asked_and_the_deployment_deleted(
    method: str, curl: Curl, served: Served
) -> None:
    one = {"MODEL_DEPLOYMENT_NAME": f"curl-{method.lower()}"}
    checkpoint = curl("checkpoints", CHECKPOINTS, 200, **job_id(served))["data"][1]["id"]
    made = curl(f"deploy with {method}", DEPLOY, 201, METHOD=method, FINE_TUNED_MODEL=checkpoint, **one)
    assert made["properties"]["model"]["version"] == "1"

    def ready() -> bool:
        found = curl("status of a deployment", DEPLOYMENT, 200, METHOD="GET", **one)
        return found["properties"]["provisioningState"] == "Succeeded"

    wait_for("the deployment", ready, 60)
    answer = curl("chat with the deployment", CHAT, 200, deployment_name=one["MODEL_DEPLOYMENT_NAME"])
    assert isinstance(answer["choices"][0]["message"]["content"], str)
    curl("delete a deployment", DEPLOYMENT, 202, METHOD="DELETE", **one)
    path = f"/deployments/{one['MODEL_DEPLOYMENT_NAME']}"
    wait_for("it to be gone", lambda: served.installation.arm("GET", path).status_code == 404, 60)
    gone = curl("status of a deployment", DEPLOYMENT, 404, METHOD="GET", **one)
    assert one["MODEL_DEPLOYMENT_NAME"] in gone["error"]["message"]


@pytest.mark.wire_full
def test_the_results_of_a_job_are_downloaded_as_the_table_the_documents_describe(
    curl: Curl, served: Served, tmp_path: Path
) -> None:
    job = curl("status of a job", STATUS, 200, **job_id(served))
    curl("download the results", RESULTS, 200, RESULT_FILE_ID=job["result_files"][0], RESULT_FILENAME="results.csv")
    head = (tmp_path / "results.csv").read_text(encoding="utf-8").splitlines()[0]
    assert head == (
        "step,train_loss,train_mean_token_accuracy,valid_loss,valid_mean_token_accuracy,full_valid_loss,"
        "full_valid_mean_token_accuracy"
    )


@pytest.mark.wire_full
def test_a_checkpoint_is_copied_to_another_account(curl: Curl, served: Served) -> None:
    target = f"{served.installation.accounts}/{served.other_account('curl-copy')}"
    checkpoint = curl("checkpoints", CHECKPOINTS, 200, **job_id(served))["data"][1]["fine_tuned_model_checkpoint"]
    words = {
        **job_id(served),
        "CHECKPOINT": checkpoint,
        "REGION": "eastus",
        "KEY_OR_TOKEN": "api-key: $AZURE_OPENAI_API_KEY",
    }
    begun = curl("copy a checkpoint", COPY, 200, RESOURCE_ID=target, **words)
    words["KEY_OR_TOKEN"] = "Authorization: Bearer $TOKEN"
    assert begun["checkpointedModelName"] == checkpoint

    def copied() -> bool:
        details = curl("status of a copy", COPY_STATUS, 200, **words)["copiedAccountDetails"]
        return [one["status"] for one in details if one["destinationResourceId"] == target] == ["Completed"]

    wait_for("the copy", copied, 60)


@pytest.mark.wire_full
def test_a_job_is_paused_and_resumed_and_its_model_deleted(curl: Curl, served: Served) -> None:
    request = {"model": "gpt-4o-mini", "training_file": served.training_file, "hyperparameters": {"n_epochs": 3}}
    job = {"YOUR__JOB__ID": served.ask("POST", "azure-v1", "/fine_tuning/jobs", json=request).json()["id"]}

    def state() -> dict[str, Any]:
        return curl("status of a job", STATUS, 200, **job)

    def trained_a_step() -> bool:
        events = served.ask("GET", "azure-v1", f"/fine_tuning/jobs/{job['YOUR__JOB__ID']}/events").json()["data"]
        return any(event["type"] == "metrics" for event in events)

    wait_for("a step", trained_a_step, 120)
    paused = curl("pause a job", PAUSE_OR_RESUME, 200, MOVE="pause", **job)
    assert paused["status"] in ("pausing", "paused")
    wait_for("the pause", lambda: state()["status"] == "paused", 60)
    resumed = curl("resume a job", PAUSE_OR_RESUME, 200, MOVE="resume", **job)
    assert resumed["status"] in ("resuming", "running", "pending")
    wait_for("its end", lambda: state()["status"] == "succeeded", 120)
    model = state()["fine_tuned_model"]
    assert curl("delete a model", DELETE, 200, NOUN="models", ID=model)["deleted"] is True
