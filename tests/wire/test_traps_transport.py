"""Traps 23 to 25, 42, 43: keys, errors and the shape of paths."""

from __future__ import annotations

import pytest
import requests
from shared_service import AZURE, SURFACES, Served

JOBS = "/fine_tuning/jobs"


def get(served: Served, surface: str, headers: dict[str, str]) -> requests.Response:
    query = {"api-version": surface.removeprefix("azure-")} if surface.startswith("azure-2") else {}
    return requests.get(served.url(surface, "/files"), params=query, headers=headers, timeout=30)


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_23_an_api_key_goes_first_and_a_bearer_value_may_be_a_key_or_a_token(surface: str, served: Served) -> None:
    key, token = served.key, served.token()
    good = ({"api-key": key}, {"Authorization": f"Bearer {key}"}, {"Authorization": f"Bearer {token}"})
    both = ({"api-key": key, "Authorization": f"Bearer {key}"}, {"api-key": key, "Authorization": "Bearer nonsense"})
    assert [get(served, surface, headers).status_code for headers in (*good, *both)] == [200] * 5
    wrong: tuple[dict[str, str], ...] = ({"api-key": "wrong"}, {"Authorization": "Bearer wrong"}, {})
    hidden = {"api-key": "wrong", "Authorization": f"Bearer {key}"}
    assert [get(served, surface, headers).status_code for headers in (*wrong, hidden)] == [401] * 4


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_24_a_conflict_tells_the_sdk_not_to_try_again(surface: str, served: Served) -> None:
    conflict = served.ask("DELETE", surface, f"/models/{served.model(surface)}")
    assert conflict.status_code == 409
    assert conflict.headers["x-should-retry"] == "false"
    ended = served.ask("POST", surface, f"{JOBS}/{served.job_id}/cancel")
    assert ended.status_code == 400
    assert ended.json()["error"]["code"] == (None if surface == "openai" else "unexpectedEntityState")


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_25_an_error_has_the_keys_that_its_readers_look_for(surface: str, served: Served) -> None:
    missing = served.ask("GET", surface, f"{JOBS}/ftjob-none").json()["error"]
    wrong = served.ask("POST", surface, JOBS, json={"model": "gpt-4o-mini"}).json()["error"]
    denied = get(served, surface, {"api-key": "wrong"}).json()["error"]
    if surface in AZURE:
        assert (missing["code"], wrong["code"], denied["code"]) == ("notFound", "invalidPayload", "401")
        assert denied["message"].startswith("Access denied due to invalid subscription key or wrong API endpoint.")
        assert None not in (*missing.values(), *wrong.values())
    else:
        assert {frozenset(error) for error in (missing, wrong, denied)} == {
            frozenset({"message", "type", "param", "code"})
        }
        assert denied["code"] == "invalid_api_key"
    assert wrong["param"] == "training_file"
    assert "training_file" in wrong["message"]


@pytest.mark.parametrize("surface", SURFACES)
def test_trap_25_every_answer_carries_its_request_ids(surface: str, served: Served) -> None:
    for path in ("/files", f"{JOBS}/ftjob-none"):
        answer = served.ask("GET", surface, path)
        assert answer.headers["x-request-id"] == answer.headers["apim-request-id"]


def test_trap_25_a_missing_version_is_a_path_that_nobody_has(served: Served) -> None:
    bare = requests.get(f"{served.endpoint}/openai/files", headers={"api-key": served.key}, timeout=30)
    assert (bare.status_code, bare.json()["error"]["message"]) == (404, "Resource not found")


@pytest.mark.parametrize("version", ["2023-05-15", "2024-08-01-preview", "2025-11-15-preview", "v1", "preview"])
def test_trap_25_any_form_of_a_version_is_taken(version: str, served: Served) -> None:
    address = f"{served.endpoint}/openai/files"
    answer = requests.get(address, headers={"api-key": served.key}, params={"api-version": version}, timeout=30)
    assert answer.ok, answer.text


@pytest.mark.parametrize("path", ["//openai/v1/files", "/openai//v1//files", "/openai/v1/files/", "//v1/files/"])
def test_trap_42_double_slashes_and_one_at_the_end_are_no_other_path(path: str, served: Served) -> None:
    headers = {"api-key": served.key}
    read = requests.get(served.endpoint + path, headers=headers, timeout=30, allow_redirects=False)
    assert (read.status_code, read.json()["object"]) == (200, "list")
    rows = {"file": ("rows.jsonl", b'{"prompt": "a", "completion": "b"}\n' * 10)}
    made = requests.post(
        served.endpoint + path, headers=headers, files=rows, data={"purpose": "fine-tune"}, timeout=30,
        allow_redirects=False,
    )  # fmt: skip
    assert made.status_code == 200, "POST is not sent elsewhere: a client would repeat it as GET"
    served.ask("DELETE", "openai", f"/files/{made.json()['id']}")


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("path", ["events", "checkpoints"])
def test_trap_43_post_is_taken_where_the_documents_wrongly_print_it(surface: str, path: str, served: Served) -> None:
    route = f"{JOBS}/{served.job_id}/{path}"
    assert served.ask("POST", surface, route).json() == served.ask("GET", surface, route).json()
