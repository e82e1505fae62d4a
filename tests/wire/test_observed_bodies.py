"""Answers of the real service, kept as golden files: the SDK reads them unchanged, and ours have the same keys."""

from __future__ import annotations

import json
from typing import Any

import pytest
from official_specs import FOLDER
from openai.types import FileObject
from openai.types.fine_tuning import FineTuningJob
from shared_service import Served

EXAMPLES = FOLDER / "examples"
pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="the observed answers are not beside this checkout")

PENDING = "observed-azure-job-pending-2025-12_v1_wire_to_json.json"
SUCCEEDED = "observed-azure-job-succeeded-2025-05_to_dict.json"
PROCESSED = "observed-azure-file-processed_to_json.json"


def golden(name: str) -> dict[str, Any]:
    return json.loads((EXAMPLES / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", [PENDING, SUCCEEDED, PROCESSED])
def test_an_observed_body_passes_through_the_sdk_unchanged(name: str) -> None:
    body = golden(name)
    kind = FileObject if body["object"] == "file" else FineTuningJob
    assert kind.construct(**body).to_dict() == body


def test_a_new_job_on_v1_has_the_keys_of_the_observed_one(served: Served) -> None:
    observed = golden(PENDING)
    request = {
        "suffix": "golden",
        "trainingType": "globalStandard",
        "validation_file": served.training_file,
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}},
    }
    with served.job("azure-v1", **request) as made:
        # The estimate is there from the start of the job's training on; theirs was looked at a moment later.
        assert set(observed) - {"estimated_finish"} <= set(made.json()) <= set(observed)
        assert made.json()["status"] == observed["status"]
        assert _shape(made.json()["method"]) == _shape(observed["method"])
        assert _shape(made.json()["hyperparameters"]) == _shape(observed["hyperparameters"])


def test_a_succeeded_job_has_the_keys_of_the_observed_one(served: Served) -> None:
    found = served.ask("GET", "azure-2024-10-21", f"/fine_tuning/jobs/{served.job_id}").json()
    assert _shape(found) == _shape(golden(SUCCEEDED))


@pytest.mark.parametrize("surface", ["azure-2024-10-21", "azure-v1", "project"])
def test_a_processed_file_has_the_keys_of_the_observed_one(surface: str, served: Served) -> None:
    found = served.ask("GET", surface, f"/files/{served.training_file}").json()
    assert _shape(found) == _shape(golden(PROCESSED))


def _shape(body: Any) -> Any:
    """Keys and the kinds of their values; numbers are one kind."""
    if isinstance(body, dict):
        return {key: _shape(value) for key, value in body.items()}
    if isinstance(body, list):
        return [_shape(item) for item in body[:1]]
    return "number" if isinstance(body, int | float) else type(body).__name__
