"""Models, usages, capacities and locations over the wire, in the shapes az and azure-mgmt read."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

FAMILY = "gpt-4o-mini"
VERSION = "2024-07-18"


def provider(cloud: Any, rest: str) -> str:
    return f"/subscriptions/{cloud.account.subscription_id}/providers/Microsoft.CognitiveServices{rest}"


def test_an_account_s_models_are_its_base_models_and_its_own(cloud: Any) -> None:
    tuned = cloud.tuned()
    answer = cloud.call("GET", cloud.path("/models")).json()
    assert answer["nextLink"] is None
    shown = {model["name"]: model for model in answer["value"]}
    base = shown[FAMILY]
    assert (base["format"], base["version"], base["isDefaultVersion"]) == ("OpenAI", VERSION, True)
    assert base["capabilities"] == {
        "fineTune": "true",
        "inference": "true",
        "chatCompletion": "true",
        "maxContextToken": "1024",
        "maxOutputToken": "1024",
    }
    assert base["deprecation"] == {
        "fineTune": "2098-01-01T00:00:00.000000Z",
        "inference": "2099-01-01T00:00:00.000000Z",
    }
    assert base["lifecycleStatus"] == "GenerallyAvailable"
    standard = base["skus"][0]
    assert (standard["name"], standard["usageName"]) == ("Standard", f"OpenAI.Standard.{FAMILY}")
    assert standard["capacity"] == {"minimum": 1, "maximum": 10_000, "step": 1, "default": 10}
    assert "DeveloperTier" not in [sku["name"] for sku in base["skus"]]
    own = shown[tuned.name]
    assert (own["version"], own["baseModel"]) == ("1", {"format": "OpenAI", "name": FAMILY, "version": VERSION})
    assert "DeveloperTier" in [sku["name"] for sku in own["skus"]]
    assert "fineTune" not in own["deprecation"]


def test_every_name_and_version_that_is_listed_can_be_deployed(cloud: Any) -> None:
    for model in cloud.call("GET", cloud.path("/models")).json()["value"][:1]:
        sent = {
            "sku": {"name": model["skus"][0]["name"], "capacity": model["skus"][0]["capacity"]["minimum"]},
            "properties": {"model": {key: model[key] for key in ("format", "name", "version")}},
        }
        answer = cloud.call("PUT", cloud.path(f"/deployments/listed-{uuid.uuid4().hex[:6]}"), json=sent)
        assert answer.status_code == 201


def test_the_models_of_a_location_are_nested_for_the_sdk(cloud: Any) -> None:
    answer = cloud.call("GET", provider(cloud, "/locations/local/models")).json()
    assert {(row["kind"], row["skuName"], row["model"]["name"]) for row in answer["value"]} == {
        ("OpenAI", "S0", FAMILY),
        ("AIServices", "S0", FAMILY),
    }


def test_the_usages_of_a_location_count_real_deployments(cloud: Any) -> None:
    def current() -> int:
        rows = cloud.call("GET", provider(cloud, "/locations/LOCAL/usages")).json()["value"]
        row = next(row for row in rows if row["name"]["value"] == f"OpenAI.DataZoneStandard.{FAMILY}")
        assert (row["unit"], row["limit"]) == ("Count", 10_000)
        return row["currentValue"]

    before = current()
    name = f"u-{uuid.uuid4().hex[:6]}"
    sent = {
        "sku": {"name": "DataZoneStandard", "capacity": 7},
        "properties": {"model": {"format": "OpenAI", "name": FAMILY, "version": VERSION}},
    }
    cloud.call("PUT", cloud.path(f"/deployments/{name}"), json=sent)
    assert current() == before + 7
    cloud.settled(name)
    cloud.call("DELETE", cloud.path(f"/deployments/{name}"))
    assert current() == before


def test_the_usages_of_an_account_count_its_own_things(cloud: Any) -> None:
    def counts() -> dict[str, int]:
        rows = cloud.call("GET", cloud.path("/usages")).json()["value"]
        return {row["name"]["value"]: row["currentValue"] for row in rows}

    before = counts()
    name = f"u-{uuid.uuid4().hex[:6]}"
    sent = {"properties": {"model": {"format": "OpenAI", "name": cloud.tuned().name, "version": "1"}}}
    cloud.call("PUT", cloud.path(f"/deployments/{name}"), json=sent)
    grown = {key: value - before[key] for key, value in counts().items() if value != before[key]}
    assert grown == {
        "OpenAI.Deployments.Standard": 1,
        "OpenAI.Deployments.FineTuned": 1,
        "OpenAI.FineTuning.Jobs": 1,
    }


@pytest.mark.parametrize("rest", ["/modelCapacities", "/locations/local/modelCapacities"])
def test_capacities_say_what_is_left_of_a_model(cloud: Any, rest: str) -> None:
    query = f"?api-version=2025-06-01&modelFormat=OpenAI&modelName={FAMILY}&modelVersion={VERSION}"
    rows = cloud.call("GET", provider(cloud, rest) + query).json()["value"]
    standard = next(row for row in rows if row["name"] == "GlobalStandard")
    assert standard["location"] == "local"
    properties = standard["properties"]
    assert properties["model"] == {"format": "OpenAI", "name": FAMILY, "version": VERSION}
    assert (properties["skuName"], properties["availableCapacity"] > 1000) == ("GlobalStandard", True)
    other = query.replace(FAMILY, "other")
    assert cloud.call("GET", provider(cloud, rest) + other).json() == {"value": [], "nextLink": None}
    missing = cloud.call("GET", provider(cloud, rest)).json()["error"]
    assert missing["target"] == "modelFormat"


def test_the_locations_of_a_subscription_are_those_in_use(cloud: Any) -> None:
    rows = cloud.call("GET", f"/subscriptions/{cloud.account.subscription_id}/locations").json()["value"]
    assert "local" in [row["name"] for row in rows]
    assert rows[0]["id"].startswith(f"/subscriptions/{cloud.account.subscription_id}/locations/")


@pytest.mark.parametrize(
    "path",
    [
        "/locations",
        "/providers/Microsoft.CognitiveServices/modelCapacities",
        "/providers/Microsoft.CognitiveServices/locations/local/models",
    ],
)
def test_a_subscription_of_others_is_not_found(cloud: Any, path: str) -> None:
    answer = cloud.call("GET", f"/subscriptions/{uuid.uuid4()}{path}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "SubscriptionNotFound")


def test_usages_need_a_role_of_their_own(cloud: Any) -> None:
    answer = cloud.call(
        "GET", f"/subscriptions/{uuid.uuid4()}/providers/Microsoft.CognitiveServices/locations/a/usages"
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "AuthorizationFailed")
