"""One id in all logs: what the server and the worker ask of the engine is found in its log by request and by job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from installation import Installation


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_the_engine_s_log_names_the_request_and_the_job_it_works_for(installation, small_set: Path, until) -> None:
    one: Installation = installation()
    client = one.azure()
    with small_set.open("rb") as file:
        training = client.files.create(file=file, purpose="fine-tune")
    asked: Any = {"n_epochs": 1, "batch_size": 8}
    job = client.fine_tuning.jobs.create(training_file=training.id, model="gpt-35-turbo-0613", hyperparameters=asked).id
    until("the end", lambda: client.fine_tuning.jobs.retrieve(job).status in ("succeeded", "failed"), 240)
    assert client.fine_tuning.jobs.retrieve(job).status == "succeeded"
    body = {
        "sku": {"name": "standard", "capacity": 1},
        "properties": {"model": {"format": "OpenAI", "name": "gpt-35-turbo", "version": "0613"}},
    }
    assert one.arm("PUT", "/deployments/plain", body).status_code == 201
    ready = "Succeeded"
    until(
        "the deployment",
        lambda: one.arm("GET", "/deployments/plain").json()["properties"]["provisioningState"] == ready,
    )
    raw = client.chat.completions.with_raw_response.create(
        model="plain", messages=[{"role": "user", "content": "hi"}], max_tokens=4
    )
    request_id = raw.headers["x-request-id"]
    # The engine writes its line before its last bytes leave.
    engine = lines(one.folder / "engine-weaver.log")
    (found,) = [line for line in engine if line.get("request_id") == request_id]
    assert (found["path"], found["status"], "job" in found) == ("/v1/completions", 200, False)
    proved = [line for line in engine if line.get("job") == job]
    assert {"/v1/load_lora_adapter", "/v1/completions"} <= {line["path"] for line in proved}
    assert any(line.get("job") == job for line in lines(one.folder / "worker.log"))
