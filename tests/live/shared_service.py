"""One running service for all wire tests: a job trained once, its model and a base deployed, files to train with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from installation import ROOT, Installation, small_rows, wait_for

DATED = ("azure-2024-10-21", "azure-2025-04-01-preview")
AZURE = (*DATED, "azure-v1", "project")
SURFACES = (*AZURE, "openai")
SETTINGS = {
    # The matrix of clients makes more jobs and files than Azure's limits allow one account.
    "TAILORBIRD_MAX_JOBS": "10000",
    "TAILORBIRD_MAX_FILES": "10000",
    "TAILORBIRD_WORKER_JOBS": "3",
    # The emulator of a blob store listens on the loopback address.
    "TAILORBIRD_IMPORT_PRIVATE": "true",
}
CAPACITY = 300
"""Thousand tokens a minute for each deployment: more than the matrix asks for in any minute."""
EMBEDDING_MODEL = "text-embedding-3-small"


@dataclass(frozen=True)
class Served:
    """Names of what was prepared; the job has two epochs and so two checkpoints."""

    installation: Installation
    training_file: str
    preference_file: str
    job_id: str
    azure_model: str
    openai_model: str
    chat_deployment: str
    base_deployment: str
    embedding_deployment: str

    @property
    def endpoint(self) -> str:
        return self.installation.credentials["AZURE_OPENAI_ENDPOINT"]

    @property
    def key(self) -> str:
        return self.installation.credentials["AZURE_OPENAI_API_KEY"]

    def token(self, scope: str = "https://ai.azure.com/.default") -> str:
        """An Entra-style token of the first service principal."""
        return self.installation.token(scope)

    def url(self, surface: str, path: str) -> str:
        """The whole address of a data-plane path, without a query."""
        prefix = {"azure-v1": "/openai/v1", "project": "/api/projects/wire/openai/v1", "openai": "/v1"}
        return self.endpoint + prefix.get(surface, "/openai") + path

    def ask(self, method: str, surface: str, path: str, **request: Any) -> requests.Response:
        """One plain request with the key in the header that this surface's documentation shows."""
        query = dict(request.pop("params", {}))
        if surface.startswith("azure-2"):
            query = {"api-version": surface.removeprefix("azure-"), **query}
        headers = {"api-key": self.key} if surface.startswith("azure") else {"Authorization": f"Bearer {self.key}"}
        headers |= request.pop("headers", {})
        return requests.request(
            method, self.url(surface, path), params=query, headers=headers, timeout=60, allow_redirects=False, **request
        )

    def upload(self, surface: str, rows: bytes, purpose: str = "fine-tune", **form: str) -> requests.Response:
        return self.ask(
            "POST", surface, "/files", files={"file": ("rows.jsonl", rows)}, data={"purpose": purpose, **form}
        )

    @contextmanager
    def job(self, surface: str, **fields: Any) -> Generator[requests.Response]:
        """The answer to a new job on the shared file; the job is cancelled at the end, before it costs anything."""
        body = {"model": "gpt-4o-mini", "training_file": self.training_file, **fields}
        made = self.ask("POST", surface, "/fine_tuning/jobs", json=body)
        yield made
        if made.ok:
            self.ask("POST", surface, f"/fine_tuning/jobs/{made.json()['id']}/cancel")

    def other_account(self, name: str) -> str:
        """Another resource in the same group, made through ARM; its name."""
        body = {"sku": {"name": "S0"}, "kind": "OpenAI", "location": "eastus", "properties": {}}
        made = self.installation.manage("PUT", f"{self.installation.accounts}/{name}", body)
        assert made.ok, made.text
        return name

    def model(self, surface: str) -> str:
        return self.openai_model if surface == "openai" else self.azure_model

    def given(self, sections: tuple[str, ...]) -> dict[str, Any]:
        """What a client's script has to know, ready for JSON."""

        def by_surface(azure: str, openai: str) -> dict[str, str]:
            return {surface: openai if surface == "openai" else azure for surface in SURFACES}

        return {
            "endpoint": self.endpoint,
            "key": self.key,
            "token": self.token(),
            "sections": sections,
            "rows": small_rows(12).decode(),
            "training_file": self.training_file,
            "preference_file": self.preference_file,
            "job": self.job_id,
            "models": by_surface(self.azure_model, self.openai_model),
            "permitted": self.openai_model,
            "chat": by_surface(self.chat_deployment, self.openai_model),
            "completion": by_surface(self.base_deployment, "weaver"),
            "embedding": by_surface(self.embedding_deployment, EMBEDDING_MODEL),
        }


def prepare(folder: Path) -> Served:
    """Starts everything and trains; about fifteen seconds."""
    one = Installation(folder, **SETTINGS)
    one.start()
    try:
        client = one.azure()
        rows = client.files.create(file=("wire.jsonl", small_rows(40)), purpose="fine-tune")
        pairs = client.files.create(file=("pairs.jsonl", preference_rows(12)), purpose="fine-tune")
        for file in (rows, pairs):
            client.files.wait_for_processing(file.id, poll_interval=0.05, max_wait_seconds=30)
        job = client.fine_tuning.jobs.create(
            model="gpt-4o-mini",
            training_file=rows.id,
            validation_file=rows.id,
            suffix="judged",
            seed=7,
            hyperparameters={"n_epochs": 2, "batch_size": 4},
        )
        deploy(one, "wire-base", "weaver", "1")
        deploy(one, "wire-embedding", EMBEDDING_MODEL, "1")
        ends = ("succeeded", "failed", "cancelled")
        while job.status not in ends:
            time.sleep(0.1)
            job = client.fine_tuning.jobs.retrieve(job.id)
        assert job.status == "succeeded", job.error
        assert job.fine_tuned_model is not None
        deploy(one, "wire-chat", job.fine_tuned_model, "1")
        openai_name = _as_openai_has_it(one, job.id)
    except BaseException:
        one.kill()
        raise
    return Served(
        one, rows.id, pairs.id, job.id, job.fine_tuned_model, openai_name, "wire-chat", "wire-base", "wire-embedding"
    )


def deploy(one: Installation, name: str, model: str, version: str) -> None:
    """Through ARM, and waits until the engine has it."""
    deploy_in(one, f"{one.accounts}/{one.credentials['AZURE_OPENAI_RESOURCE']}", name, model, version)


def deploy_in(one: Installation, account: str, name: str, model: str, version: str, capacity: int = CAPACITY) -> None:
    """The same in an account that its resource id names."""
    body = {
        "sku": {"name": "Standard", "capacity": capacity},
        "properties": {"model": {"format": "OpenAI", "name": model, "version": version}},
    }
    path = f"{account}/deployments/{name}"
    created = one.manage("PUT", path, body)
    assert created.status_code in (200, 201), created.text

    def ready() -> bool:
        found = one.manage("GET", path).json()
        assert found["properties"]["provisioningState"] != "Failed", found
        return found["properties"]["provisioningState"] == "Succeeded"

    wait_for(f"deployment {name}", ready, 60)


def remove_deployment(one: Installation, name: str) -> None:
    removed = one.arm("DELETE", f"/deployments/{name}")
    assert removed.status_code in (200, 202, 204), removed.text
    wait_for(f"{name} to be gone", lambda: one.arm("GET", f"/deployments/{name}").status_code == 404, 60)


def preference_rows(count: int) -> bytes:
    """The example rows as pairs: the right answer preferred to no answer."""
    lines: list[str] = []
    for line in small_rows(count).decode("utf-8-sig").splitlines():
        *asked, answered = json.loads(line)["messages"]
        other = {"role": "assistant", "content": "I do not know."}
        pair = {"input": {"messages": asked}, "preferred_output": [answered], "non_preferred_output": [other]}
        lines.append(json.dumps(pair))
    return "\n".join(lines).encode()


def _as_openai_has_it(one: Installation, job_id: str) -> str:
    job = requests.get(
        f"{one.credentials['AZURE_OPENAI_ENDPOINT']}/v1/fine_tuning/jobs/{job_id}",
        headers={"Authorization": f"Bearer {one.credentials['AZURE_OPENAI_API_KEY']}"},
        timeout=30,
    ).json()
    return str(job["fine_tuned_model"])


def in_this_installation(served: Served, *words: str) -> str:
    """What `tailorbird access` prints on the installation's folder: the operator's own tool."""
    command = [sys.executable, "-m", "tailorbird.cli.main", "access", *words]
    ended = subprocess.run(
        [*command, "--data-dir", str(served.installation.folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return ended.stdout.strip()
