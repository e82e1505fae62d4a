"""Deployments over the wire: what az, azure-mgmt and the docs' curl send, and what they need to read."""

from __future__ import annotations

import uuid
from time import monotonic, sleep
from typing import Any

import pytest


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
        ("properties.model.source", "/subscriptions/x", "InvalidRequest", "properties.model.source"),
        ("properties.raiPolicyName", "strict", "InvalidRequest", "properties.raiPolicyName"),
        ("properties.deploymentState", "Paused", "InvalidRequest", "properties.deploymentState"),
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
