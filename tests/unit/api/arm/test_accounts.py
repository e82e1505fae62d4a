"""Subscriptions, groups and accounts; who may see them; what a refusal looks like on the control plane."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tailorbird.domain.access import Assignment, Role, ServicePrincipal


def holder(cloud: Any, role: Role | None) -> str:
    """A token of a new application with this role on the account."""
    app = str(uuid.uuid4())
    held = (Assignment(role, cloud.account.resource_id),) if role else ()
    with cloud.store.begin() as tx:
        tx.identities.add_service_principal(ServicePrincipal(app, str(uuid.uuid4()), "robot", "", held))
    secret = cloud.access.users.reset_secret(app)
    scope = ["https://management.azure.com/.default"]
    return cloud.access.logins.by_secret(app, secret, scope, authority=cloud.url).access_token


def test_the_subscription_is_listed_as_az_login_needs_it(cloud: Any) -> None:
    body = cloud.call("GET", "/subscriptions").json()
    (one,) = body["value"]
    assert one["subscriptionId"] == cloud.account.subscription_id
    assert one["id"] == f"/subscriptions/{cloud.account.subscription_id}"
    assert (one["state"], one["tenantId"]) == ("Enabled", cloud.credentials.tenant_id)
    assert body["nextLink"] is None
    assert cloud.call("GET", one["id"].upper()).json() == one


def test_the_group_is_listed_and_shown(cloud: Any) -> None:
    groups = f"/subscriptions/{cloud.account.subscription_id}/resourcegroups"
    (one,) = (group for group in cloud.call("GET", groups).json()["value"] if group["name"] == "local")
    assert cloud.call("GET", f"{groups}/LOCAL").json() == one


def test_the_account_says_where_its_data_plane_is_and_keeps_the_case_of_its_name(cloud: Any) -> None:
    shown = cloud.call("GET", cloud.path().replace("/local", "/LOCAL")).json()
    assert shown["properties"]["endpoint"] == "http://localhost:1/"
    assert (shown["id"], shown["name"], shown["kind"]) == (cloud.account.resource_id, "local", "OpenAI")
    assert shown["properties"]["provisioningState"] == "Succeeded"
    subscription = f"/subscriptions/{cloud.account.subscription_id}"
    for listing in (cloud.path().rsplit("/", 1)[0], f"{subscription}/providers/Microsoft.CognitiveServices/accounts"):
        listed = cloud.call("GET", listing).json()
        assert shown in listed["value"]
        assert listed["nextLink"] is None


def test_list_keys_answers_both_keys_to_an_empty_post(cloud: Any) -> None:
    answer = cloud.call("POST", cloud.path("/listKeys"))
    assert answer.json() == {"key1": cloud.account.key1, "key2": cloud.account.key2}
    assert answer.json()["key1"] != answer.json()["key2"]


@pytest.mark.parametrize(
    "changed",
    [
        str.lower,
        lambda path: path.replace("resourceGroups", "resourcegroups"),
        lambda path: path.replace("Microsoft.CognitiveServices", "MICROSOFT.COGNITIVESERVICES"),
        lambda path: path + "/",
        lambda path: "/" + path,
    ],
)
@pytest.mark.parametrize("version", ["2023-05-01", "2026-05-15-preview", "2024-10-21"])
def test_paths_match_in_any_case_and_with_any_api_version(cloud: Any, changed: Any, version: str) -> None:
    assert cloud.call("GET", f"{cloud.url}{changed(cloud.path())}?api-version={version}").status_code == 200


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "AuthenticationFailed"),
        ("Basic eDp5", "AuthenticationFailed"),
        ("Bearer", "AuthenticationFailed"),
        ("Bearer rubbish", "InvalidAuthenticationToken"),
    ],
)
def test_without_a_good_token_the_answer_is_401_with_a_challenge(cloud: Any, header: str | None, code: str) -> None:
    headers = {"Authorization": header} if header else {}
    answer = cloud.call("GET", "/subscriptions", token="", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_key_opens_nothing_on_the_control_plane(cloud: Any) -> None:
    for how in ({"api-key": cloud.account.key1}, {"Authorization": f"Bearer {cloud.account.key1}"}):
        assert cloud.call("POST", cloud.path("/listKeys"), token="", headers=how).status_code == 401


@pytest.mark.parametrize(
    ("role", "show", "keys", "deploy"),
    [
        (None, 403, 403, 403),
        (Role.OPENAI_USER, 200, 403, 403),
        (Role.OPENAI_CONTRIBUTOR, 200, 403, 400),
        (Role.COGNITIVE_CONTRIBUTOR, 200, 200, 400),
        (Role.OWNER, 200, 200, 400),
    ],
)
def test_each_role_reaches_what_azure_lets_it_reach(
    cloud: Any, role: Role | None, show: int, keys: int, deploy: int
) -> None:
    token = holder(cloud, role)
    assert cloud.call("GET", cloud.path(), token=token).status_code == show
    assert cloud.call("POST", cloud.path("/listKeys"), token=token).status_code == keys
    # An empty body: who may deploy is told what is missing.
    assert cloud.call("PUT", cloud.path("/deployments/d"), token=token, json={}).status_code == deploy
    seen = cloud.call("GET", "/subscriptions", token=token).json()["value"]
    assert len(seen) == (0 if role is None else 1)


def test_a_missing_role_is_403_and_names_action_and_scope(cloud: Any) -> None:
    answer = cloud.call("POST", cloud.path("/listKeys"), token=holder(cloud, Role.OPENAI_USER))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (403, "AuthorizationFailed")
    assert "accounts/listKeys/action" in error["message"]
    assert cloud.account.resource_id in error["message"]


def test_a_missing_account_group_or_subscription_is_404_in_arms_shape(cloud: Any) -> None:
    subscription = f"/subscriptions/{cloud.account.subscription_id}"
    missing = {
        cloud.path()[: -len("local")] + "nowhere": "ResourceNotFound",
        f"{subscription}/resourceGroups/nowhere": "ResourceGroupNotFound",
        "/subscriptions/nowhere": "SubscriptionNotFound",
        f"{subscription}/providers/Microsoft.Compute/virtualMachines": "ResourceNotFound",
    }
    for path, code in missing.items():
        answer = cloud.call("GET", path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, code), path
        assert answer.json()["error"]["message"]


def test_a_query_parameter_nobody_reads_is_refused_by_name(cloud: Any) -> None:
    answer = cloud.call("GET", f"{cloud.url}{cloud.path()}?api-version=2024-10-01&$expand=all")
    assert (answer.status_code, answer.json()["error"]["target"]) == (400, "$expand")


def test_every_answer_carries_arms_request_ids(cloud: Any) -> None:
    asked = {"x-ms-client-request-id": "mine", "x-ms-correlation-request-id": "chain"}
    for path, status in ((cloud.path(), 200), (cloud.path("/deployments/none"), 404)):
        answer = cloud.call("GET", path, headers=asked)
        assert answer.status_code == status
        assert answer.headers["x-ms-client-request-id"] == "mine"
        assert answer.headers["x-ms-correlation-request-id"] == "chain"
        assert answer.headers["x-ms-request-id"]
    unasked = cloud.call("GET", cloud.path()).headers
    assert unasked["x-ms-correlation-request-id"] == unasked["x-ms-request-id"]
    assert "x-ms-client-request-id" not in unasked
