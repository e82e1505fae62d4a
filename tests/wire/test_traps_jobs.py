"""Traps 1 to 11, 15, 17, 18, 22, 27, 29, 45: where Azure's and OpenAI's fine-tuning jobs differ."""

from __future__ import annotations

import pytest
import requests
from installation import wait_for
from shared_service import AZURE, DATED, SURFACES, Served, deploy, remove_deployment
from troubled_job import ENDED, JOBS, Troubled

AZURE_WORDS = {"pending", "running", "pausing", "paused", "resuming", "succeeded", "failed", "cancelled"}
OPENAI_WORDS = {"validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"}


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_01_create_answers_201_with_a_location_on_the_dated_surface_only(surface: str, served: Served) -> None:
    with served.job(surface) as job:
        assert job.status_code == (201 if surface in DATED else 200)
        file = served.upload(surface, b'{"prompt": "a", "completion": "b"}\n' * 10)
        assert file.status_code == (201 if surface in DATED else 200)
        for made in (job, file):
            assert ("location" in made.headers) is (surface in DATED)
            if surface in DATED:
                place = made.headers["location"]
                version = {"api-version": surface.removeprefix("azure-")}
                found = requests.get(place, headers={"api-key": served.key}, params=version, timeout=30)
                assert found.json()["id"] == made.json()["id"]
    served.ask("DELETE", surface, f"/files/{file.json()['id']}")


def test_trap_02_each_surface_has_its_own_words_for_the_states_of_a_job(troubled: Troubled) -> None:
    azure, openai = troubled.azure.states, troubled.openai.states
    assert {"pending", "running", "paused", "succeeded"} <= azure <= AZURE_WORDS
    assert {"running", "paused", "succeeded"} < openai <= OPENAI_WORDS
    assert openai & {"validating_files", "queued"}


@pytest.mark.parametrize("surface", ["azure-v1", "project"])
def test_trap_03_v1_answers_azure_s_words_whatever_its_specification_says(surface: str, served: Served) -> None:
    with served.job(surface) as made:
        assert made.json()["status"] in ("pending", "running")
        listed = served.ask("GET", surface, JOBS).json()["data"]
        assert {job["status"] for job in listed} <= AZURE_WORDS


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_04_azure_leaves_out_what_has_no_value_and_openai_writes_null(surface: str, served: Served) -> None:
    with served.job(surface) as made:
        body = made.json()
    empty = ("fine_tuned_model", "finished_at", "trained_tokens", "validation_file", "error", "integrations")
    if surface == "openai":
        assert {name: body[name] for name in empty} == dict.fromkeys(empty[:-1]) | {"integrations": []}
        assert body["result_files"] == []
    else:
        assert not {*empty, "result_files", "metadata", "method"} & set(body)
        assert None not in body.values()


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_05_a_job_that_is_well_has_no_error_object(surface: str, served: Served) -> None:
    for job in served.ask("GET", surface, JOBS, params={"limit": 50}).json()["data"]:
        assert job["status"] == "failed" or job.get("error") is None


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("spelling", [-1, "auto", None, "missing", "3"], ids=str)
def test_trap_06_every_spelling_of_automatic_and_numbers_in_quotes_are_taken(
    surface: str, spelling: object, served: Served
) -> None:
    names = ("n_epochs", "batch_size", "learning_rate_multiplier")
    sent = {} if spelling == "missing" else dict.fromkeys(names, spelling)
    with served.job(surface, hyperparameters=sent) as made:
        assert made.ok, made.text
        echoed = made.json()["hyperparameters"]
    automatic = "auto" if surface == "openai" else -1
    assert [echoed[name] for name in names] == [3 if spelling == "3" else automatic] * 3


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_07_hyperparameters_are_read_from_all_three_places_and_method_wins(surface: str, served: Served) -> None:
    with served.job(surface, hyperparameters={"n_epochs": 4}) as top:
        assert top.json()["hyperparameters"]["n_epochs"] == 4
        assert ("method" in top.json()) is (surface == "openai")
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}
    with served.job(surface, hyperparameters={"n_epochs": 4}, method=method) as both:
        body = both.json()
        assert body["hyperparameters"]["n_epochs"] == 2
        assert body["method"]["supervised"]["hyperparameters"]["n_epochs"] == 2
    flat = {"type": "dpo", "dpo": {"beta": 0.3}}
    with served.job(surface, training_file=served.preference_file, method=flat) as preferred:
        body = preferred.json()
        assert body["method"]["dpo"]["hyperparameters"]["beta"] == 0.3
        assert isinstance(body["hyperparameters"], dict)


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_08_a_suffix_has_64_letters_at_most_and_no_dot(surface: str, served: Served) -> None:
    with served.job(surface, suffix="s" * 64) as made:
        assert made.json()["user_provided_suffix" if surface == "openai" else "suffix"] == "s" * 64
    for wrong in ("v1.0", "s" * 65, "", "a b"):
        refused = served.ask("POST", surface, JOBS, json=_minimal(served, suffix=wrong))
        assert refused.status_code == 400, wrong
        assert refused.json()["error"]["param"] == "suffix"


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_09_both_forms_of_a_model_s_name_are_taken_everywhere(surface: str, served: Served) -> None:
    question = {"messages": [{"role": "user", "content": "A room for two"}], "max_tokens": 4}
    for name in (served.azure_model, served.openai_model):
        assert served.ask("GET", surface, f"/models/{name}").json()["id"] == served.model(surface)
        with served.job(surface, model=name) as continued:
            assert continued.ok, continued.text
        if surface == "openai":
            answer = served.ask("POST", surface, "/chat/completions", json={"model": name, **question})
            assert answer.json()["model"] == served.openai_model
        deleted = served.ask("DELETE", surface, f"/models/{name}")
        assert "wire-chat" in deleted.json()["error"]["message"], "the model was found, and is in use"


def test_trap_10_checkpoints_are_named_by_id_and_by_both_names(served: Served) -> None:
    seen = {
        surface: served.ask("GET", surface, f"{JOBS}/{served.job_id}/checkpoints").json()["data"][1]
        for surface in SURFACES
    }
    assert all(seen[surface]["id"].startswith("ftchkpt-") for surface in AZURE)
    assert seen["openai"]["id"].startswith("ftckpt_")
    names = {seen[surface][key] for surface in SURFACES for key in ("id", "fine_tuned_model_checkpoint")}
    assert len(names) == 4
    for number, name in enumerate(sorted(names)):
        with served.job("azure-v1", model=name) as continued:
            assert continued.ok, continued.text
        deploy(served.installation, f"trap-10-{number}", name, "1")
        remove_deployment(served.installation, f"trap-10-{number}")


def test_trap_11_a_warning_is_warning_on_azure_and_warn_on_openai(troubled: Troubled) -> None:
    """Killing the trainer made one."""
    assert troubled.azure.levels == {"info", "warning"}
    assert troubled.openai.levels == {"info", "warn"}


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_15_a_job_is_deleted_with_204_on_the_dated_surface_only(surface: str, served: Served) -> None:
    with served.job(surface) as made:
        job = f"{JOBS}/{made.json()['id']}"
    _until_ended(served, surface, job)
    deleted = served.ask("DELETE", surface, job)
    assert deleted.status_code == (204 if surface in DATED else 404)
    assert deleted.content == b"" or "error" in deleted.json()
    assert served.ask("GET", surface, job).status_code == (404 if surface in DATED else 200)


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_17_results_csv_has_azure_s_seven_columns_in_plain_text(surface: str, served: Served) -> None:
    job = served.ask("GET", surface, f"{JOBS}/{served.job_id}").json()
    content = served.ask("GET", surface, f"/files/{job['result_files'][0]}/content").content
    header, *rows = content.decode("ascii").splitlines()
    assert header == (
        "step,train_loss,train_mean_token_accuracy,valid_loss,valid_mean_token_accuracy,"
        "full_valid_loss,full_valid_mean_token_accuracy"
    )
    assert [row.split(",")[0] for row in rows] == [str(step) for step in range(1, 21)]


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_18_events_are_newest_first_with_stable_ids_also_by_post(surface: str, served: Served) -> None:
    path = f"{JOBS}/{served.job_id}/events"
    first = served.ask("GET", surface, path, params={"limit": 100}).json()["data"]
    assert [event["created_at"] for event in first] == sorted((e["created_at"] for e in first), reverse=True)
    assert first[-1]["message"].startswith(("Job enqueued.", "Created fine-tuning job"))
    again = served.ask("POST", surface, path, params={"limit": 100}).json()["data"]
    assert [event["id"] for event in again] == [event["id"] for event in first]
    assert all(event["id"].startswith("ftevent-") for event in first)


@pytest.mark.parametrize("spelling", ["Standard", "GlobalStandard", "globalstandard", "developerTier", "Developer", 1])
def test_trap_22_training_type_is_taken_in_every_spelling_and_echoed_in_one(spelling: object, served: Served) -> None:
    with served.job("azure-2025-04-01-preview", trainingType=spelling) as made:
        echoed = made.json()["trainingType"]
    expected = {"standard": "standard", "globalstandard": "globalStandard"}
    assert echoed == (expected.get(str(spelling).lower(), "developerTier") if spelling != 1 else echoed)
    assert echoed[:1].islower()
    with served.job("openai", trainingType=spelling) as made:
        assert made.ok, made.text
        assert "trainingType" not in made.json()


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_27_only_openai_s_surface_tells_an_organization(surface: str, served: Served) -> None:
    job = served.ask("GET", surface, f"{JOBS}/{served.job_id}").json()
    assert "organisation_id" not in job
    assert job.get("organization_id", "").startswith("org-") is (surface == "openai")


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_29_the_estimate_stays_on_azure_and_is_null_on_openai_after_the_end(surface: str, served: Served) -> None:
    job = served.ask("GET", surface, f"{JOBS}/{served.job_id}").json()
    assert job["status"] == "succeeded"
    assert isinstance(job["estimated_finish"], int) if surface in AZURE else job["estimated_finish"] is None


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_45_a_cancelled_job_says_so_and_no_other_word_ends_a_job(surface: str, served: Served) -> None:
    with served.job(surface) as made:
        pass
    ended = _until_ended(served, surface, f"{JOBS}/{made.json()['id']}")
    assert (ended["status"], type(ended["finished_at"])) == ("cancelled", int)
    again = served.ask("POST", surface, f"{JOBS}/{made.json()['id']}/cancel")
    assert (again.json().get("status"), again.status_code) == ("cancelled", 200)
    finished = [job for job in served.ask("GET", surface, JOBS).json()["data"] if job.get("finished_at")]
    assert {job["status"] for job in finished} <= ENDED


def _minimal(served: Served, **fields: object) -> dict[str, object]:
    return {"model": "gpt-4o-mini", "training_file": served.training_file, **fields}


def _until_ended(served: Served, surface: str, job: str) -> dict[str, object]:
    wait_for("the end", lambda: served.ask("GET", surface, job).json()["status"] in ENDED, 30)
    return served.ask("GET", surface, job).json()
