from __future__ import annotations

import hashlib

import pytest

from tailorbird.domain.access import Assignment, Role, ServicePrincipal
from tailorbird.service.access import Access

AZURE_TEXT = "Access denied due to invalid subscription key or wrong API endpoint."
TOKEN_TEXT = "Unauthorized. Access token is missing, invalid"


@pytest.fixture
def ask(http, call):
    """The list of files with these headers alone."""

    def send(**headers: str):
        return call("GET", "/files", headers={"api-key": ""} | {k.replace("_", "-"): v for k, v in headers.items()})

    return send


@pytest.fixture
def token(world, account):
    """A token for a principal that holds a role on the account, made the way the login makes it."""

    def make(role: Role) -> str:
        app, oid = f"app-{role}-{account.id}", f"oid-{role}-{account.id}"
        access: Access = world.services.access
        with world.store.begin() as tx:
            tx.identities.add_service_principal(ServicePrincipal(app, oid, "p", hashlib.sha256(b"s").hexdigest()))
            tx.identities.add_assignment(oid, Assignment(role, account.resource_id))
        scope = "https://cognitiveservices.azure.com/.default"
        return access.logins.by_secret(app, "s", [scope], authority="https://control.test").access_token

    return make


def test_both_keys_open_either_way(ask, account):
    for key in (account.key1, account.key2):
        assert ask(api_key=key).status_code == 200
        assert ask(authorization=f"Bearer {key}").status_code == 200
        assert ask(authorization=f"bearer  {key}").status_code == 200
        assert ask(api_key=key, authorization=f"Bearer {key}").status_code == 200


def test_a_missing_or_wrong_key_is_the_surface_s_401(ask, call):
    for headers in (
        {},
        {"api_key": "0" * 32},
        {"authorization": "Bearer sk-0123456789abcdef"},
        {"authorization": "Basic x"},
    ):
        answer = ask(**headers)
        assert answer.status_code == 401, headers
        error = answer.json()["error"]
        if call.is_openai:
            assert (error["code"], error["type"]) == ("invalid_api_key", "invalid_request_error")
            assert "0123456789" not in error["message"], "a key is never repeated whole"
        else:
            assert error["code"] == "401"
            assert error["message"].startswith(AZURE_TEXT)


def test_an_api_key_header_decides_even_beside_a_good_bearer(ask, account):
    assert ask(api_key="wrong", authorization=f"Bearer {account.key1}").status_code == 401


def test_a_token_opens_with_a_role(ask, token, account):
    good = token(Role.OPENAI_USER)
    assert ask(authorization=f"Bearer {good}").status_code == 200


def test_a_damaged_token_is_told_so(ask, token):
    head, body, sign = token(Role.OPENAI_USER).split(".")
    answer = ask(authorization=f"Bearer {head}.{body}.{sign[:-6]}AAAAAA")
    assert answer.status_code == 401
    assert answer.json()["error"]["message"].startswith(TOKEN_TEXT)


def test_a_role_too_small_is_401_on_azure_and_403_on_openai(call, token):
    answer = call(
        "POST", "/fine_tuning/jobs", json={"model": "m", "training_file": "f"},
        headers={"api-key": "", "authorization": f"Bearer {token(Role.OPENAI_USER)}"},
    )  # fmt: skip
    assert answer.status_code == (403 if call.is_openai else 401)
    error = answer.json()["error"]
    assert error["code"] == ("insufficient_permissions" if call.is_openai else "PermissionDenied")
    assert error["message"] == "Principal does not have access to API/Operation."


def test_who_may_not_enter_learns_nothing_of_a_bad_body(call):
    answer = call("POST", "/fine_tuning/jobs", content=b"{", headers={"api-key": "no"})
    assert answer.status_code == 401


def test_what_is_made_at_an_account_s_endpoint_is_located_there(http, account):
    upload = {"files": {"file": ("t.jsonl", b"{}")}, "data": {"purpose": "batch"}}
    query = {"api-version": "2024-10-21"}
    for prefix in ("", f"/accounts/{account.name}"):
        made = http.post(f"{prefix}/openai/files", params=query, headers={"api-key": account.key1}, **upload)
        assert made.headers["location"] == f"http://data.test{prefix}/openai/files/{made.json()['id']}"
