"""The audit route: from the request that did it to the entry that tells of it."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tailorbird.domain.access import Role

AUDIT = "/tailorbird/v1/audit"


def token_of(cloud: Any, role: Role | None, scope: str = "") -> str:
    """Of a new application that holds this role at the account or `scope`."""
    made, secret = cloud.access.users.add_application(f"app-{uuid.uuid4().hex[:6]}")
    if role is not None:
        cloud.access.roles.assign(made.object_id, role, scope or cloud.path(), by="test")
    scopes = ["https://management.azure.com/.default"]
    return cloud.access.logins.by_secret(made.app_id, secret, scopes, authority=cloud.url).access_token


def read(cloud: Any, token: str | None = None, **query: str) -> list[dict[str, Any]]:
    text = "&".join(f"{name}={value}" for name, value in query.items())
    answer = cloud.call("GET", f"{AUDIT}?{text}", token=token)
    assert answer.status_code == 200, answer.text
    return answer.json()["value"]


def test_listing_keys_leaves_who_where_from_and_which_request(cloud: Any) -> None:
    listed = cloud.call("POST", cloud.path("/listKeys"))
    [entry] = read(cloud, requestId=listed.headers["x-request-id"])
    assert entry["action"] == "Microsoft.CognitiveServices/accounts/listKeys/action"
    assert entry["resource"] == cloud.path()
    assert (entry["outcome"], entry["sourceAddress"]) == ("Succeeded", "127.0.0.1")
    assert entry["principalName"] == "tailorbird-local"
    assert listed.json()["key1"] not in str(entry)


def test_deployments_leave_their_creation_changes_and_end(cloud: Any) -> None:
    name = f"d-{uuid.uuid4().hex[:6]}"
    path = cloud.path(f"/deployments/{name}")
    model = {"format": "OpenAI", "name": "gpt-4o-mini", "version": "2024-07-18"}
    body = {"sku": {"name": "Standard", "capacity": 1}, "properties": {"model": model}}
    assert cloud.call("PUT", path, json=body).status_code == 201
    cloud.settled(name)
    cloud.call("PATCH", path, json={"sku": {"name": "Standard", "capacity": 2}})
    cloud.call("POST", f"{path}/pause")
    assert cloud.call("DELETE", path).status_code == 202
    entries = read(cloud, scope=path)
    assert [(e["action"].rsplit("/", 1)[1], e["detail"]) for e in reversed(entries)] == [
        ("write", "gpt-4o-mini, Standard, capacity 1"),
        ("write", "Standard, capacity 2"),
        ("write", "paused"),
        ("delete", ""),
    ]


def test_a_refused_request_is_in_the_trail_as_denied(cloud: Any) -> None:
    refused = cloud.call("POST", cloud.path("/regenerateKey"), json={"keyName": "Key1"}, token=token_of(cloud, None))
    assert refused.status_code == 403
    [entry] = read(cloud, requestId=refused.headers["x-request-id"], outcome="denied")
    assert entry["action"].endswith("/regenerateKey/action")


def test_a_failed_login_is_in_the_trail(cloud: Any) -> None:
    form = {"grant_type": "password", "client_id": "c", "username": "eve", "password": "guess"}
    form["scope"] = "https://management.azure.com/.default"
    failed = cloud.call("POST", f"/{cloud.access.tenant_id}/oauth2/v2.0/token", data=form, token="")
    assert failed.status_code == 400
    [entry] = read(cloud, requestId=failed.headers["x-request-id"])
    assert (entry["resource"], entry["outcome"]) == ("/tailorbird/logins/eve", "Denied")


def test_pages_are_linked_and_go_back_to_the_beginning(cloud: Any) -> None:
    for _ in range(3):
        cloud.call("POST", cloud.path("/listKeys"))
    answer = cloud.call("GET", f"{AUDIT}?action=*&scope={cloud.path()}&limit=2").json()
    numbers = [entry["number"] for entry in answer["value"]]
    while answer["nextLink"]:
        answer = cloud.call("GET", answer["nextLink"]).json()
        numbers += [entry["number"] for entry in answer["value"]]
    assert len(numbers) >= 3
    assert numbers == sorted(set(numbers), reverse=True)


def test_an_owner_of_one_account_sees_that_account_only(cloud: Any) -> None:
    cloud.call("POST", cloud.path("/listKeys"))
    own = read(cloud, token_of(cloud, Role.OWNER))
    assert {entry["resource"].startswith(cloud.path()) for entry in own} == {True}
    elsewhere = cloud.call("GET", f"{AUDIT}?scope=/subscriptions/x", token=token_of(cloud, Role.OWNER))
    assert elsewhere.status_code == 403


@pytest.mark.parametrize("role", [None, Role.CONTRIBUTOR, Role.OPENAI_CONTRIBUTOR])
def test_who_owns_nothing_is_refused(cloud: Any, role: Role | None) -> None:
    answer = cloud.call("GET", AUDIT, token=token_of(cloud, role))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "AuthorizationFailed")


def test_without_a_token_nothing_is_shown_and_a_key_is_none(cloud: Any) -> None:
    assert cloud.call("GET", AUDIT, token="").status_code == 401
    assert cloud.call("GET", AUDIT, token="", headers={"api-key": cloud.account.key1}).status_code == 401


@pytest.mark.parametrize(
    ("query", "target"),
    [
        ("outcome=maybe", "outcome"),
        ("since=yesterday", "since"),
        ("until=2026-13-01", "until"),
        ("scope=account", "scope"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("before=x", "before"),
        ("who=anna", "who"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused_by_name(cloud: Any, query: str, target: str) -> None:
    answer = cloud.call("GET", f"{AUDIT}?{query}")
    assert (answer.status_code, answer.json()["error"]["target"]) == (400, target)


def test_times_are_taken_with_and_without_a_zone(cloud: Any) -> None:
    listed = cloud.call("POST", cloud.path("/listKeys"))
    request_id = listed.headers["x-request-id"]
    [entry] = read(cloud, requestId=request_id)
    assert len(read(cloud, requestId=request_id, since=entry["time"])) == 1
    assert read(cloud, requestId=request_id, until=entry["time"]) == []
    assert len(read(cloud, requestId=request_id, since="2026-01-01", until="2999-01-01T00:00:00+00:00")) == 1
