"""Methods, pauses and integrations of fine-tuning jobs as each surface shows them."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import openai
import pytest
from openai import OpenAI

from tailorbird.domain.files import File, FileStatus, Purpose
from tailorbird.domain.jobs import (
    Checkpoint,
    EventKind,
    Hyperparameters,
    JobStatus,
    Method,
    Stage,
    WandbIntegration,
)
from tailorbird.service.intake import NewJob
from tailorbird.service.jobs import Jobs, event

AT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.fixture
def files(world, account) -> dict[str, str]:
    """A processed file of each kind, by kind."""
    made = {kind: f"file-{kind}-{account.id}" for kind in ("chat", "preference")}
    with world.store.begin() as tx:
        for kind, name in made.items():
            tx.files.add(
                File(name, account.id, "t", Purpose.FINE_TUNE, 9, FileStatus.PROCESSED, AT, name, None, kind, 20)
            )
    return made


@pytest.fixture
def create(call, files):
    def send(kind: str = "preference", **fields):
        return call("POST", "/fine_tuning/jobs", json={"model": "gpt-4o-mini", "training_file": files[kind]} | fields)

    return send


@pytest.fixture
def training(world, account, files):
    """Makes a job that has trained its first step; fields on top."""

    def make(**fields) -> str:
        job = world.services.jobs.create(account.id, NewJob("gpt-4o-mini", files["chat"]))
        usual = {"status": JobStatus.RUNNING, "stage": Stage.TRAIN, "trained_steps": 1, "started_at": AT}
        with world.store.begin() as tx:
            tx.jobs.save(dataclasses.replace(job, **(usual | fields)), owner=None)
        return job.id

    return make


# --- dpo --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.5, "n_epochs": 2}}}},
        {"method": {"type": "dpo", "dpo": {"beta": 0.5, "n_epochs": 2, "l2_multiplier": 0}}},
        {"method": {"type": "dpo"}, "hyperparameters": {"beta": "0.5", "n_epochs": 2, "prompt_loss_weight": 0}},
        {
            "method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.5, "n_epochs": "auto"}}},
            "hyperparameters": {"beta": 1.5, "n_epochs": 2},
        },
    ],
)
def test_dpo_is_taken_in_all_three_places_and_method_wins(call, create, body):
    answer = create(**body)
    assert answer.is_success, answer.text
    job = answer.json()
    auto = "auto" if call.is_openai else -1
    top = {"batch_size": auto, "learning_rate_multiplier": auto, "n_epochs": 2}
    assert job["hyperparameters"] == top
    assert job["method"] == {"type": "dpo", "dpo": {"hyperparameters": top | {"beta": 0.5}}}


@pytest.mark.parametrize("beta", [-1, "auto", None, "-1"])
def test_a_body_of_the_type_alone_leaves_everything_to_auto(call, create, beta):
    auto = "auto" if call.is_openai else -1
    for method in ({"type": "dpo"}, {"type": "dpo", "dpo": {"hyperparameters": {"beta": beta}}}):
        shown = create(method=method).json()["method"]["dpo"]["hyperparameters"]
        assert shown == dict.fromkeys(("batch_size", "beta", "learning_rate_multiplier", "n_epochs"), auto)


def test_the_documented_flat_form_of_dpo_is_honoured_and_echoed(call, create):
    shown = create(method={"type": "dpo", "dpo": {"beta": 0.1, "l2_multiplier": 0.1}}).json()["method"]["dpo"]
    assert (shown["hyperparameters"]["beta"], shown["hyperparameters"]["l2_multiplier"]) == (0.1, 0.1)


def test_resolved_beta_is_shown_as_a_number(call, create, world):
    job_id = create(method={"type": "dpo"}).json()["id"]
    with world.store.begin() as tx:
        job = tx.jobs.get(None, job_id)
        assert job.method is Method.DPO
        tx.jobs.save(dataclasses.replace(job, resolved=Hyperparameters(3, 8, 1.0, 0.1)), owner=None)
    assert call("GET", f"/fine_tuning/jobs/{job_id}").json()["method"]["dpo"]["hyperparameters"]["beta"] == 0.1


def test_each_kind_of_file_is_refused_for_the_other_method_naming_the_remedy(create):
    error = create("chat", method={"type": "dpo"}).json()["error"]
    assert "preferred_output" in error["message"]
    assert "'supervised'" in error["message"]
    error = create("preference").json()["error"]
    assert '"method": {"type": "dpo"}' in error["message"]
    assert error["param"] == "training_file"


def test_a_completion_model_has_no_preference_training(create):
    error = create(model="babbage-002", method={"type": "dpo"}).json()["error"]
    assert (error["param"], "chat model" in error["message"]) == ("model", True)


def test_reinforcement_is_refused_naming_what_works(create):
    error = create(method={"type": "reinforcement", "reinforcement": {"grader": {}}}).json()["error"]
    assert error["param"] == "method.type"
    assert "'supervised' or 'dpo'" in error["message"]


# --- pause and resume -------------------------------------------------------------------------------------------------


def test_pausing_and_resuming_in_the_surfaces_words(call, training, world):
    job_id = training()
    pausing = call("POST", f"/fine_tuning/jobs/{job_id}/pause")
    assert (pausing.status_code, pausing.json()["status"]) == (200, "running" if call.is_openai else "pausing")
    with world.store.begin() as tx:
        job = tx.jobs.get(None, job_id)
        paused = dataclasses.replace(job, status=JobStatus.PAUSED, paused_at=datetime.now(UTC), pauses=1)
        tx.jobs.append_event(event(paused, "paused-1", EventKind.PAUSED, AT, {"step": 7}))
        tx.jobs.save(paused, owner=None)
    assert call("GET", f"/fine_tuning/jobs/{job_id}").json()["status"] == "paused"
    resumed = call("POST", f"/fine_tuning/jobs/{job_id}/resume", headers={"Content-Type": "application/json"})
    assert (resumed.status_code, resumed.json()["status"]) == (200, "queued" if call.is_openai else "resuming")
    texts = [item["message"] for item in call("GET", f"/fine_tuning/jobs/{job_id}/events").json()["data"]]
    if call.is_openai:
        assert texts[:3] == [
            "Fine-tuning job moved back to queued state",
            "Fine-tuning job paused at step 7",
            "Pausing fine-tuning job after the current step",
        ]
    else:
        assert texts[:3] == [
            "Job resuming. Waiting for jobs ahead to complete.",
            "Job paused at step 7.",
            "Job pausing. Training stops after the current step.",
        ]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"status": JobStatus.QUEUED}, "pause"),
        ({"trained_steps": 0}, "pause"),
        ({"stage": Stage.PROVE}, "pause"),
        ({"status": JobStatus.PAUSED, "paused_at": AT}, "pause"),
        ({}, "resume"),
        ({"status": JobStatus.PAUSING}, "resume"),
        ({"status": JobStatus.SUCCEEDED, "stage": Stage.DONE}, "resume"),
    ],
)
def test_pausing_and_resuming_at_the_wrong_time_is_an_unexpected_state(call, training, fields, path):
    job_id = training(**fields)
    answer = call("POST", f"/fine_tuning/jobs/{job_id}/{path}")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert job_id in error["message"]
    assert error["code"] == (None if call.is_openai else "unexpectedEntityState")


@pytest.mark.parametrize("status", [JobStatus.PAUSED, JobStatus.RESUMING])
def test_a_paused_or_resuming_job_is_cancelled_at_once(call, training, status):
    job_id = training(status=status, paused_at=AT)
    assert call("POST", f"/fine_tuning/jobs/{job_id}/cancel").json()["status"] == "cancelled"
    assert call("GET", f"/fine_tuning/jobs/{job_id}").json()["status"] == "cancelled"


def test_only_ended_jobs_are_deleted(on, training):
    job_id = training(status=JobStatus.PAUSED, paused_at=AT)
    answer = on("azure")("DELETE", f"/fine_tuning/jobs/{job_id}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unexpectedEntityState")


def test_the_queue_position_is_an_event(call, training, world):
    job_id = training(status=JobStatus.QUEUED)
    with world.store.begin() as tx:
        job = tx.jobs.get(None, job_id)
        tx.jobs.append_event(event(job, "place-3-0", EventKind.POSITION, AT, {"position": 3}))
    assert call("GET", f"/fine_tuning/jobs/{job_id}/events").json()["data"][0]["message"] == "Queue position: 3"


# --- integrations and limits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", [False, True])
def test_an_integration_is_echoed_as_it_was_sent(call, world, account, files, full):
    wandb = WandbIntegration("p", "n", "e", ("a", "b")) if full else WandbIntegration("p")
    jobs = Jobs(world.store, world.catalogue, _Clock(), lambda: f"{account.id}"[:32], 20, tracking=True)
    job = jobs.create(account.id, NewJob("gpt-4o-mini", files["chat"], integrations=(wandb,)))
    shown = call("GET", f"/fine_tuning/jobs/{job.id}").json()["integrations"]
    sent = {"project": "p", "name": "n", "entity": "e", "tags": ["a", "b"]}
    least = {"project": "p", "name": None, "entity": None, "tags": None} if call.is_openai else {"project": "p"}
    assert shown == [{"type": "wandb", "wandb": sent if full else least}]


class _Clock:
    def now(self) -> datetime:
        return AT


def test_a_full_account_is_told_with_azures_code(call, create, world, account):
    limited = dataclasses.replace(world.services.jobs._intake._limits, queued=1)
    was, world.services.jobs._intake._limits = world.services.jobs._intake._limits, limited
    try:
        assert create("chat").is_success
        answer = create("chat")
    finally:
        world.services.jobs._intake._limits = was
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == ("quota_exceeded" if call.is_openai else "quotaExceeded")


# --- the SDK in strict mode -------------------------------------------------------------------------------------------


@pytest.mark.wire
def test_the_sdk_in_strict_mode_reads_every_answer_about_a_preference_job(world, account, files):
    with OpenAI(base_url=f"{world.url}/v1", api_key=account.key1, _strict_response_validation=True) as client:
        jobs = client.fine_tuning.jobs
        job = jobs.create(
            model="gpt-4o-mini",
            training_file=files["preference"],
            method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}},
        )
        assert job.method is not None
        assert job.method.dpo is not None
        assert job.method.dpo.hyperparameters is not None
        assert (job.method.type, job.method.dpo.hyperparameters.beta) == ("dpo", 0.2)
        assert job.organization_id.startswith("org-")
        name, openai_name = f"b.ft-{job.id}:ckpt-step-5", f"ft:b:o::{job.id}:ckpt-step-5"
        checkpoint = Checkpoint(
            f"ftchkpt-{job.id}", job.id, account.id, 5, name, openai_name, "k", AT, {"step": 5.0}, at_pause=True
        )
        with world.store.begin() as tx:
            row = tx.jobs.get(None, job.id)
            tx.jobs.add_checkpoint(checkpoint)
            for kind in EventKind:
                tx.jobs.append_event(event(row, f"strict-{kind}", kind, AT, {"step": 1}))
        assert jobs.retrieve(job.id).method == job.method
        assert [one.id for one in jobs.list(limit=1)] == [job.id]
        assert len(list(jobs.list_events(job.id, limit=5))) == len(EventKind) + 1
        assert [one.step_number for one in jobs.checkpoints.list(job.id)] == [5]
        with pytest.raises(openai.BadRequestError, match="only a running job"):
            jobs.pause(job.id)
        assert jobs.cancel(job.id).status == "cancelled"


def test_an_account_keeps_its_wandb_key_to_itself(call, on, world, account):
    path = "/fine_tuning/integrations/wandb"
    assert call("GET", path).json() == {"object": "fine_tuning.integration", "type": "wandb", "has_key": False}
    answer = call("PUT", path, json={"api_key": "a" * 40})
    assert (answer.status_code, answer.json()["has_key"]) == (200, True)
    assert "a" * 40 not in call("GET", path).text
    with world.store.begin() as tx:
        assert tx.account_settings.get(account.id, "wandb_key") == "a" * 40
        assert tx.account_settings.get(world.new_account().id, "wandb_key") is None
    assert call("PUT", path, json={"api_key": "two words"}).json()["error"]["param"] == "api_key"
    assert call("DELETE", path).json()["has_key"] is False
    assert call("GET", path).json()["has_key"] is False
