"""Deployments over the wire: what az, azure-mgmt and the docs' curl send, and what they need to read."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import replace
from time import monotonic, sleep
from typing import Any

import pytest

from tailorbird.domain.access import Account, Assignment, Role, ServicePrincipal
from tailorbird.domain.deployments import ProvisioningState


@pytest.fixture
def name() -> str:
    return f"Dep-{uuid.uuid4().hex[:8]}"


@pytest.fixture(autouse=True)
def healthy(cloud: Any):
    yield
    cloud.engine.hold, cloud.engine.refusal = False, None


def body(model: str, **sku: Any) -> dict[str, Any]:
    """As the documentation prints it."""
    return {
        "sku": {"name": "standard", "capacity": 1, **sku},
        "properties": {"model": {"format": "OpenAI", "name": model, "version": "1"}},
    }


def finished(cloud: Any, url: str) -> dict[str, Any]:
    """Polls an operation as the SDK does."""
    end = monotonic() + 10
    while monotonic() < end:
        answer = cloud.call("GET", url)
        if answer.json()["status"] in ("Succeeded", "Failed", "Canceled"):
            return answer.json()
        assert answer.headers["Retry-After"] == "1"
        sleep(0.02)
    raise AssertionError("the operation does not end")


def test_a_put_answers_201_creating_and_can_be_polled_until_it_succeeded(cloud: Any, name: str) -> None:
    model = cloud.tuned()
    cloud.engine.hold = True
    answer = cloud.call("PUT", cloud.path(f"/deployments/{name}"), json=body(model.name))
    assert (answer.status_code, answer.headers["Retry-After"]) == (201, "1")
    shown = answer.json()
    assert shown["properties"]["provisioningState"] == "Creating"
    operation = answer.headers["Azure-AsyncOperation"]
    assert operation.startswith(cloud.url)
    assert operation.endswith("?api-version=2024-10-01")
    assert cloud.call("GET", operation).json()["status"] == "Creating"
    assert cloud.call("GET", cloud.path(f"/deployments/{name}")).headers["Retry-After"] == "1"
    cloud.engine.hold = False
    assert finished(cloud, operation)["status"] == "Succeeded"
    assert cloud.settled(name)["properties"]["provisioningState"] == "Succeeded"
    assert model.checkpoint_id in cloud.engine.loaded


def test_the_resource_has_the_fields_of_the_contract(cloud: Any, name: str) -> None:
    model = cloud.tuned()
    cloud.call("PUT", cloud.path(f"/deployments/{name}"), json={**body(model.name), "tags": {"team": "a"}})
    shown = cloud.settled(name)
    assert shown["id"] == f"{cloud.account.resource_id}/deployments/{name}"
    assert (shown["name"], shown["type"]) == (name, "Microsoft.CognitiveServices/accounts/deployments")
    assert shown["sku"] == {"name": "Standard", "capacity": 1}
    assert shown["properties"]["model"] == {"format": "OpenAI", "name": model.name, "version": "1"}
    assert shown["tags"] == {"team": "a"}
    assert shown["systemData"]["createdBy"] == "tailorbird-local"
    assert shown["systemData"]["createdAt"].endswith("Z")
    assert shown["etag"].startswith('"')
    assert shown in cloud.call("GET", cloud.path("/deployments")).json()["value"]
    assert cloud.call("GET", cloud.path(f"/Deployments/{name.upper()}")).json() == shown


def test_what_az_sends_and_what_the_docs_print_is_taken(cloud: Any, name: str) -> None:
    cloud.call("PUT", cloud.path(f"/deployments/{name}"), json=body(cloud.tuned().name, capacity="3"))
    assert cloud.settled(name)["sku"]["capacity"] == 3
    other = f"{name}-post"
    path = f"/{cloud.path().replace('resourceGroups', 'resourcegroups')}/deployments/{other}"
    answer = cloud.call("POST", f"{cloud.url}{path}?api-version=2024-10-21", json=body(cloud.tuned().name))
    assert answer.status_code == 201


def test_the_old_form_with_scale_settings_is_honoured(cloud: Any, name: str) -> None:
    old = {
        "properties": {
            "model": {"format": "OpenAI", "name": cloud.tuned().checkpoint_id, "version": "1"},
            "scaleSettings": {"scaleType": "Standard", "capacity": 4},
        }
    }
    answer = cloud.call("PUT", cloud.path(f"/deployments/{name}"), json=old)
    assert answer.status_code == 201
    assert answer.json()["sku"] == {"name": "Standard", "capacity": 4}


def test_putting_back_what_was_got_is_an_update_with_200(cloud: Any, name: str) -> None:
    cloud.call("PUT", cloud.path(f"/deployments/{name}"), json=body(cloud.tuned().name))
    shown = cloud.settled(name)
    shown["sku"]["capacity"] = 50
    answer = cloud.call("PUT", cloud.path(f"/deployments/{name}"), json=shown)
    assert (answer.status_code, answer.json()["sku"]["capacity"]) == (200, 50)
    assert answer.json()["properties"]["provisioningState"] == "Succeeded"
    assert "Azure-AsyncOperation" not in answer.headers


def test_a_failed_deployment_says_why_in_the_resource_and_in_the_operation(cloud: Any, name: str) -> None:
    cloud.engine.refusal = "rank too high"
    answer = cloud.call("PUT", cloud.path(f"/deployments/{name}"), json=body(cloud.tuned().name))
    ended = finished(cloud, answer.headers["Azure-AsyncOperation"])
    shown = cloud.settled(name)
    assert (ended["status"], shown["properties"]["provisioningState"]) == ("Failed", "Failed")
    assert ended["error"] == shown["properties"]["error"]
    assert ended["error"]["message"] == "The engine refused the adapter: rank too high"


def test_a_second_deployment_of_the_same_model_is_a_clear_conflict(cloud: Any, name: str) -> None:
    model = cloud.tuned()
    cloud.call("PUT", cloud.path(f"/deployments/{name}"), json=body(model.name))
    answer = cloud.call("PUT", cloud.path(f"/deployments/{name}-2"), json=body(model.openai_name))
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "DeploymentAlreadyExists")
    assert f"'{name}'" in answer.json()["error"]["message"]
    assert cloud.call("GET", cloud.path(f"/deployments/{name}-2")).status_code == 404


def test_a_delete_answers_202_is_polled_and_the_second_one_answers_204(cloud: Any, name: str) -> None:
    model = cloud.tuned()
    cloud.call("PUT", cloud.path(f"/deployments/{name}"), json=body(model.name))
    cloud.settled(name)
    answer = cloud.call("DELETE", cloud.path(f"/deployments/{name.lower()}"))
    assert (answer.status_code, answer.content, answer.headers["Retry-After"]) == (202, b"", "1")
    assert answer.headers["Location"] == answer.headers["Azure-AsyncOperation"]
    assert finished(cloud, answer.headers["Azure-AsyncOperation"])["status"] == "Succeeded"
    assert cloud.call("GET", cloud.path(f"/deployments/{name}")).json()["error"]["code"] == "ResourceNotFound"
    assert cloud.call("DELETE", cloud.path(f"/deployments/{name}")).status_code == 204
    assert model.checkpoint_id not in cloud.engine.loaded


def test_a_deployment_deleted_before_it_was_ready_ends_its_operation(cloud: Any, name: str) -> None:
    cloud.engine.hold = True
    answer = cloud.call("PUT", cloud.path(f"/deployments/{name}"), json=body(cloud.tuned().name))
    deleted = cloud.call("DELETE", cloud.path(f"/deployments/{name}"))
    assert finished(cloud, deleted.headers["Azure-AsyncOperation"])["status"] == "Succeeded"
    assert finished(cloud, answer.headers["Azure-AsyncOperation"])["status"] == "Canceled"


def test_an_operation_nobody_started_does_not_exist(cloud: Any, name: str) -> None:
    assert cloud.call("GET", cloud.path(f"/deployments/{name}/operations/paint")).status_code == 404


def changed(good: dict[str, Any], where: str, value: Any) -> dict[str, Any]:
    *parents, last = where.split(".")
    inner = good
    for part in parents:
        inner = inner.setdefault(part, {})
    if value is None:
        inner.pop(last)
    else:
        inner[last] = value
    return good


@pytest.mark.parametrize(
    ("where", "value", "code", "target"),
    [
        ("properties.model.name", "nothing", "DeploymentModelNotSupported", "properties.model"),
        ("properties.model.version", "7", "DeploymentModelNotSupported", "properties.model"),
        ("properties.model.format", "Cohere", "DeploymentModelNotSupported", "properties.model"),
        ("properties.model.name", None, "InvalidRequest", "properties.model.name"),
        ("properties", None, "InvalidRequest", "properties"),
        ("sku.name", "Premium", "InvalidResourceProperties", "sku.name"),
        ("sku.capacity", 0, "InvalidCapacity", "sku.capacity"),
        ("sku.capacity", "many", "InvalidRequest", "sku.capacity"),
        ("sku.capacity", 1.5, "InvalidRequest", "sku.capacity"),
        ("sku.name", None, "InvalidRequest", "sku.name"),
        ("sku.tier", "Premium", "InvalidRequest", "sku.tier"),
        ("properties.model.source", "/subscriptions/x", "InvalidRequest", "properties.model.source"),
        ("properties.model.publisher", "Mistral AI", "InvalidRequest", "properties.model.publisher"),
        ("properties.raiPolicyName", "strict", "InvalidRequest", "properties.raiPolicyName"),
        ("properties.spilloverDeploymentName", "other", "InvalidRequest", "properties.spilloverDeploymentName"),
        ("properties.deploymentState", "Asleep", "InvalidRequest", "properties.deploymentState"),
        ("properties.versionUpgradeOption", "Sometimes", "InvalidRequest", "properties.versionUpgradeOption"),
        ("properties.colour", "red", "InvalidRequest", "properties.colour"),
        ("colour", "red", "InvalidRequest", "colour"),
    ],
)
def test_a_body_we_cannot_honour_is_refused_naming_the_field(
    cloud: Any, name: str, where: str, value: Any, code: str, target: str
) -> None:
    answer = cloud.call("PUT", cloud.path(f"/deployments/{name}"), json=changed(body(cloud.tuned().name), where, value))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["target"]) == (400, code, target)
    assert cloud.call("GET", cloud.path(f"/deployments/{name}")).status_code == 404


def test_a_body_that_is_no_json_is_refused(cloud: Any, name: str) -> None:
    answer = cloud.call(
        "PUT", cloud.path(f"/deployments/{name}"), data="{", headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "InvalidRequest")
    assert "not valid JSON" in answer.json()["error"]["message"]


@pytest.mark.parametrize("bad", ["a b", "-x", "x" * 65])
def test_a_deployment_name_that_is_none_is_refused(cloud: Any, bad: str) -> None:
    answer = cloud.call("PUT", cloud.path(f"/deployments/{bad}"), json=body(cloud.tuned().name))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "InvalidResourceName")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "GET"])
def test_without_a_token_nothing_happens(cloud: Any, name: str, method: str) -> None:
    assert cloud.call(method, cloud.path(f"/deployments/{name}"), token="", json=body("x")).status_code == 401


# --- what the resource tells ------------------------------------------------------------------------------------------


def test_a_deployment_shows_what_it_can_do_and_how_much(cloud: Any, name: str) -> None:
    sent = body(cloud.tuned().name, capacity=2)
    sent["properties"] |= {
        "versionUpgradeOption": "onceNewDefaultVersionAvailable",
        "raiPolicyName": "Microsoft.Default",
    }
    cloud.call("PUT", cloud.path(f"/deployments/{name}"), json=sent)
    shown = cloud.settled(name)["properties"]
    assert shown["capabilities"] == {"chatCompletion": "true", "maxContextToken": "1024", "maxOutputToken": "1024"}
    assert shown["rateLimits"] == [
        {"key": "request", "renewalPeriod": 60, "count": 12},
        {"key": "token", "renewalPeriod": 60, "count": 2000},
    ]
    assert (shown["currentCapacity"], shown["deploymentState"]) == (2, "Running")
    assert shown["versionUpgradeOption"] == "OnceNewDefaultVersionAvailable"
    assert shown["raiPolicyName"] == "Microsoft.Default"


@pytest.mark.parametrize("version", ["2024-07-18", None])
def test_a_base_model_is_named_with_its_version_apart(cloud: Any, name: str, version: str | None) -> None:
    sent = changed(body("gpt-4o-mini"), "properties.model.version", version)
    assert cloud.call("PUT", cloud.path(f"/deployments/{name}"), json=sent).status_code == 201
    model = cloud.settled(name)["properties"]["model"]
    assert model == {"format": "OpenAI", "name": "gpt-4o-mini", "version": "2024-07-18"}


def test_an_unfinished_put_names_the_operation_and_the_resource(cloud: Any, name: str) -> None:
    cloud.engine.hold = True
    answer = cloud.call("PUT", cloud.path(f"/deployments/{name}"), json=body(cloud.tuned().name))
    assert answer.headers["Location"] == f"{cloud.url}{cloud.account.resource_id}/deployments/{name}"


# --- change, pause ----------------------------------------------------------------------------------------------------


def test_a_patch_changes_capacity_and_tags_and_leaves_the_rest(cloud: Any, name: str) -> None:
    path = cloud.path(f"/deployments/{name}")
    cloud.call("PUT", path, json={**body(cloud.tuned().name), "tags": {"team": "a"}})
    first = cloud.settled(name)
    answer = cloud.call("PATCH", path, json={"sku": {"name": "standard", "capacity": "9"}})
    assert (answer.status_code, answer.json()["sku"]) == (200, {"name": "Standard", "capacity": 9})
    assert answer.json()["tags"] == {"team": "a"}
    assert answer.json()["etag"] != first["etag"]
    answer = cloud.call("PATCH", path, json={"tags": {"team": "b"}})
    assert (answer.json()["sku"]["capacity"], answer.json()["tags"]) == (9, {"team": "b"})
    assert cloud.call("GET", path).json() == answer.json()


@pytest.mark.parametrize(
    ("sent", "status", "target"),
    [
        ({"properties": {}}, 400, "properties"),
        ({"sku": {"name": "Premium"}}, 400, "sku.name"),
        ({"sku": {"name": "Standard", "capacity": 0}}, 400, "sku.capacity"),
        ({"sku": {"name": "DeveloperTier"}}, 400, "sku.name"),
        ({"sku": {"name": "Standard", "capacity": 10_001}}, 400, "sku.capacity"),
    ],
)
def test_a_patch_we_cannot_honour_is_refused_naming_the_field(
    cloud: Any, name: str, sent: dict[str, Any], status: int, target: str
) -> None:
    cloud.call("PUT", cloud.path(f"/deployments/{name}"), json=body(cloud.tuned().name))
    answer = cloud.call("PATCH", cloud.path(f"/deployments/{name}"), json=sent)
    assert (answer.status_code, answer.json()["error"]["target"]) == (status, target)
    assert cloud.call("PATCH", cloud.path(f"/deployments/{name}x"), json={}).status_code == 404


def test_too_much_capacity_is_insufficient_quota(cloud: Any, name: str) -> None:
    answer = cloud.call("PUT", cloud.path(f"/deployments/{name}"), json=body(cloud.tuned().name, capacity=10_001))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "InsufficientQuota")


def test_a_deployment_is_paused_and_resumed(cloud: Any, name: str) -> None:
    path = cloud.path(f"/deployments/{name}")
    cloud.call("PUT", path, json=body(cloud.tuned().name))
    cloud.settled(name)
    for word, state in (("pause", "Paused"), ("resume", "Running")):
        answer = cloud.call("POST", f"{path}/{word}")
        assert (answer.status_code, answer.json()["properties"]["deploymentState"]) == (200, state)
    assert cloud.call("POST", f"{path}x/pause").status_code == 404
    sent = body(cloud.call("GET", path).json()["properties"]["model"]["name"])
    sent["properties"]["deploymentState"] = "Paused"
    assert cloud.call("PUT", path, json=sent).json()["properties"]["deploymentState"] == "Paused"


def test_the_skus_a_deployment_can_change_to_are_listed(cloud: Any, name: str) -> None:
    cloud.call("PUT", cloud.path(f"/deployments/{name}"), json=body(cloud.tuned().name, name="GlobalStandard"))
    answer = cloud.call("GET", cloud.path(f"/deployments/{name}/skus")).json()
    first = answer["value"][0]
    assert first["resourceType"] == "Microsoft.CognitiveServices/accounts/deployments"
    assert first["sku"] == {"name": "GlobalStandard"}
    assert first["capacity"]["minimum"] == 1
    assert 1 < first["capacity"]["maximum"] <= 10_000
    assert {row["sku"]["name"] for row in answer["value"]} >= {"Standard", "DeveloperTier", "ProvisionedManaged"}


# --- models of another account ----------------------------------------------------------------------------------------


@pytest.fixture
def neighbour(cloud: Any) -> Account:
    """An account in a subscription and a location of its own."""
    code = uuid.uuid4().hex[:8]
    made = replace(cloud.account, id=code, subscription_id=f"sub-{code}", name=f"n{code}", location="east")
    made = replace(made, key1=f"1{code}", key2=f"2{code}", sub_domain=f"n{code}")
    with cloud.store.begin() as tx:
        tx.accounts.add(made)
    return made


def reader(cloud: Any, *assignments: Assignment) -> str:
    """A token of an application with these roles."""
    code, secret = uuid.uuid4().hex, "s3cret"
    digest = hashlib.sha256(secret.encode()).hexdigest()
    with cloud.store.begin() as tx:
        tx.identities.add_service_principal(ServicePrincipal(code, f"o-{code}", f"n-{code}", digest))
        for assignment in assignments:
            tx.identities.add_assignment(f"o-{code}", assignment)
    scope = "https://management.azure.com/.default"
    return cloud.access.logins.by_secret(code, secret, [scope], authority=cloud.url).access_token


def deploy_from(cloud: Any, source: str, neighbour: Account, model: str, **more: Any) -> Any:
    sent = body(model)
    sent["properties"]["model"][more.pop("field", "source")] = source
    return cloud.call("PUT", f"{neighbour.resource_id}/deployments/copied", json=sent, **more)


def test_a_model_is_deployed_from_another_subscription(cloud: Any, neighbour: Account) -> None:
    model = cloud.tuned().name
    here = Assignment(Role.COGNITIVE_CONTRIBUTOR, neighbour.resource_id)
    there = Assignment(Role.OPENAI_USER, cloud.account.resource_id)
    answer = deploy_from(cloud, cloud.account.resource_id, neighbour, model, token=reader(cloud, here, there))
    assert answer.status_code == 201
    assert answer.json()["properties"]["model"]["source"] == cloud.account.resource_id
    cloud.deployments.get(neighbour.id, "copied")
    end = monotonic() + 10
    while cloud.deployments.get(neighbour.id, "copied").state is ProvisioningState.CREATING:
        assert monotonic() < end
        sleep(0.02)
    row = cloud.deployments.get(neighbour.id, "copied")
    assert (row.state, row.served_model) == (ProvisioningState.SUCCEEDED, model)


def test_rights_on_both_accounts_are_needed(cloud: Any, neighbour: Account) -> None:
    model, source = cloud.tuned().name, cloud.account.resource_id
    here = Assignment(Role.COGNITIVE_CONTRIBUTOR, neighbour.resource_id)
    there = Assignment(Role.OPENAI_USER, source)
    for token in (reader(cloud, here), reader(cloud, there)):
        answer = deploy_from(cloud, source, neighbour, model, token=token)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "AuthorizationFailed")
    # Of another tenant the right to read comes with a second token.
    header = {"x-ms-authorization-auxiliary": f"Bearer {reader(cloud, there)}"}
    answer = deploy_from(
        cloud, source, neighbour, model, token=reader(cloud, here), headers=header, field="sourceAccount"
    )
    assert answer.status_code == 201
    bad = {"x-ms-authorization-auxiliary": "Bearer nonsense"}
    answer = deploy_from(cloud, source, neighbour, model, token=reader(cloud, here, there), headers=bad)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "InvalidAuthenticationToken")


def test_two_different_sources_are_refused(cloud: Any, name: str) -> None:
    sent = body(cloud.tuned().name)
    sent["properties"]["model"] |= {
        "source": f"{cloud.account.resource_id}x",
        "sourceAccount": cloud.account.resource_id,
    }
    answer = cloud.call("PUT", cloud.path(f"/deployments/{name}"), json=sent)
    assert (answer.status_code, answer.json()["error"]["target"]) == (400, "properties.model.source")


# --- etags ------------------------------------------------------------------------------------------------------------


def test_a_change_is_made_only_to_the_version_the_caller_has_seen(cloud: Any, name: str) -> None:
    path = cloud.path(f"/deployments/{name}")
    sent = body(cloud.tuned().name)
    assert cloud.call("PUT", path, json=sent, headers={"If-Match": "*"}).status_code == 412
    assert cloud.call("PUT", path, json=sent, headers={"If-None-Match": "*"}).status_code == 201
    seen = cloud.settled(name)["etag"]
    again = cloud.call("PUT", path, json=sent, headers={"If-None-Match": "*"})
    assert (again.status_code, again.json()["error"]["code"]) == (412, "PreconditionFailed")
    sku = {"sku": {"name": "Standard", "capacity": 3}}
    assert cloud.call("PATCH", path, json=sku, headers={"If-Match": f'"x", {seen}'}).status_code == 200
    for method, more in (("PATCH", {"json": sku}), ("PUT", {"json": sent}), ("DELETE", {})):
        late = cloud.call(method, path, headers={"If-Match": seen}, **more)
        assert (late.status_code, late.json()["error"]["target"]) == (412, "If-Match")
    newest = cloud.call("GET", path).json()["etag"]
    assert cloud.call("DELETE", path, headers={"If-Match": newest}).status_code == 202
