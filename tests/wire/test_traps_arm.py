"""Traps 34, 39 to 41, 43, 44: the control plane."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from installation import wait_for
from shared_service import Served, remove_deployment


def body_for(model: str, capacity: object = 1) -> dict[str, Any]:
    return {
        "sku": {"name": "Standard", "capacity": capacity},
        "properties": {"model": {"format": "OpenAI", "name": model, "version": "1"}},
    }


def secure(served: Served, path: str, **query: str) -> requests.Response:
    env = served.installation.credentials
    return requests.get(env["ARM_ENDPOINT"] + path, params=query, verify=env["REQUESTS_CA_BUNDLE"], timeout=30)


def test_trap_34_a_capacity_in_quotes_becomes_a_number(served: Served) -> None:
    """As az 2.91 sends it."""
    arm = served.installation.arm
    made = arm("PUT", "/deployments/trap-34", body_for("weaver", "2"))
    assert made.status_code == 201, made.text
    assert made.json()["sku"]["capacity"] == 2
    assert arm("PUT", "/deployments/trap-34", body_for("weaver", "two")).status_code == 400
    remove_deployment(served.installation, "trap-34")


def test_trap_39_a_put_answers_201_and_then_200_and_never_202(served: Served) -> None:
    arm = served.installation.arm
    made = arm("PUT", "/deployments/trap-39", body_for("weaver"))
    assert made.status_code == 201
    assert made.json()["properties"]["provisioningState"] in ("Accepted", "Creating", "Succeeded")
    if made.json()["properties"]["provisioningState"] != "Succeeded":
        assert made.headers["Retry-After"], "without it the SDK sleeps thirty seconds"
        operation = made.headers["Azure-AsyncOperation"]
        assert operation.startswith(served.installation.credentials["ARM_ENDPOINT"])

    def ready() -> bool:
        found = arm("GET", "/deployments/trap-39")
        return found.json()["properties"]["provisioningState"] == "Succeeded"

    wait_for("the deployment", ready, 30)
    assert arm("PUT", "/deployments/trap-39", body_for("weaver", 2)).status_code == 200
    remove_deployment(served.installation, "trap-39")


@pytest.mark.parametrize("model", ["no-such-model", "ft:gpt-4o-mini:nobody::00000000", "ftchkpt-0"])
def test_trap_40_a_deployment_that_cannot_be_made_says_why_in_the_answer_to_put(model: str, served: Served) -> None:
    refused = served.installation.arm("PUT", "/deployments/trap-40", body_for(model))
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["code"] == "DeploymentModelNotSupported"
    assert model in error["message"]
    assert served.installation.arm("GET", "/deployments/trap-40").status_code == 404


def test_trap_40_a_deployment_that_fails_later_says_why_where_it_is_looked_at(served: Served) -> None:
    """Of another account's checkpoint, whose weights are away, as after a mishap in the blob store."""
    one = served.installation
    listed = served.ask("GET", "azure-v1", f"/fine_tuning/jobs/{served.job_id}/checkpoints").json()["data"]
    checkpoint = listed[1]["id"]
    body = body_for(checkpoint)
    body["properties"]["model"]["source"] = f"{one.accounts}/{one.credentials['AZURE_OPENAI_RESOURCE']}"
    here = f"{one.accounts}/{served.other_account('wire-trap-40')}/deployments/trap-40"
    weights = next((one.folder / "blobs").rglob(checkpoint))
    away = weights.rename(weights.with_name(f"{checkpoint}-away"))
    try:
        made = one.manage("PUT", here, body)
        assert made.status_code == 201, made.text

        def failed() -> bool:
            return one.manage("GET", here).json()["properties"]["provisioningState"] == "Failed"

        wait_for("the failure", failed, 30)
    finally:
        away.rename(weights)
    assert "not in the blob store" in one.manage("GET", here).text
    operation = one.manage("GET", urlsplit(made.headers["Azure-AsyncOperation"]).path).json()
    assert operation["status"] == "Failed"
    assert "not in the blob store" in operation["error"]["message"]
    assert one.manage("DELETE", here).ok


def test_trap_41_the_control_plane_is_https_and_tells_az_where_to_log_in(served: Served) -> None:
    env = served.installation.credentials
    assert env["ARM_ENDPOINT"].startswith("https://")
    one = secure(served, "/metadata/endpoints", **{"api-version": "2022-09-01"}).json()
    assert one["resourceManager"].rstrip("/") == env["ARM_ENDPOINT"]
    assert {"loginEndpoint", "audiences"} <= set(one["authentication"])
    assert isinstance(one["suffixes"], dict), "az ends with a KeyError without it"
    many = secure(served, "/metadata/endpoints", **{"api-version": "2019-05-01"}).json()
    assert isinstance(many, list)
    form = {
        "grant_type": "client_credentials", "client_id": env["AZURE_CLIENT_ID"],
        "client_secret": env["AZURE_CLIENT_SECRET"], "scope": env["ARM_ENDPOINT"] + "//.default",
    }  # fmt: skip
    login = one["authentication"]["loginEndpoint"].removeprefix(env["ARM_ENDPOINT"])
    found = secure(served, f"{login}/.well-known/openid-configuration").json()
    token = requests.post(found["token_endpoint"], data=form, verify=env["REQUESTS_CA_BUNDLE"], timeout=30).json()
    assert (token["token_type"], bool(token["access_token"])) == ("Bearer", True)


def test_trap_43_post_makes_a_deployment_where_the_documents_print_it(served: Served) -> None:
    made = served.installation.arm("POST", "/deployments/trap-43", body_for("weaver"))
    assert made.status_code == 201, made.text
    remove_deployment(served.installation, "trap-43")


@pytest.mark.parametrize("version", ["2024-10-21", "2023-05-01", "2026-05-15-preview"])
def test_trap_43_the_control_plane_takes_any_version_also_one_of_the_data_plane(version: str, served: Served) -> None:
    found = served.installation.arm("GET", "/deployments/wire-chat", version=version)
    assert found.json()["name"] == "wire-chat"


@pytest.mark.parametrize("path", ["/deployments", "/models", "/usages", "/deployments/wire-chat/skus"])
def test_trap_44_lists_of_the_control_plane_are_a_value_and_a_link(path: str, served: Served) -> None:
    listed = served.installation.arm("GET", path)
    assert listed.ok, listed.text
    assert listed.json()["value"]
    assert listed.json().get("nextLink") is None
