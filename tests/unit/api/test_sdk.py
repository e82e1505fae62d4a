"""The vendors' SDK, unmodified, against the live server."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import openai
import pytest
from openai import AzureOpenAI, OpenAI

from tailorbird.domain import ids
from tailorbird.domain.jobs import Checkpoint, EventKind, EventLevel, Hyperparameters, JobEvent, JobStatus, Stage
from tailorbird.domain.models import TunedModel

AT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
pytestmark = pytest.mark.wire


def clients(url: str, key: str) -> dict[str, OpenAI]:
    return {
        "azure": AzureOpenAI(azure_endpoint=url, api_key=key, api_version="2024-10-21"),
        "azure-v1": OpenAI(base_url=f"{url}/openai/v1/", api_key=key),
        "azure-project": OpenAI(base_url=f"{url}/api/projects/p1/openai/v1/", api_key=key),
        # Strict: a field of the wrong type or an unknown enum value is an error, not a shrug.
        "openai": OpenAI(base_url=f"{url}/v1", api_key=key, _strict_response_validation=True),
    }


@pytest.fixture(params=["azure", "azure-v1", "azure-project", "openai"])
def client(request: pytest.FixtureRequest, world, account) -> Iterator[OpenAI]:
    made = clients(world.url, account.key1)[request.param]
    yield made
    made.close()


@pytest.fixture
def training(tmp_path: Path, chat_lines) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + chat_lines(12))
    return path


def succeed(world, account, job_id: str) -> TunedModel:
    """Plays the worker: what the pipeline would have written."""
    with world.store.begin() as tx:
        job = tx.jobs.get(None, job_id)
        name = ids.azure_model_name(job.model, job.id, job.suffix)
        openai_name = ids.openai_model_name(job.model, "o", job.id, job.suffix)
        checkpoint = Checkpoint(
            ids.checkpoint_id(job.id, 4), job.id, account.id, 4, name, openai_name, f"adapters/{job.id}", AT,
            {"step": 4.0, "train_loss": 0.5, "valid_loss": 0.25}, True, True,
        )  # fmt: skip
        model = TunedModel(name, openai_name, account.id, job.id, checkpoint.id, job.model, job.base, "", AT)
        tx.jobs.add_checkpoint(checkpoint)
        tx.models.add(model)
        for step in range(1, 5):
            data: dict[str, object] = {"step": step, "total_steps": 4, "train_loss": 1.0 / step}
            tx.jobs.append_event(
                JobEvent(
                    ids.event_id(job.id, f"step-{step}"),
                    job.id,
                    f"step-{step}",
                    EventKind.METRICS,
                    EventLevel.INFO,
                    AT,
                    data,
                )
            )
        warning: dict[str, object] = {"step": 2}
        tx.jobs.append_event(
            JobEvent(ids.event_id(job.id, "r"), job.id, "r", EventKind.RESUMED, EventLevel.WARNING, AT, warning)
        )
        done = dataclasses.replace(
            job, status=JobStatus.SUCCEEDED, stage=Stage.DONE, finished_at=AT, trained_tokens=99,
            resolved=Hyperparameters(2, 8, 1.0), fine_tuned_model=name, fine_tuned_model_openai=openai_name,
            result_file="file-r",
        )  # fmt: skip
        tx.jobs.save(done, owner=None)
    world.blobs.put(f"adapters/{job_id}/adapter_config.json", [b"{}"])
    return model


def test_the_documented_flow_runs_on_every_surface(world, account, client, training, engine):
    with training.open("rb") as source:
        file = client.files.create(file=source, purpose="fine-tune")
    file = client.files.wait_for_processing(file.id, poll_interval=0.05, max_wait_seconds=10)
    assert (file.status, file.bytes) == ("processed", training.stat().st_size)
    assert client.files.content(file.id).read() == training.read_bytes()
    assert [f.id for f in client.files.list()] == [file.id]

    strict = bool(client._strict_response_validation)
    job = client.fine_tuning.jobs.create(
        training_file=file.id,
        validation_file=file.id,
        model="gpt-4o-mini",
        seed=105,
        suffix="docs",
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
        extra_body={"trainingType": "GlobalStandard"},
    )
    assert (job.object, job.seed, job.method.supervised.hyperparameters.n_epochs) == ("fine_tuning.job", 105, 2)
    assert job.status == ("validating_files" if strict else "pending")
    assert not job.error

    model = succeed(world, account, job.id)
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded"
    assert job.fine_tuned_model == (model.openai_name if strict else model.name)
    assert job.result_files == ["file-r"]
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=2))
    assert len({event.id for event in events}) == len(events) == 6
    assert events[0].level == ("warn" if strict else "warning")
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id))
    assert checkpoints[0].metrics.train_loss == 0.5
    assert job.id in [j.id for j in client.fine_tuning.jobs.list(limit=1)]
    assert client.models.retrieve(job.fine_tuned_model).id == job.fine_tuned_model
    assert job.fine_tuned_model in [m.id for m in client.models.list()]

    world.services.deployments.create(account, "docs", model_name=job.fine_tuned_model, by="test")
    asyncio.run(world.services.deployments.provision(account.id, "docs"))
    messages = [{"role": "user", "content": "Hi"}]
    answer = client.chat.completions.create(model="docs", messages=messages, max_tokens=20, logprobs=True)
    assert answer.choices[0].message.content == "Hello there!"
    assert answer.model == model.name
    assert engine.asked[-1].model == model.checkpoint_id
    engine.loaded.clear()
    stream = client.chat.completions.create(
        model="docs", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello there!"
    assert chunks[-1].usage.completion_tokens == 12
    assert model.checkpoint_id in engine.loaded, "an adapter the engine had lost was loaded again"

    other = client.fine_tuning.jobs.create(training_file=file.id, model=job.fine_tuned_model)
    assert client.fine_tuning.jobs.cancel(other.id).status == "cancelled"
    assert client.files.delete(file.id).deleted


def test_openai_s_surface_chats_with_a_model_by_its_name(world, account, training, engine):
    client = clients(world.url, account.key1)["openai"]
    file = client.files.create(file=training.read_bytes(), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(training_file=file.id, model="gpt-4o-mini")
    model = succeed(world, account, job.id)
    answer = client.chat.completions.create(model=model.openai_name, messages=[{"role": "user", "content": "Hi"}])
    assert (answer.model, engine.asked[-1].model) == (model.openai_name, model.checkpoint_id)
    assert client.models.delete(model.openai_name).deleted
    completion = client.completions.create(model="babbage-002", prompt="x", echo=True, max_tokens=2)
    assert completion.choices[0].text == "xHe"
    client.close()


def test_errors_arrive_as_the_sdk_s_classes(client):
    cases = [
        (openai.NotFoundError, lambda: client.files.retrieve("file-none")),
        (openai.NotFoundError, lambda: client.fine_tuning.jobs.retrieve("ftjob-none")),
        (
            openai.NotFoundError,
            lambda: client.chat.completions.create(model="none", messages=[{"role": "user", "content": "x"}]),
        ),
        (openai.BadRequestError, lambda: client.files.create(file=("a.jsonl", b""), purpose="fine-tune")),
        (
            openai.BadRequestError,
            lambda: client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file="file-none"),
        ),
        (openai.AuthenticationError, lambda: client.with_options(api_key="wrong").files.list()),
    ]
    for expected, attempt in cases:
        with pytest.raises(expected) as caught:
            attempt()
        assert caught.value.request_id
        assert caught.value.message


def test_a_body_above_the_limit_arrives_as_an_error_and_not_as_a_broken_connection(client):
    data = b"x" * 8_000_000
    patient = client.with_options(max_retries=0)
    with pytest.raises(openai.APIStatusError) as caught:
        patient.files.create(file=("big.jsonl", data), purpose="fine-tune")
    assert caught.value.status_code == 413
    with pytest.raises(openai.AuthenticationError):
        patient.with_options(api_key="wrong").files.create(file=("big.jsonl", data), purpose="fine-tune")


def test_a_stream_broken_in_the_middle_raises_in_the_sdk(world, account, deployed, engine):
    client = clients(world.url, account.key1)["azure-v1"]
    engine.break_after = 3
    with pytest.raises(openai.APIError, match="engine"):
        list(client.chat.completions.create(model=deployed, messages=[{"role": "user", "content": "x"}], stream=True))
    client.close()


def test_a_base_url_on_azure_s_client_puts_the_deployment_in_the_v1_path(world, account, deployed, engine):
    client = AzureOpenAI(base_url=f"{world.url}/openai/v1/", api_key=account.key1, api_version="preview")
    answer = client.chat.completions.create(model=deployed, messages=[{"role": "user", "content": "x"}])
    assert answer.choices[0].message.content == "Hello there!"
    assert client.files.list().data == []
    client.close()
