"""The command line as a client of the public API: each command against a live installation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def _run(service: Any, *arguments: str, code: int = 0, **changes: str) -> str:
    """Standard output of `tailorbird …`, or its standard error when it is to fail."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "200", **service.credentials, **changes}
    done = subprocess.run(
        [sys.executable, "-m", "tailorbird.cli.main", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return (done.stderr if code else done.stdout).strip()


@pytest.fixture(scope="module")
def file_id(service: Any, small_set: Path) -> str:
    return _run(service, "files", "upload", str(small_set))


def test_a_file_is_uploaded_listed_and_read_back(service: Any, file_id: str, small_set: Path) -> None:
    assert file_id.startswith("file-")
    row = next(line for line in _run(service, "files", "list").splitlines() if file_id in line)
    assert row.split() == [file_id, "train.jsonl", "fine-tune", "processed", str(small_set.stat().st_size)]
    assert _run(service, "files", "content", file_id) == small_set.read_text("utf-8").strip()


def test_a_file_with_faults_is_refused_with_their_lines(service: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"messages": []}\n{broken\n')
    message = _run(service, "files", "upload", str(bad), code=1)
    assert "Line 1" in message
    assert "Line 2" in message


def test_a_job_is_created_followed_and_cancelled(service: Any, file_id: str) -> None:
    job = _run(service, "jobs", "create", file_id, "--n-epochs", "50", "--seed", "3", "--suffix", "cli")
    assert f'"id": "{job}"' in _run(service, "jobs", "show", job)
    assert job in _run(service, "jobs", "list")
    _run(service, "jobs", "cancel", job)
    # Cancelling a running job takes its worker a moment; following it shows the end either way.
    assert "cancelled" in _run(service, "jobs", "follow", job, code=1)
    events = _run(service, "jobs", "events", job).splitlines()
    assert events[0].endswith("Job enqueued. Waiting for jobs ahead to complete.")
    # What was trained until then is billed after it, when anything was.
    assert any(line.endswith("Job cancelled.") for line in events[-2:])
    assert "step" in _run(service, "jobs", "checkpoints", job)
    assert "only a running job can be paused" in _run(service, "jobs", "pause", job, code=1)
    assert "only a paused job can be resumed" in _run(service, "jobs", "resume", job, code=1)


def test_a_method_and_its_beta_reach_the_service(service: Any, file_id: str) -> None:
    assert "preferred_output" in _run(service, "jobs", "create", file_id, "--method", "dpo", "--beta", "0.2", code=1)
    assert "beta" in _run(service, "jobs", "create", file_id, "--method", "dpo", "--beta", "3", code=1)


def test_a_base_model_is_deployed_chatted_with_and_deleted(service: Any) -> None:
    assert _run(service, "deployments", "create", "cli-base", "weaver") == "cli-base"
    assert "Succeeded" in _run(service, "deployments", "list")
    _run(service, "chat", "cli-base", "hello", "--temperature", "0", "--max-tokens", "5")
    _run(service, "deployments", "delete", "cli-base")
    message = _run(service, "chat", "cli-base", "hello", code=1)
    assert "The API deployment for this resource does not exist." in message


def test_the_service_s_refusal_is_passed_on_in_its_words(service: Any, file_id: str) -> None:
    message = _run(service, "jobs", "create", file_id, "--suffix", "a.b", code=1)
    assert message.startswith("tailorbird: 400: The suffix 'a.b' is not valid.")


def test_a_missing_variable_is_named_with_the_remedy(service: Any) -> None:
    message = _run(service, "files", "list", code=1, AZURE_OPENAI_ENDPOINT="")
    assert message.startswith("tailorbird: AZURE_OPENAI_ENDPOINT is not set.")
