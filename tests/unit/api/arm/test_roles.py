"""Role definitions and assignments in ARM's shapes, as `az role assignment` asks for them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tailorbird.domain.access import ROLE_IDS, Role

PROVIDER = "/providers/Microsoft.Authorization"


def body(role: Role, holder: str, **more: Any) -> dict[str, Any]:
    definition = f"{PROVIDER}/roleDefinitions/{ROLE_IDS[role]}"
    return {"properties": {"roleDefinitionId": definition, "principalId": holder, "principalType": "User", **more}}


def robot(cloud: Any) -> tuple[str, Any]:
    """A new application without roles, and a function that gets its token."""
    made, secret = cloud.access.users.add_application("robot")
    scope = ["https://management.azure.com/.default"]

    def token() -> str:
        return cloud.access.logins.by_secret(made.app_id, secret, scope, authority=cloud.url).access_token

    return made.object_id, token


@pytest.mark.parametrize("level", ["subscription", "group", "account"])
def test_an_assignment_at_each_level_counts_until_it_is_deleted(cloud: Any, level: str) -> None:
    subscription = f"/subscriptions/{cloud.account.subscription_id}"
    scope = {"subscription": subscription, "group": f"{subscription}/resourceGroups/local", "account": cloud.path()}
    holder, token = robot(cloud)
    path = f"{scope[level]}{PROVIDER}/roleAssignments/{uuid.uuid4()}"
    assert cloud.call("GET", cloud.path(), token=token()).status_code == 403
    made = cloud.call("PUT", path, json=body(Role.READER, holder))
    shown = made.json()
    assert (made.status_code, shown["id"], shown["properties"]["principalType"]) == (201, path, "User")
    assert (
        shown["properties"]["roleDefinitionId"] == f"{subscription}{PROVIDER}/roleDefinitions/{ROLE_IDS[Role.READER]}"
    )
    assert cloud.call("PUT", path, json=body(Role.READER, holder)).status_code == 200
    assert cloud.call("GET", path.upper()).json()["name"] == shown["name"]
    # The token from before counts: roles are read with every request.
    assert cloud.call("GET", cloud.path(), token=token()).status_code == 200
    listed = cloud.call("GET", f"{cloud.url}{scope[level]}{PROVIDER}/roleAssignments?$filter=principalId eq '{holder}'")
    assert [one["id"] for one in listed.json()["value"]] == [path]
    assert cloud.call("DELETE", path).status_code == 200
    assert cloud.call("DELETE", path).status_code == 204
    assert cloud.call("GET", path).status_code == 404
    assert cloud.call("GET", cloud.path(), token=token()).status_code == 403


def test_only_an_owner_gives_roles_and_nobody_beyond_their_scope(cloud: Any) -> None:
    holder, token = robot(cloud)
    for role, scope, status in (
        (Role.CONTRIBUTOR, cloud.path(), 403),
        (Role.OWNER, cloud.path(), 201),
        (None, f"/subscriptions/{cloud.account.subscription_id}", 403),
        (None, "", 403),
    ):
        if role is not None:
            cloud.access.roles.assign(holder, role, cloud.path(), by="test")
        path = f"{scope}{PROVIDER}/roleAssignments/{uuid.uuid4()}"
        given = cloud.call("PUT", path, json=body(Role.READER, str(uuid.uuid4())), token=token())
        assert given.status_code == status, (role, scope, given.text)


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"roleDefinitionId": f"{PROVIDER}/roleDefinitions/{uuid.UUID(int=1)}"}, 400, "RoleDefinitionDoesNotExist"),
        ({"condition": "@Resource[x] == 1"}, 400, "InvalidRequest"),
        ({"principalType": "Group"}, 400, "InvalidRequest"),
        ({"colour": "red"}, 400, "InvalidRequest"),
    ],
)
def test_what_cannot_be_honoured_is_refused(cloud: Any, changes: dict[str, Any], status: int, code: str) -> None:
    path = cloud.path(f"{PROVIDER}/roleAssignments/{uuid.uuid4()}")
    answer = cloud.call("PUT", path, json=body(Role.READER, "holder", **changes))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert cloud.call("GET", path).status_code == 404


def test_a_role_at_a_scope_that_is_not_there_is_refused(cloud: Any) -> None:
    subscription = f"/subscriptions/{cloud.account.subscription_id}"
    for scope in (f"{subscription}/resourceGroups/nowhere", cloud.path()[: -len("local")] + "nowhere"):
        path = f"{scope}{PROVIDER}/roleAssignments/{uuid.uuid4()}"
        assert cloud.call("PUT", path, json=body(Role.READER, "holder")).status_code == 404


def test_az_finds_a_role_by_its_name(cloud: Any) -> None:
    where = f"{cloud.url}/subscriptions/{cloud.account.subscription_id}{PROVIDER}/roleDefinitions"
    (one,) = cloud.call("GET", f"{where}?$filter=roleName eq 'Cognitive Services OpenAI User'").json()["value"]
    assert one["name"] == ROLE_IDS[Role.OPENAI_USER]
    permissions = one["properties"]["permissions"][0]
    assert "Microsoft.CognitiveServices/accounts/read" in permissions["actions"]
    assert "Microsoft.CognitiveServices/accounts/OpenAI/files/read" in permissions["dataActions"]
    assert cloud.call("GET", f"{cloud.url}{one['id']}").json() == one
    assert cloud.call("GET", f"{where}/{uuid.UUID(int=1)}").status_code == 404
