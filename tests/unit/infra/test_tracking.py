"""Runs at Weights & Biases, with a package of the same name that keeps what it is told; the real one is heavy."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tailorbird.domain.jobs import Hyperparameters, Job, JobStatus, Method, Stage, WandbIntegration
from tailorbird.infra.tracking import WandbTracker, wandb_is_installed

AT = datetime(2026, 11, 21, tzinfo=UTC)
JOB = Job(
    "ftjob-1", "a", JobStatus.RUNNING, Stage.TRAIN, "gpt-4o-mini", "b", "file-1", 7, Hyperparameters(), AT, AT,
    method=Method.DPO, resolved=Hyperparameters(3, 8, 1.0, 0.1),
)  # fmt: skip
WANDB = WandbIntegration("project", None, "team", ("mine",))
PACKAGE = """
import os
told = []
base_url = "http://127.0.0.1:9"
broken = False
class Settings:
    def __init__(self, **values):
        self.base_url = base_url
        self.values = values
class Run:
    def log(self, metrics, step):
        if broken: raise RuntimeError("broken")
        told.append(("log", step, metrics))
    def finish(self, exit_code):
        told.append(("finish", exit_code))
def init(**options):
    if broken: raise RuntimeError("broken")
    folder = os.path.join(options["dir"], "wandb", "offline-run-1-" + options["id"])
    os.makedirs(folder, exist_ok=True)
    told.append(("init", options))
    return Run()
"""


@pytest.fixture
def wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "packages" / "wandb").mkdir(parents=True)
    (tmp_path / "packages" / "wandb" / "__init__.py").write_text(PACKAGE)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    import wandb  # pyright: ignore[reportMissingImports]

    assert isinstance(wandb, ModuleType)
    yield wandb
    sys.modules.pop("wandb", None)


@pytest.fixture
def service(wandb: Any) -> Iterator[Any]:
    """The vendor's server; knows the key `good`."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            # Basic authentication of api:good
            known = self.headers.get("authorization") == "Basic YXBpOmdvb2Q="
            body = b'{"data": {"viewer": {"id": "me"}}}' if known else b'{"data": {"viewer": null}}'
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    wandb.base_url = f"http://127.0.0.1:{server.server_address[1]}"
    yield wandb
    server.shutdown()
    server.server_close()
    thread.join()


def start(tmp_path: Path, key: str | None) -> Any:
    return WandbTracker(tmp_path / "data").start(JOB, WANDB, "ftjob-1-2", key)


def test_the_package_is_found_when_it_is_there(wandb: Any) -> None:
    assert wandb_is_installed()


def test_without_a_key_the_run_stays_on_this_machine(tmp_path: Path, wandb: Any) -> None:
    run = start(tmp_path, None)
    run.log(1, {"train_loss": 0.5})
    run.finish(False)
    (_, options), *rest = wandb.told
    assert (options["project"], options["entity"], options["name"], options["id"]) == (
        "project", "team", "ftjob-1", "ftjob-1-2",
    )  # fmt: skip
    assert options["tags"] == ["openai/finetune", "openai/gpt-4o-mini", "openai/ftjob-1", "mine"]
    assert options["config"]["beta"] == 0.1
    assert options["settings"].values["mode"] == "offline"
    assert rest == [("log", 1, {"train_loss": 0.5}), ("finish", 0)]


@pytest.mark.parametrize(("key", "mode"), [("good", "online"), ("bad", "offline")])
def test_a_key_the_service_knows_sends_the_run_and_another_keeps_it_here(
    tmp_path: Path, service: Any, key: str, mode: str
) -> None:
    assert start(tmp_path, key) is not None
    values = service.told[0][1]["settings"].values
    assert values["mode"] == mode
    assert values.get("api_key") == ("good" if mode == "online" else None)


def test_a_service_that_is_away_keeps_the_run_here(tmp_path: Path, wandb: Any) -> None:
    assert start(tmp_path, "good") is not None
    assert wandb.told[0][1]["settings"].values["mode"] == "offline"


def test_the_newest_folder_of_a_run_is_the_only_one(tmp_path: Path, wandb: Any) -> None:
    earlier = tmp_path / "data" / "wandb" / "offline-run-0-ftjob-1-2"
    other = tmp_path / "data" / "wandb" / "offline-run-0-ftjob-1"
    for folder in (earlier, other):
        folder.mkdir(parents=True)
    start(tmp_path, None)
    assert sorted(path.name for path in earlier.parent.iterdir()) == [
        "offline-run-0-ftjob-1",
        "offline-run-1-ftjob-1-2",
    ]


def test_a_failed_run_ends_as_failed(tmp_path: Path, wandb: Any) -> None:
    start(tmp_path, None).finish(True)
    assert wandb.told[-1] == ("finish", 1)


def test_a_package_that_breaks_never_disturbs_the_job(
    tmp_path: Path, wandb: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run = start(tmp_path, None)
    wandb.broken = True
    run.log(1, {})
    run.log(2, {})
    run.finish(False)
    assert len(caplog.records) == 1
    assert start(tmp_path, None) is None
