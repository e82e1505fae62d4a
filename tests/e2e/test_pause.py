"""A job is paused while it trains, its checkpoint deployed, the worker killed meanwhile; resumed, it ends as if nothing
had happened."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

ASKED = {"n_epochs": 8, "batch_size": 4}
pytestmark = pytest.mark.slow


def _create(one, data: Path, **options):
    client = one.azure()
    with data.open("rb") as file:
        training = client.files.create(file=file, purpose="fine-tune")
    usual = {"model": "gpt-35-turbo-0613", "seed": 7, "hyperparameters": ASKED, "validation_file": training.id}
    return client.fine_tuning.jobs.create(training_file=training.id, **(usual | options)).id


def _status(one, job: str) -> str:
    return one.azure().fine_tuning.jobs.retrieve(job).status


def _results(one, job: str, until) -> bytes:
    until("the end", lambda: _status(one, job) in ("succeeded", "failed"), 240)
    row = one.azure().fine_tuning.jobs.retrieve(job)
    assert row.status == "succeeded", row.error
    assert row.result_files
    return one.azure().files.content(row.result_files[0]).read()


def _messages(one, job: str) -> list[str]:
    return [event.message for event in one.azure().fine_tuning.jobs.list_events(job, limit=100)]


def test_a_paused_job_serves_its_checkpoint_and_resumed_ends_bit_for_bit_the_same(
    installation, small_set: Path, until
) -> None:
    one = installation(TAILORBIRD_SAVE_EVERY="50", TAILORBIRD_LEASE_SECONDS="3")
    client = one.azure()
    job = _create(one, small_set)
    until("ten steps", lambda: any(m.startswith("Step 10:") for m in _messages(one, job)))
    assert client.fine_tuning.jobs.pause(job).status == "pausing"
    until("the pause", lambda: _status(one, job) == "paused", 60)
    until("the trainer's end", lambda: one.part("tailorbird.training") is None, 15)
    checkpoint = next(iter(client.fine_tuning.jobs.checkpoints.list(job)))
    step = checkpoint.step_number
    assert 10 <= step < 80
    assert checkpoint.fine_tuned_model_checkpoint.endswith(f":ckpt-step-{step}") or step % 10 == 0

    body = {
        "sku": {"name": "standard", "capacity": 1},
        "properties": {"model": {"format": "OpenAI", "name": checkpoint.id, "version": "1"}},
    }
    assert one.arm("PUT", "/deployments/halfway", body).status_code == 201
    until(
        "the deployment",
        lambda: one.arm("GET", "/deployments/halfway").json()["properties"]["provisioningState"] == "Succeeded",
    )
    answer = client.chat.completions.create(model="halfway", messages=[{"role": "user", "content": "hi"}], max_tokens=4)
    assert answer.usage is not None
    assert answer.usage.completion_tokens >= 1

    worker = one.part("worker")
    assert worker is not None
    worker.kill()
    until("another worker", lambda: (new := one.part("worker")) is not None and new.pid != worker.pid)
    time.sleep(1.0)
    assert _status(one, job) == "paused"

    assert client.fine_tuning.jobs.resume(job).status == "resuming"
    paused = _results(one, job, until)
    undisturbed = _results(one, _create(one, small_set), until)
    assert paused == undisturbed
    messages = _messages(one, job)
    assert len([m for m in messages if m.startswith("Step ")]) == len({m for m in messages if m.startswith("Step ")})
    assert f"Job paused at step {step}." in messages
    assert f"Job resumed after step {step}." in messages


def test_preference_training_goes_on_from_a_supervised_model(installation, small_set: Path, tmp_path, until) -> None:
    one = installation()
    first = _create(one, small_set, hyperparameters={"n_epochs": 1, "batch_size": 8})
    _results(one, first, until)
    model = one.azure().fine_tuning.jobs.retrieve(first).fine_tuned_model
    lines = [json.loads(line) for line in small_set.read_text("utf-8-sig").split("\n") if line]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(
        "".join(
            json.dumps(
                {
                    "input": {"messages": line["messages"][:-1]},
                    "preferred_output": [line["messages"][-1]],
                    "non_preferred_output": [{"role": "assistant", "content": "no"}],
                }
            )
            + "\n"
            for line in lines
        )
    )
    method = {"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 2, "batch_size": 8, "beta": 0.2}}}
    job = _create(one, pairs, model=model, hyperparameters={}, method=method)
    results = _results(one, job, until).decode()
    assert results.splitlines()[0].startswith("step,train_loss,train_mean_token_accuracy,valid_loss")
    row = one.azure().fine_tuning.jobs.retrieve(job)
    assert row.model == "gpt-35-turbo-0613"
    assert row.method is not None
    assert row.method.type == "dpo"
