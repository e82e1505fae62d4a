"""Traps 12 to 14, 16, 19 to 21, 26, 28: where Azure's and OpenAI's files, lists and models differ."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from installation import small_rows, wait_for
from shared_service import SURFACES, Served, preference_rows

WEEKS = 1_209_600
LISTS = (
    "/files",
    "/fine_tuning/jobs",
    "/fine_tuning/jobs/{job}/events",
    "/fine_tuning/jobs/{job}/checkpoints",
    "/models",
)


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_12_a_file_starts_in_the_surface_s_word_and_ends_processed(surface: str, served: Served) -> None:
    made = served.upload(surface, small_rows(12)).json()
    assert made["status"] == ("uploaded" if surface == "openai" else "pending")
    assert _ended(served, surface, made["id"])["status"] == "processed"
    served.ask("DELETE", surface, f"/files/{made['id']}")


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("purpose", ["fine-tune", "batch", "assistants", "evals"])
def test_trap_13_no_file_stays_uploaded(surface: str, purpose: str, served: Served) -> None:
    """`wait_for_processing` of the SDK ends on processed, error and deleted only."""
    for rows, end in ((small_rows(12), "processed"), (b"not json", "error" if purpose == "fine-tune" else None)):
        made = served.upload(surface, rows, purpose)
        assert made.ok, made.text
        ended = _ended(served, surface, made.json()["id"])["status"]
        assert ended == (end or ended)
        served.ask("DELETE", surface, f"/files/{made.json()['id']}")


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_14_deleting_answers_200_and_json_for_files_and_models_on_every_surface(
    surface: str, served: Served
) -> None:
    file = served.upload(surface, small_rows(12)).json()["id"]
    deleted = served.ask("DELETE", surface, f"/files/{file}")
    assert (deleted.status_code, deleted.json()) == (200, {"id": file, "object": "file", "deleted": True})
    # The route exists for models too; this one is in use, and no base model can go.
    in_use = served.ask("DELETE", surface, f"/models/{served.model(surface)}")
    assert "wire-chat" in in_use.json()["error"]["message"]
    assert served.ask("DELETE", surface, "/models/weaver").status_code in (400, 403, 409)


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_16_a_byte_order_mark_is_taken_and_results_have_none(surface: str, served: Served) -> None:
    mark = b"\xef\xbb\xbf"
    plain = small_rows(12).removeprefix(mark)
    for rows in (plain, mark + plain, b"\n".join(mark + line for line in plain.split(b"\n"))):
        made = served.upload(surface, rows).json()
        assert _ended(served, surface, made["id"])["status"] == "processed"
        served.ask("DELETE", surface, f"/files/{made['id']}")
    job = served.ask("GET", surface, f"/fine_tuning/jobs/{served.job_id}").json()
    results = served.ask("GET", surface, f"/files/{job['result_files'][0]}/content").content
    assert results.startswith(b"step,train_loss")


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("path", LISTS)
def test_trap_19_every_list_says_has_more_and_goes_on_after_an_id(surface: str, path: str, served: Served) -> None:
    route = path.format(job=served.job_id)
    query = {} if path == "/models" else {"limit": 1000}
    whole = served.ask("GET", surface, route, params=query).json()
    assert (whole["object"], whole["has_more"]) == ("list", False)
    if path == "/models":
        return
    first = served.ask("GET", surface, route, params={"limit": 1}).json()
    assert first["has_more"] is True
    assert [row["id"] for row in first["data"]] == [whole["data"][0]["id"]]
    after = {"limit": 1000, "after": whole["data"][0]["id"]}
    rest = served.ask("GET", surface, route, params=after).json()
    assert [row["id"] for row in rest["data"]] == [row["id"] for row in whole["data"][1:]]
    last = served.ask("GET", surface, route, params={"after": whole["data"][-1]["id"]}).json()
    assert (last["data"], last["has_more"]) == ([], False)


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("spelling", ["brackets", "dots", "json"])
def test_trap_20_the_expiry_of_a_file_is_read_in_three_spellings(surface: str, spelling: str, served: Served) -> None:
    form = {
        "brackets": {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(WEEKS)},
        "dots": {"expires_after.anchor": "created_at", "expires_after.seconds": str(WEEKS)},
        "json": {"expires_after": json.dumps({"anchor": "created_at", "seconds": WEEKS})},
    }[spelling]
    made = served.upload(surface, small_rows(12), **form).json()
    assert made["expires_at"] == made["created_at"] + WEEKS
    assert served.ask("GET", surface, f"/files/{made['id']}").json()["expires_at"] == made["expires_at"]
    served.ask("DELETE", surface, f"/files/{made['id']}")


@pytest.mark.parametrize("surface", ["azure-2025-04-01-preview", "openai"])
def test_trap_21_preference_lines_are_taken_with_both_names_of_their_keys(surface: str, served: Served) -> None:
    published = preference_rows(12).replace(b"preferred_output", b"preferred_completion")
    for rows in (preference_rows(12), published):
        file = served.upload(surface, rows).json()["id"]
        assert _ended(served, surface, file)["status"] == "processed"
        with served.job(surface, training_file=file, method={"type": "dpo"}) as made:
            assert made.ok, made.text
        served.ask("DELETE", surface, f"/files/{file}")


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_26_a_model_has_azure_s_and_openai_s_fields_together(surface: str, served: Served) -> None:
    for name in ("gpt-4o-mini-2024-07-18", served.model(surface)):
        model = served.ask("GET", surface, f"/models/{name}").json()
        assert (model["object"], model["id"]) == ("model", name)
        assert model["created"] == model["created_at"]
        assert isinstance(model["owned_by"], str)
        names = {"fine_tune", "inference", "completion", "chat_completion", "embeddings"}
        assert {key for key, value in model["capabilities"].items() if isinstance(value, bool)} == names
        assert model["lifecycle_status"] in ("preview", "generally-available")
    assert (model["model"], model["fine_tune"]) == ("gpt-4o-mini-2024-07-18", served.job_id)


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_28_moments_are_whole_seconds_on_the_data_plane(surface: str, served: Served) -> None:
    answers = [served.ask("GET", surface, path.format(job=served.job_id)).json() for path in LISTS]
    job = served.ask("GET", surface, f"/fine_tuning/jobs/{served.job_id}").json()
    moments = list(_moments([*answers, job]))
    assert len(moments) > 20
    assert {type(moment) for moment in moments} == {int}


def test_trap_28_moments_are_rfc_3339_on_the_control_plane(served: Served) -> None:
    data = served.installation.arm("GET", "/deployments/wire-chat").json()["systemData"]
    for name in ("createdAt", "lastModifiedAt"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", data[name])


def _moments(body: Any) -> Any:
    if isinstance(body, list):
        for item in body:
            yield from _moments(item)
    elif isinstance(body, dict):
        for key, value in body.items():
            if key in ("created", "created_at", "finished_at", "expires_at") and value is not None:
                yield value
            yield from _moments(value)


def _ended(served: Served, surface: str, file: str) -> dict[str, Any]:
    def ended() -> bool:
        return served.ask("GET", surface, f"/files/{file}").json()["status"] in ("processed", "error")

    wait_for("the file to be judged", ended, 10)
    return served.ask("GET", surface, f"/files/{file}").json()
