"""Traps 32, 33, 37, 38: evals and graders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from installation import wait_for
from shared_service import Served

# Where the dated surface has evals: from this version on.
EVALS = ("azure-2025-04-01-preview", "azure-v1", "project", "openai")
EXACT = {
    "type": "string_check",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
    "operation": "eq",
}
CLOSE = {
    "type": "text_similarity", "input": "{{ sample.output_text }}", "reference": "{{ item.answer }}",
    "evaluation_metric": "fuzzy_match",
}  # fmt: skip


@pytest.fixture
def long_run(served: Served) -> Iterator[str]:
    """The path of a run that asks a model so often that it can be cancelled."""
    schema = {"type": "object", "properties": {"said": {"type": "string"}}}
    criterion = {"type": "string_check", "name": "c", "input": "{{ sample.output_text }}", "reference": "x"}
    made = served.ask("POST", "azure-v1", "/evals", json={
        "name": "long", "testing_criteria": [{**criterion, "operation": "eq"}],
        "data_source_config": {"type": "custom", "item_schema": schema, "include_sample_schema": True},
    }).json()  # fmt: skip
    source = {
        "type": "completions", "model": served.chat_deployment,
        "source": {"type": "file_content", "content": [{"item": {"said": "a room"}}] * 300},
        "input_messages": {"type": "template", "template": [{"role": "user", "content": "{{ item.said }}"}]},
    }  # fmt: skip
    run = served.ask("POST", "azure-v1", f"/evals/{made['id']}/runs", json={"name": "long", "data_source": source})
    assert run.status_code == 201, run.text
    yield f"/evals/{made['id']}/runs/{run.json()['id']}"
    served.ask("DELETE", "azure-v1", f"/evals/{made['id']}")


@pytest.mark.parametrize("surface", EVALS)
@pytest.mark.parametrize("end", ["", "/cancel"])
def test_trap_32_a_run_is_cancelled_by_both_paths(surface: str, end: str, long_run: str, served: Served) -> None:
    """By POST on the run as SDKs up to 2.54 and the specifications have it, and by …/cancel as 3.52 has it."""
    cancelled = served.ask("POST", surface, long_run + end)
    assert cancelled.ok, cancelled.text
    wait_for("the end", lambda: served.ask("GET", surface, long_run).json()["status"] == "canceled", 30)


def test_trap_33_jobs_are_cancelled_with_two_l_and_runs_canceled_with_one(long_run: str, served: Served) -> None:
    served.ask("POST", "openai", f"{long_run}/cancel")
    wait_for("the end", lambda: served.ask("GET", "openai", long_run).json()["status"] == "canceled", 30)
    with served.job("openai") as made:
        job = f"/fine_tuning/jobs/{made.json()['id']}"
    wait_for("the end", lambda: served.ask("GET", "openai", job).json()["status"] == "cancelled", 30)


@pytest.mark.parametrize("surface", ["azure-v1", "project", "openai"])
def test_trap_37_a_multi_grader_s_graders_are_a_dictionary(surface: str, served: Served) -> None:
    graders = {"exact": {**EXACT, "name": "exact"}, "close": {**CLOSE, "name": "close"}}
    multi = {"type": "multi", "name": "both", "graders": graders, "calculate_output": "0.5 * exact + 0.5 * close"}
    checked = served.ask("POST", surface, "/fine_tuning/alpha/graders/validate", json={"grader": multi})
    assert checked.ok, checked.text
    assert set(checked.json()["grader"]["graders"]) == {"exact", "close"}
    body = {"grader": multi, "model_sample": "friday", "item": {"answer": "friday"}}
    found = served.ask("POST", surface, "/fine_tuning/alpha/graders/run", json=body).json()
    assert found["reward"] == pytest.approx(1.0)
    assert found["sub_rewards"] == pytest.approx({"exact": 1.0, "close": 1.0})


@pytest.mark.parametrize("surface", ["azure-v1", "project", "openai"])
@pytest.mark.parametrize("grader", [EXACT, CLOSE], ids=["string_check", "text_similarity"])
def test_trap_38_the_token_usage_of_a_grader_is_null_or_a_number(
    surface: str, grader: dict[str, Any], served: Served
) -> None:
    body = {"grader": {**grader, "name": "g"}, "model_sample": "no", "item": {"answer": "friday"}}
    metadata = served.ask("POST", surface, "/fine_tuning/alpha/graders/run", json=body).json()["metadata"]
    assert "token_usage" in metadata
    assert metadata["token_usage"] is None or isinstance(metadata["token_usage"], int)
    assert len(metadata["errors"]) == 14
    assert not any(metadata["errors"].values())
