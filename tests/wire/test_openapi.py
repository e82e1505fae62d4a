"""Schemathesis, told by our own OpenAPI document what to send: no answer that the document does not describe."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from client_runs import ROOT, Judge, Result
from described_account import DescribedAccount, describe, give_back
from shared_service import Served

VERSION = "4.32.5"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
QUICK = r"^/v1/(files|models|fine_tuning/jobs)"
# The dated surface's prefix is the begin of the other's.
SURFACES = {
    "azure": r"^/openai/(?!v1/)",
    "azure-v1": r"^/openai/v1/",
    "azure-project": r"^/api/projects/",
    "openai": r"^/v1/",
}
_SECONDS = 500


@pytest.fixture
def account(served: Served, request: pytest.FixtureRequest) -> Iterator[DescribedAccount]:
    """The test's own, as it deletes what it finds."""
    one = describe(served, re.sub(r"\W+", "-", request.node.name)[-40:].strip("-"))
    yield one
    give_back(served, one)


def operations(document: dict[str, Any], pattern: str) -> list[str]:
    paths = document["paths"]
    return [f"{method.upper()} {path}" for path in paths if re.search(pattern, path) for method in paths[path]]


def fuzzed(account: DescribedAccount, surface: str, pattern: str, mode: str, folder: Path, *options: str) -> Result:
    """What schemathesis found on the operations of this pattern; each of them is a call."""
    program = ROOT / ".venvs" / f"schemathesis-{VERSION}" / "bin" / "st"
    assert program.exists(), f"schemathesis {VERSION} is not installed: `make clients` makes its environment"
    report, described, traffic = folder / "report.json", folder / "openapi.json", folder / "traffic.har"
    described.write_text(json.dumps(account.document), encoding="utf-8")
    ended = subprocess.run(
        [
            str(program), "--no-color", "run", str(described), "--url", account.endpoint, "--header",
            f"api-key: {account.key}", "--include-path-regex", pattern, "--checks", ",".join(CHECKS),
            "--generation-deterministic", "--no-shrink", "--continue-on-failure", "--warnings", "off",
            "--suppress-health-check", "all", "--request-timeout", "60", "--report", "json,har",
            "--report-json-path", str(report), "--report-har-path", str(traffic), *options,
        ],
        cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    assert report.exists(), ended.stdout[-3000:] + ended.stderr[-3000:]
    found = json.loads(report.read_text(encoding="utf-8"))
    assert found["complete"], ended.stdout[-3000:]
    failed: dict[str, str] = {}
    for failure in (*found["failures"], *found["errors"]):
        for operation in failure.get("operations", ["the run"]):
            failed[operation] = f"{failure.get('title', failure)}\n{ended.stdout[-6000:]}"
    names = operations(account.document, pattern)
    assert found["operations"]["tested"] == len(names)
    _check_reached(traffic, account)
    result = Result(Judge("schemathesis", VERSION, surface, mode), tuple(names), failed)
    result.keep()
    return result


def _check_reached(traffic: Path, account: DescribedAccount) -> None:
    """Fuzzing says nothing when every request is refused: what makes something has to have made something."""
    entries = json.loads(traffic.read_text(encoding="utf-8"))["log"]["entries"]
    good = {
        (entry["request"]["method"], urlsplit(entry["request"]["url"]).path.rsplit("/", 1)[1])
        for entry in entries
        if entry["response"]["status"] < 300
    }
    assert {("POST", "jobs"), ("POST", "import"), ("GET", "content"), ("GET", account.ids["job_id"])} <= good


def test_files_models_and_jobs_answer_as_the_document_says(account: DescribedAccount, tmp_path: Path) -> None:
    options = ("--phases", "examples,fuzzing", "--max-examples", "3")
    assert fuzzed(account, "openai", QUICK, "quick", tmp_path, *options).failed == {}


@pytest.mark.wire_full
@pytest.mark.parametrize("surface", SURFACES)
def test_every_operation_answers_as_the_document_says(surface: str, account: DescribedAccount, tmp_path: Path) -> None:
    options = ("--phases", "examples,coverage,fuzzing", "--max-examples", "5")
    assert fuzzed(account, surface, SURFACES[surface], "every operation", tmp_path, *options).failed == {}
