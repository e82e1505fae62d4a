"""Upload, job, events, checkpoints, results, deployment, chat, clean-up: the documented path on real processes."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path

import openai
import psutil
import pytest

SYSTEM = "You turn booking requests into one line."


@pytest.fixture(scope="module")
def tuned(service, small_set: Path):
    """A finished job on the small set."""
    client = service.azure()
    with small_set.open("rb") as file:
        training = client.files.create(file=file, purpose="fine-tune")
    assert training.status == "pending"
    client.files.wait_for_processing(training.id, poll_interval=0.1, max_wait_seconds=30)
    job = client.fine_tuning.jobs.create(
        training_file=training.id,
        validation_file=training.id,
        model="gpt-35-turbo-0613",
        seed=105,
        suffix="small",
        hyperparameters={"n_epochs": 3, "batch_size": 8},
    )
    assert job.status == "pending"
    for _ in range(2400):
        job = client.fine_tuning.jobs.retrieve(job.id)
        if job.status in ("succeeded", "failed"):
            break
        time.sleep(0.1)
    assert job.status == "succeeded", job.error
    return job


def test_a_finished_job_names_its_model_and_echoes_what_was_asked(tuned) -> None:
    assert tuned.fine_tuned_model == f"gpt-35-turbo-0613.ft-{tuned.id.removeprefix('ftjob-')}-small"
    assert tuned.seed == 105
    assert tuned.hyperparameters.n_epochs == 3
    assert tuned.hyperparameters.batch_size == 8
    assert tuned.trained_tokens > 0
    assert tuned.finished_at >= tuned.created_at


def test_events_tell_the_story_newest_first_without_doubles(service, tuned) -> None:
    events = list(service.azure().fine_tuning.jobs.list_events(tuned.id, limit=5))
    messages = [event.message for event in events]
    assert len({event.id for event in events}) == len(events)
    assert messages[0].startswith("Training hours billed: 0.")
    assert "Job succeeded." in messages
    assert any(message.startswith("Step 10: training loss=") for message in messages)
    assert messages.index("Job succeeded.") < messages.index("Job started.")


def test_there_is_a_checkpoint_an_epoch_with_its_metrics(service, tuned) -> None:
    checkpoints = list(service.azure().fine_tuning.jobs.checkpoints.list(tuned.id))
    assert [c.step_number for c in checkpoints] == [15, 10, 5]
    assert checkpoints[0].fine_tuned_model_checkpoint == tuned.fine_tuned_model
    assert checkpoints[1].fine_tuned_model_checkpoint == f"{tuned.fine_tuned_model}:ckpt-step-10"
    assert all(c.metrics.full_valid_loss is not None for c in checkpoints)


def test_results_csv_has_seven_columns_and_a_row_a_step(service, tuned) -> None:
    client = service.azure()
    file = client.files.retrieve(tuned.result_files[0])
    assert (file.filename, file.purpose) == ("results.csv", "fine-tune-results")
    rows = list(csv.DictReader(io.StringIO(client.files.content(file.id).read().decode())))
    assert len(rows) == 15
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert float(rows[14]["full_valid_mean_token_accuracy"]) > float(rows[4]["full_valid_mean_token_accuracy"])
    assert rows[0]["full_valid_loss"] == ""


def test_the_model_is_deployed_chats_and_is_cleaned_up(service, tuned, until) -> None:
    client = service.azure()
    body = {
        "sku": {"name": "standard", "capacity": 1},
        "properties": {"model": {"format": "OpenAI", "name": tuned.fine_tuned_model, "version": "1"}},
    }
    created = service.arm("PUT", "/deployments/mine", body)
    assert created.status_code == 201, created.text

    def state() -> str:
        return service.arm("GET", "/deployments/mine").json()["properties"]["provisioningState"]

    until("the deployment", lambda: state() == "Succeeded", 30)

    second = service.arm("PUT", "/deployments/other", body)
    assert second.status_code == 409
    assert "mine" in second.json()["error"]["message"]

    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "A room for two"}]
    plain = client.chat.completions.create(model="mine", messages=messages, temperature=0, max_tokens=24)
    assert plain.model == tuned.fine_tuned_model
    assert plain.usage.completion_tokens <= 24
    pieces = client.chat.completions.create(model="mine", messages=messages, temperature=0, max_tokens=24, stream=True)
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in pieces if chunk.choices)
    assert streamed == plain.choices[0].message.content

    with pytest.raises(openai.ConflictError, match="mine"):
        client.with_options(max_retries=0).models.delete(tuned.fine_tuned_model)
    assert service.arm("DELETE", "/deployments/mine").status_code in (200, 202)
    until("the deletion", lambda: service.arm("GET", "/deployments/mine").status_code == 404, 30)
    with pytest.raises(openai.NotFoundError):
        client.with_options(max_retries=0).chat.completions.create(model="mine", messages=messages)


def test_checkpoints_can_be_deployed_by_name_and_by_id(service, tuned, until) -> None:
    checkpoint = list(service.azure().fine_tuning.jobs.checkpoints.list(tuned.id))[1]
    for name, reference in (("by-name", checkpoint.fine_tuned_model_checkpoint), ("by-id", checkpoint.id)):
        body = {
            "sku": {"name": "Standard", "capacity": 1},
            "properties": {"model": {"format": "OpenAI", "name": reference, "version": "1"}},
        }
        assert service.arm("PUT", f"/deployments/{name}", body).status_code == 201

        def state(name: str = name) -> str:
            return service.arm("GET", f"/deployments/{name}").json()["properties"]["provisioningState"]

        until("the deployment", lambda: state() == "Succeeded", 30)
        service.arm("DELETE", f"/deployments/{name}")
        until("the deletion", lambda name=name: service.arm("GET", f"/deployments/{name}").status_code == 404, 30)


def test_the_server_process_has_no_torch_in_it(service) -> None:
    assert service.process is not None
    server = psutil.Process(service.process.pid)
    assert not [m.path for m in server.memory_maps() if "torch" in m.path]
    worker = service.part("worker")
    assert worker is not None
    assert not [m.path for m in worker.memory_maps() if "torch" in m.path]


def test_idle_it_holds_less_than_700_megabytes_in_all_processes(service, until) -> None:
    until("the trainer to be gone", lambda: service.part("tailorbird.training") is None, 30)
    held = {process.pid: process.memory_info().rss / 2**20 for process in service.family()}
    assert sum(held.values()) < 700, held


def test_a_stop_takes_less_than_ten_seconds_and_leaves_no_process(installation) -> None:
    one = installation()
    assert len(one.family()) >= 3
    assert one.stop() < 10
