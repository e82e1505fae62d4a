"""Tenants, resource groups and accounts as clients make and unmake them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tailorbird.domain.access import Role

ACCOUNT = {"location": "swedencentral", "kind": "OpenAI", "sku": {"name": "S0"}}


@pytest.fixture
def group(cloud: Any) -> str:
    path = f"/subscriptions/{cloud.account.subscription_id}/resourcegroups/g{uuid.uuid4().hex[:8]}"
    assert cloud.call("PUT", path, json={"location": "swedencentral", "tags": {"a": "b"}}).status_code == 201
    return path


@pytest.fixture
def account(group: str) -> str:
    return f"{group}/providers/Microsoft.CognitiveServices/accounts/t{uuid.uuid4().hex[:8]}"


def test_the_tenant_is_listed(cloud: Any) -> None:
    (one,) = cloud.call("GET", "/tenants").json()["value"]
    assert one["tenantId"] == cloud.credentials.tenant_id


def test_a_group_is_made_shown_tagged_and_deleted(cloud: Any, group: str) -> None:
    shown = cloud.call("GET", group).json()
    assert (shown["location"], shown["tags"]) == ("swedencentral", {"a": "b"})
    assert cloud.call("HEAD", group.upper()).status_code == 204
    assert shown in cloud.call("GET", group.rsplit("/", 1)[0]).json()["value"]
    assert cloud.call("PATCH", group, json={"tags": {"c": "d"}}).json()["tags"] == {"c": "d"}
    assert cloud.call("PUT", group, json=shown).json() == shown
    assert cloud.call("DELETE", group).status_code == 200
    for method in ("GET", "HEAD", "DELETE"):
        assert cloud.call(method, group).status_code == 404


def test_an_account_lives_from_put_to_purge(cloud: Any, group: str, account: str) -> None:
    name = account.rsplit("/", 1)[1]
    made = cloud.call("PUT", account, json={**ACCOUNT, "tags": {"a": "b"}})
    shown = made.json()
    assert (made.status_code, shown["properties"]["provisioningState"]) == (201, "Succeeded")
    assert shown["properties"]["endpoint"] == f"http://localhost:1/accounts/{name}/"
    assert (shown["properties"]["customSubDomainName"], shown["tags"]) == (name, {"a": "b"})
    assert cloud.call("PUT", account, json=shown).json() == shown
    assert cloud.call("PATCH", account, json={"tags": {"c": "d"}}).json()["tags"] == {"c": "d"}
    assert cloud.call("DELETE", group).json()["error"]["code"] == "Conflict"
    assert cloud.call("DELETE", account).status_code == 200
    assert cloud.call("DELETE", account).status_code == 204
    assert cloud.call("GET", account).status_code == 404
    taken = cloud.call("PUT", account, json=ACCOUNT)
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "FlagMustBeSetForRestore")
    back = cloud.call("PUT", account, json={**ACCOUNT, "properties": {"restore": True}})
    assert back.json()["etag"] == shown["etag"]
    cloud.call("DELETE", account)
    subscription, _, rest = account.partition("/resourcegroups/")
    place = f"{subscription}/providers/Microsoft.CognitiveServices/locations/swedencentral/resourceGroups/"
    gone = place + rest.split("/")[0] + f"/deletedAccounts/{name}"
    assert cloud.call("DELETE", gone).status_code == 200
    assert cloud.call("DELETE", gone).status_code == 404
    assert cloud.call("PUT", account, json=ACCOUNT).json()["etag"] != shown["etag"]


def test_a_regenerated_key_stops_at_once(cloud: Any, account: str) -> None:
    cloud.call("PUT", account, json=ACCOUNT)
    before = cloud.call("POST", f"{account}/listKeys").json()
    after = cloud.call("POST", f"{account}/regenerateKey", json={"keyName": "Key1"}).json()
    assert after["key2"] == before["key2"]
    assert cloud.access.by_key(before["key1"]) is None
    assert cloud.access.by_key(after["key1"]) is not None
    assert cloud.call("POST", f"{account}/regenerateKey", json={"keyName": "Key3"}).status_code == 400


@pytest.mark.parametrize(
    ("changes", "target"),
    [
        ({"kind": "Face"}, "kind"),
        ({"sku": {"name": "F0"}}, "sku.name"),
        ({"identity": {"type": "SystemAssigned"}}, "identity"),
        ({"properties": {"disableLocalAuth": True}}, "properties.disableLocalAuth"),
        ({"properties": {"publicNetworkAccess": "Disabled"}}, "properties.publicNetworkAccess"),
        ({"properties": {"networkAcls": {"defaultAction": "Deny"}}}, "properties.networkAcls"),
        ({"properties": {"encryption": {}}}, "properties.encryption"),
    ],
)
def test_what_an_account_cannot_be_is_refused_by_name(
    cloud: Any, account: str, changes: dict[str, Any], target: str
) -> None:
    answer = cloud.call("PUT", account, json={**ACCOUNT, **changes})
    assert (answer.status_code, answer.json()["error"]["target"]) == (400, target)
    assert cloud.call("GET", account).status_code == 404


def test_the_servers_own_account_stays(cloud: Any) -> None:
    answer = cloud.call("DELETE", cloud.path())
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "CannotDeleteResource")


def test_making_and_unmaking_needs_a_role(cloud: Any, group: str, account: str) -> None:
    made, secret = cloud.access.users.add_application("robot")
    cloud.access.roles.assign(made.object_id, Role.OPENAI_CONTRIBUTOR, group, by="test")
    scope = ["https://management.azure.com/.default"]
    token = cloud.access.logins.by_secret(made.app_id, secret, scope, authority=cloud.url).access_token
    cloud.call("PUT", account, json=ACCOUNT)
    for method, path, body in (
        ("PUT", account, ACCOUNT),
        ("PATCH", account, {"tags": {}}),
        ("DELETE", account, None),
        ("POST", f"{account}/regenerateKey", {"keyName": "Key1"}),
        ("PUT", group, {"location": "swedencentral"}),
        ("PATCH", group, {"tags": {}}),
        ("DELETE", group, None),
    ):
        answer = cloud.call(method, path, json=body, token=token)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "AuthorizationFailed"), (method, path)
    assert cloud.call("GET", account, token=token).status_code == 200
