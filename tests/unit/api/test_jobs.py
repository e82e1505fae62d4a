from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from tailorbird.domain import ids
from tailorbird.domain.files import File, FileStatus, Purpose
from tailorbird.domain.jobs import (
    Checkpoint,
    EventKind,
    EventLevel,
    Hyperparameters,
    JobError,
    JobEvent,
    JobStatus,
    Stage,
)

AT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.fixture
def training_file(world, account) -> str:
    """A processed file of 20 lines; no bytes are needed to name it."""
    file = File(
        "file-" + account.id,
        account.id,
        "t.jsonl",
        Purpose.FINE_TUNE,
        999,
        FileStatus.PROCESSED,
        AT,
        "k",
        None,
        "chat",
        20,
    )
    with world.store.begin() as tx:
        tx.files.add(file)
    return file.id


@pytest.fixture
def create(call, training_file):
    def send(**fields):
        body = {"model": "gpt-4o-mini", "training_file": training_file} | fields
        return call("POST", "/fine_tuning/jobs", json=body)

    return send


def change(world, job_id: str, **fields) -> None:
    with world.store.begin() as tx:
        tx.jobs.save(dataclasses.replace(tx.jobs.get(None, job_id), **fields), owner=None)


def test_a_training_file_with_nine_examples_is_refused(call, create, world, account, training_file):
    with world.store.begin() as tx:
        file = tx.files.get(account.id, training_file)
        tx.files.save(dataclasses.replace(file, examples=9))
    answer = create()
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["message"] == f"{training_file} has 9 example(s), but must have at least 10 examples"
    assert error["param"] == "training_file"
    assert call("GET", "/fine_tuning/jobs").json()["data"] == []


def test_a_new_job_has_the_surface_s_status_shape_and_words(call, create, account, training_file):
    answer = create(suffix="my-model", seed=105)
    body = answer.json()
    assert answer.status_code == (201 if call.surface == "azure" else 200), answer.text
    assert body["model"] == "gpt-4o-mini-2024-07-18", "a short name is answered with the canonical one"
    assert (body["seed"], body["object"]) == (105, "fine_tuning.job")
    if call.is_openai:
        assert body["status"] == "validating_files"
        assert body["hyperparameters"] == {"batch_size": "auto", "learning_rate_multiplier": "auto", "n_epochs": "auto"}
        assert body["user_provided_suffix"] == "my-model"
        assert body["method"] == {"type": "supervised", "supervised": {"hyperparameters": body["hyperparameters"]}}
        assert body["organization_id"] == account.organization_id
        assert (body["result_files"], body["error"], body["finished_at"]) == ([], None, None)
        assert "suffix" not in body
    else:
        expected = {"id", "object", "created_at", "model", "status", "training_file", "hyperparameters", "seed"}
        assert set(body) == expected | {"suffix", "estimated_finish"}
        assert body["status"] == "pending"
        assert body["hyperparameters"] == {"batch_size": -1, "learning_rate_multiplier": -1, "n_epochs": -1}
    if call.surface == "azure":
        assert answer.headers["location"] == f"http://data.test/openai/fine_tuning/jobs/{body['id']}"


def test_patience_is_ours_shown_where_it_was_asked_for_and_kept_for_training(call, create, world, training_file):
    asked = {"n_epochs": 9, "early_stop_patience": 2}
    for fields in (
        {"hyperparameters": asked},
        {"method": {"type": "supervised", "supervised": {"hyperparameters": asked}}},
    ):
        answer = create(validation_file=training_file, **fields)
        assert answer.is_success, answer.text
        assert answer.json()["hyperparameters"]["early_stop_patience"] == 2
        with world.store.begin() as tx:
            assert tx.jobs.get(None, answer.json()["id"]).asked.early_stop_patience == 2
    for none in (0, None, "auto", -1):
        shown = create(hyperparameters={"early_stop_patience": none}).json()["hyperparameters"]
        assert "early_stop_patience" not in shown


@pytest.mark.parametrize("auto", [-1, "auto", None, "-1"])
def test_every_spelling_of_auto_is_auto(create, auto):
    answer = create(hyperparameters={"n_epochs": auto, "batch_size": auto, "learning_rate_multiplier": auto})
    assert set(answer.json()["hyperparameters"].values()) <= {-1, "auto"}, answer.text


def test_numbers_may_be_strings_and_method_wins_over_the_top_level(create):
    answer = create(
        hyperparameters={"n_epochs": "3", "batch_size": 4, "learning_rate_multiplier": "0.5"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 7, "batch_size": "auto"}}},
    )
    expected = {"n_epochs": 7, "batch_size": 4, "learning_rate_multiplier": 0.5}
    assert answer.json()["hyperparameters"] == expected
    assert answer.json()["method"] == {"type": "supervised", "supervised": {"hyperparameters": expected}}


def test_hyperparameters_may_stand_flat_in_the_method(create):
    answer = create(method={"type": "supervised", "supervised": {"n_epochs": 2}})
    assert answer.json()["hyperparameters"]["n_epochs"] == 2


def test_nulls_everywhere_are_as_good_as_nothing(create):
    answer = create(
        validation_file=None,
        suffix=None,
        seed=None,
        hyperparameters=None,
        method=None,
        integrations=None,
        metadata=None,
    )
    assert answer.is_success, answer.text
    assert 0 <= answer.json()["seed"] < 2**31


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [("GlobalStandard", "globalStandard"), ("developertier", "developerTier"), (1, "globalStandard")],
)
def test_the_training_type_is_echoed_in_camel_case_on_azure_and_unknown_to_openai(call, create, sent, echoed):
    answer = create(trainingType=sent)
    assert answer.is_success, answer.text
    assert answer.json().get("trainingType") == (None if call.is_openai else echoed)


BAD = [
    ({"model": "gpt-9"}, 404, "model"),
    ({"model": None}, 400, "model"),
    ({"training_file": "file-none"}, 400, "training_file"),
    ({"validation_file": "file-none"}, 400, "validation_file"),
    ({"suffix": "a.b"}, 400, "suffix"),
    ({"suffix": "x" * 65}, 400, "suffix"),
    ({"suffix": 7}, 400, "suffix"),
    ({"seed": -1}, 400, "seed"),
    ({"seed": 2**31}, 400, "seed"),
    ({"seed": "105"}, 400, "seed"),
    ({"hyperparameters": {"n_epochs": 0}}, 400, "hyperparameters.n_epochs"),
    ({"hyperparameters": {"n_epochs": 51}}, 400, "hyperparameters.n_epochs"),
    ({"hyperparameters": {"n_epochs": "inf"}}, 400, "hyperparameters.n_epochs"),
    ({"hyperparameters": {"batch_size": "1e400"}}, 400, "hyperparameters.batch_size"),
    ({"hyperparameters": {"batch_size": "nan"}}, 400, "hyperparameters.batch_size"),
    ({"hyperparameters": {"n_epochs": 2.5}}, 400, "hyperparameters.n_epochs"),
    ({"hyperparameters": {"n_epochs": True}}, 400, "hyperparameters.n_epochs"),
    ({"hyperparameters": {"batch_size": 257}}, 400, "hyperparameters.batch_size"),
    ({"hyperparameters": {"learning_rate_multiplier": 0}}, 400, "hyperparameters.learning_rate_multiplier"),
    ({"hyperparameters": {"epochs": 3}}, 400, "hyperparameters.epochs"),
    ({"hyperparameters": {"prompt_loss_weight": 0.1}}, 400, "prompt_loss_weight"),
    ({"method": {"type": "dpo"}}, 400, "training_file"),
    ({"method": {"type": "supervised", "dpo": {"beta": 0.1}}}, 400, "method.dpo"),
    ({"method": {"type": "supervised", "supervised": {"beta": 0.1}}}, 400, "beta"),
    ({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 2.1}}}}, 400, "method.dpo.hyperparameters.beta"),
    ({"method": {"type": "dpo", "dpo": {"beta": 0}}}, 400, "method.dpo.beta"),
    ({"method": {"type": "dpo", "dpo": {"l2_multiplier": 1.1}}}, 400, "method.dpo.l2_multiplier"),
    ({"hyperparameters": {"l2_multiplier": 0.1}}, 400, "l2_multiplier"),
    ({"method": {"type": "reinforcement", "reinforcement": {"grader": {}}}}, 400, "method.type"),
    ({"method": {"type": "magic"}}, 400, "method.type"),
    ({"method": {"supervised": {"hyperparameters": {"n_epochs": 0}}, "type": "supervised"}}, 400,
     "method.supervised.hyperparameters.n_epochs"),
    ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, 400, "integrations"),
    ({"integrations": [{"type": "wandb", "wandb": {}}]}, 400, "integrations[0].wandb.project"),
    ({"integrations": [{"type": "mlflow"}]}, 400, "integrations[0].type"),
    ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}] * 6}, 400, "integrations"),
    ({"metadata": {"k": 1}}, 400, "metadata.k"),
    ({"metadata": {str(n): "v" for n in range(17)}}, 400, "metadata"),
    ({"metadata": {"k": "v" * 513}}, 400, "metadata"),
    ({"trainingType": "Bespoke"}, 400, "trainingType"),
    ({"n_epochs": 3}, 400, "n_epochs"),
    ({"hyperparameters": {"early_stop_patience": 2}}, 400, "early_stop_patience"),
    ({"hyperparameters": {"early_stop_patience": 51}}, 400, "hyperparameters.early_stop_patience"),
    ({"hyperparameters": {"early_stop_patience": 1.5}}, 400, "hyperparameters.early_stop_patience"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "status", "param"), BAD)
def test_a_bad_field_is_refused_by_name_and_no_job_appears(call, create, fields, status, param):
    answer = create(**fields)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert error["message"].endswith("."), error
    if call.is_openai:
        assert set(error) == {"message", "type", "param", "code"}
        assert error["type"] == "invalid_request_error"
    else:
        assert error["code"] == ("notFound" if status == 404 else "invalidPayload")
    assert call("GET", "/fine_tuning/jobs").json()["data"] == []


def test_all_faults_of_a_body_are_named_at_once(create):
    message = create(seed=-1, hyperparameters={"n_epochs": 0}, colour="red").json()["error"]["message"]
    assert all(name in message for name in ("seed", "hyperparameters.n_epochs", "colour")), message


@pytest.mark.parametrize("raw", [b"{", b"", b"[]", b'"text"', b'{"model": "\xff"}', b'{"model": NaN}'])
def test_a_body_that_is_no_json_object_is_refused(call, raw):
    answer = call("POST", "/fine_tuning/jobs", content=raw, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert "body" in answer.json()["error"]["message"].lower() or "model" in answer.json()["error"]["message"]


def test_a_succeeded_job_shows_both_surfaces_names_and_results(call, create, world, account):
    job_id = create(method={"type": "supervised"}).json()["id"]
    change(
        world, job_id, status=JobStatus.SUCCEEDED, stage=Stage.DONE, finished_at=AT, trained_tokens=77,
        resolved=Hyperparameters(3, 8, 2.0), fine_tuned_model="b.ft-1", fine_tuned_model_openai="ft:b:o::1",
        result_file="file-r",
    )  # fmt: skip
    body = call("GET", f"/fine_tuning/jobs/{job_id}").json()
    assert body["fine_tuned_model"] == ("ft:b:o::1" if call.is_openai else "b.ft-1")
    assert body["hyperparameters"] == {"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 2.0}
    assert (body["status"], body["result_files"], body["trained_tokens"]) == ("succeeded", ["file-r"], 77)
    assert body["finished_at"] == int(AT.timestamp())
    assert (body["estimated_finish"] is None) == call.is_openai


def test_a_failed_job_says_why(call, create, world):
    job_id = create().json()["id"]
    change(
        world, job_id, status=JobStatus.FAILED, stage=Stage.DONE, finished_at=AT,
        error=JobError("invalid_n_examples", "Training file has 7 example(s)", "training_file"),
    )  # fmt: skip
    error = call("GET", f"/fine_tuning/jobs/{job_id}").json()["error"]
    assert (error["code"], error["param"]) == ("invalid_n_examples", "training_file")


def test_running_is_running_and_cancel_ends_a_waiting_job(call, create, world):
    waiting, running = create().json()["id"], create().json()["id"]
    change(world, running, status=JobStatus.RUNNING)
    assert call("GET", f"/fine_tuning/jobs/{running}").json()["status"] == "running"
    assert call("POST", f"/fine_tuning/jobs/{waiting}/cancel").json()["status"] == "cancelled"
    # As curl from the documentation sends it: a content type and no body.
    again = call("POST", f"/fine_tuning/jobs/{waiting}/cancel", headers={"Content-Type": "application/json"})
    assert again.json()["status"] == "cancelled"


def test_cancelling_what_has_ended_is_refused_without_a_retry(call, create, world):
    job_id = create().json()["id"]
    change(world, job_id, status=JobStatus.SUCCEEDED, stage=Stage.DONE, finished_at=AT)
    answer = call("POST", f"/fine_tuning/jobs/{job_id}/cancel")
    assert answer.status_code == 400
    if not call.is_openai:
        assert answer.json()["error"]["code"] == "unexpectedEntityState"
    assert call("GET", f"/fine_tuning/jobs/{job_id}").json()["status"] == "succeeded"


def test_only_azure_s_dated_surface_deletes_jobs(call, create, world):
    job_id = create().json()["id"]
    change(world, job_id, status=JobStatus.CANCELLED, stage=Stage.DONE, finished_at=AT)
    answer = call("DELETE", f"/fine_tuning/jobs/{job_id}")
    assert (answer.status_code, answer.content == b"") == ((204, True) if call.surface == "azure" else (404, False))
    gone = call("GET", f"/fine_tuning/jobs/{job_id}")
    assert gone.status_code == (404 if call.surface == "azure" else 200)


def test_unknown_jobs_are_not_found_everywhere(call):
    for method, path in (("GET", ""), ("POST", "/cancel"), ("GET", "/events"), ("GET", "/checkpoints")):
        answer = call(method, f"/fine_tuning/jobs/ftjob-none{path}")
        assert answer.status_code == 404
        assert "ftjob-none" in answer.json()["error"]["message"]


def test_jobs_are_listed_newest_first_paged_and_filtered_by_metadata(call, create):
    made = [create(metadata={"team": team}).json()["id"] for team in ("a", "b", "a")]
    first = call("GET", "/fine_tuning/jobs", params={"limit": 2}).json()
    assert ([job["id"] for job in first["data"]], first["has_more"]) == ([made[2], made[1]], True)
    rest = call("GET", "/fine_tuning/jobs", params={"limit": 2, "after": made[1]}).json()
    assert ([job["id"] for job in rest["data"]], rest["has_more"]) == ([made[0]], False)
    of_a = call("GET", "/fine_tuning/jobs", params={"metadata[team]": "a"}).json()["data"]
    assert [job["id"] for job in of_a] == [made[2], made[0]]
    assert len(call("GET", "/fine_tuning/jobs", params={"metadata": "null"}).json()["data"]) == 3
    assert call("GET", "/fine_tuning/jobs", params={"status": "running"}).status_code == 400
    assert call("GET", "/fine_tuning/jobs", params={"metadata": "team=a"}).json()["error"]["param"] == "metadata"


def write_events(world, job_id: str) -> None:
    moments: list[tuple[EventKind, EventLevel, dict[str, object]]] = [
        (EventKind.STARTED, EventLevel.INFO, {}),
        (EventKind.METRICS, EventLevel.INFO, {"step": 60, "total_steps": 200, "train_loss": 3.814697265625e-06}),
        (
            EventKind.METRICS,
            EventLevel.INFO,
            {"step": 70, "total_steps": 200, "train_loss": 0.734, "valid_loss": 1.456},
        ),
        (EventKind.RESUMED, EventLevel.WARNING, {"step": 71}),
        (EventKind.RESULTS_READY, EventLevel.INFO, {"file": "file-9"}),
        (EventKind.BILLED, EventLevel.INFO, {"tokens": 7223000}),
    ]
    with world.store.begin() as tx:
        for number, (kind, level, data) in enumerate(moments):
            at = AT + timedelta(seconds=number)
            key = f"{kind}-{number}"
            tx.jobs.append_event(
                JobEvent(ids.event_id(job_id, key), job_id, key, kind, level, at, {"job": job_id, **data})
            )


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_events_speak_the_surface_s_words_newest_first(call, create, world, method):
    job_id = create().json()["id"]
    write_events(world, job_id)
    answer = call(method, f"/fine_tuning/jobs/{job_id}/events")
    events = answer.json()["data"]
    texts = [event["message"] for event in events]
    if call.is_openai:
        assert texts[:6] == [
            "Training tokens billed: 7223000",
            "Completed results file: file-9",
            "Training interrupted; resumed from the last saved state before step 71",
            "Step 70/200: training loss=0.73, validation loss=1.46",
            "Step 60/200: training loss=0.00",
            "Fine-tuning job started",
        ]
        assert texts[6] == f"Created fine-tuning job: {job_id}"
        assert [event["level"] for event in events[2:4]] == ["warn", "info"]
        assert events[3]["data"] == {"step": 70, "total_steps": 200, "train_loss": 0.734, "valid_loss": 1.456}
        assert events[0]["data"] is None
    else:
        assert texts[:6] == [
            "Training tokens billed: 7223000",
            "Completed results file: file-9",
            "Training interrupted; resumed from the last saved state before step 71.",
            "Step 70: training loss=0.734",
            "Step 60: training loss=3.814697265625E-06",
            "Job started.",
        ]
        assert texts[6] == "Job enqueued. Waiting for jobs ahead to complete."
        assert [event["level"] for event in events[2:4]] == ["warning", "info"]
        assert events[3]["data"] == {"step": 70, "train_loss": 0.734, "valid_loss": 1.456}
        assert "data" not in events[0]
    assert [event["type"] for event in events[3:6]] == ["metrics", "metrics", "message"]
    assert all(event["id"].startswith("ftevent-") for event in events)


def test_events_are_paged(call, create, world):
    job_id = create().json()["id"]
    write_events(world, job_id)
    seen: list[str] = []
    after = None
    while True:
        page = call(
            "GET", f"/fine_tuning/jobs/{job_id}/events", params={"limit": 2} | ({"after": after} if after else {})
        ).json()
        seen += [event["id"] for event in page["data"]]
        if not page["has_more"]:
            break
        after = page["last_id"]
    assert len(seen) == len(set(seen)) == 7


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_checkpoints_come_highest_step_first_with_the_surface_s_names(call, create, world, account, method):
    job_id = create().json()["id"]
    with world.store.begin() as tx:
        for step, final in ((10, False), (20, True)):
            tx.jobs.add_checkpoint(
                Checkpoint(
                    ids.checkpoint_id(job_id, step), job_id, account.id, step,
                    ids.azure_model_name("b", job_id, None, None if final else step),
                    ids.openai_model_name("b", "o", job_id, None, None if final else step),
                    "key", AT, {"step": float(step), "train_loss": 0.5}, final, final,
                )
            )  # fmt: skip
    page = call(method, f"/fine_tuning/jobs/{job_id}/checkpoints").json()
    assert [item["step_number"] for item in page["data"]] == [20, 10]
    last, earlier = page["data"]
    assert earlier["fine_tuned_model_checkpoint"].endswith(":ckpt-step-10")
    assert last["fine_tuned_model_checkpoint"].startswith("ft:b:o:" if call.is_openai else "b.ft-")
    assert last["metrics"] == {"step": 20.0, "train_loss": 0.5}
    assert (page["has_more"], page["first_id"], page["last_id"]) == (False, last["id"], earlier["id"])
