"""Every call of azure-mgmt-cognitiveservices against a given server, one JSON line each.

    python azure_mgmt_calls.py GIVEN.json CREDENTIAL

Runs under any version of the SDK. CREDENTIAL is `client secret` or `environment`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from azure.core.exceptions import (  # pyright: ignore[reportMissingImports]
    HttpResponseError,
    ResourceNotFoundError,
)
from azure.identity import (  # pyright: ignore[reportMissingImports]
    ClientSecretCredential,
    EnvironmentCredential,
)
from azure.mgmt.cognitiveservices import (  # pyright: ignore[reportMissingImports]
    CognitiveServicesManagementClient,
)
from call_log import Run, SectionEnded, same

OPERATION_SECONDS = 15.0
"""An unfinished answer without Retry-After makes the SDK sleep twice as long."""


def credential(given: dict[str, Any], kind: str) -> Any:
    if kind == "environment":
        return EnvironmentCredential(authority=given["authority"], disable_instance_discovery=True)
    return ClientSecretCredential(
        given["tenant"], given["client_id"], given["client_secret"], authority=given["authority"],
        disable_instance_discovery=True,
    )  # fmt: skip


def body_for(model: str, **more: Any) -> dict[str, Any]:
    return {
        "sku": {"name": "Standard", "capacity": 1},
        "properties": {"model": {"format": "OpenAI", "name": model, "version": "1", **more}},
    }


def finished(poller: Any) -> Any:
    began = time.monotonic()
    result = poller.result(120)
    taken = time.monotonic() - began
    assert taken < OPERATION_SECONDS, f"took {taken:.1f} s"
    return result


async def deployments(run: Run) -> None:
    given, calls = run.given, run.client.deployments
    place, name = (given["group"], given["account"]), given["deployment"]
    async with run.call("deployments.begin_create_or_update"):
        made = finished(calls.begin_create_or_update(*place, name, body_for(given["base"])))
        same(made.properties.provisioning_state, "Succeeded", "state")
        same((made.name, made.sku.capacity, made.sku.name), (name, 1, "Standard"), "deployment")
    async with run.call("deployments.get"):
        found = calls.get(*place, name)
        same(found.properties.model.name, given["base"], "model")
        assert found.system_data.created_at is not None
    async with run.call("deployments.list"):
        assert name in [one.name for one in calls.list(*place)]
    if run.has("deployments.list_skus"):
        async with run.call("deployments.list_skus"):
            skus = list(calls.list_skus(*place, name))
            assert "Standard" in [one.sku.name for one in skus]
            assert all(one.capacity.maximum >= 1 for one in skus)
    if run.has("deployments.begin_update"):
        async with run.call("deployments.begin_update"):
            change = {"sku": {"name": "Standard", "capacity": 2}, "tags": {"a": "b"}}
            changed = finished(calls.begin_update(*place, name, change))
            same((changed.sku.capacity, changed.tags), (2, {"a": "b"}), "changed")
    async with run.call("deployments.begin_create_or_update of the same"):
        again = finished(calls.begin_create_or_update(*place, name, body_for(given["base"])))
        same(again.sku.capacity, 1, "capacity")
    async with run.call("deployments.begin_create_or_update refused"):
        refused = None
        try:
            finished(calls.begin_create_or_update(*place, f"{name}-none", body_for("gpt-4o-mini.ft-none")))
        except HttpResponseError as error:
            refused = error
        assert refused is not None, "a model that nobody has was deployed"
        same((refused.status_code, refused.error.code), (400, "DeploymentModelNotSupported"), "refusal")
        assert "gpt-4o-mini.ft-none" in refused.error.message
    async with run.call("deployments.begin_delete"):
        same(finished(calls.begin_delete(*place, name)), None, "answer")
        try:
            calls.get(*place, name)
            raise AssertionError("it is still there")
        except ResourceNotFoundError:
            pass
    async with run.call("deployments.begin_delete of none"):
        same(finished(calls.begin_delete(*place, name)), None, "answer")


async def accounts(run: Run) -> None:
    given, calls = run.given, run.client.accounts
    group, name = given["group"], given["new_account"]
    body = {"sku": {"name": "S0"}, "kind": "OpenAI", "location": "westus", "properties": {}}
    async with run.call("accounts.begin_create"):
        made = finished(calls.begin_create(group, name, body))
        same((made.name, made.location, made.properties.provisioning_state), (name, "westus", "Succeeded"), "account")
        assert made.properties.endpoint.startswith("http")
    async with run.call("accounts.get"):
        same(calls.get(group, given["account"]).kind, "OpenAI", "kind")
    async with run.call("accounts.list"):
        assert {name, given["account"]} <= {one.name for one in calls.list()}
    async with run.call("accounts.list_by_resource_group"):
        assert name in [one.name for one in calls.list_by_resource_group(group)]
    async with run.call("accounts.begin_update"):
        same(finished(calls.begin_update(group, name, {"tags": {"team": "nests"}})).tags, {"team": "nests"}, "tags")
    async with run.call("accounts.list_keys"):
        before = calls.list_keys(group, name)
        assert all((before.key1, before.key2))
    async with run.call("accounts.regenerate_key"):
        after = calls.regenerate_key(group, name, "Key1")
        assert (after.key1 != before.key1, after.key2 == before.key2) == (True, True)
    async with run.call("accounts.list_models"):
        models = {model.name: model for model in calls.list_models(group, given["account"])}
        assert {given["base_of_job"], given["tuned"]} <= set(models)
        assert models[given["tuned"]].base_model is not None
    async with run.call("accounts.list_usages"):
        usages = calls.list_usages(group, given["account"]).value
        assert all(usage.limit >= usage.current_value for usage in usages), usages


async def copies(run: Run) -> None:
    """A deployment of a model that another account trained, in another location."""
    given, calls = run.given, run.client.deployments
    place = (given["group"], given["new_account"])
    source = (
        f"/subscriptions/{given['subscription']}/resourceGroups/{given['group']}"
        f"/providers/Microsoft.CognitiveServices/accounts/{given['account']}"
    )
    async with run.call("deployments.begin_create_or_update from a source"):
        made = finished(calls.begin_create_or_update(*place, "copied", body_for(given["tuned"], source=source)))
        same(made.properties.provisioning_state, "Succeeded", "state")
        same(made.properties.model.source.lower(), source.lower(), "source")
    async with run.call("deployments.begin_delete of the copy"):
        finished(calls.begin_delete(*place, "copied"))
    async with run.call("accounts.begin_delete"):
        same(finished(run.client.accounts.begin_delete(*place)), None, "answer")


async def locations(run: Run) -> None:
    client, given = run.client, run.given
    async with run.call("models.list"):
        models = list(client.models.list("eastus"))
        assert given["base_of_job"] in [entry.model.name for entry in models]
    async with run.call("usages.list"):
        assert all(usage.unit == "Count" for usage in client.usages.list("eastus"))
    if run.has("model_capacities.list"):
        async with run.call("model_capacities.list"):
            found = list(client.model_capacities.list("OpenAI", given["base"], "1"))
            assert found, "no capacity anywhere"
            assert all(one.properties.available_capacity >= 0 for one in found)


async def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    who = credential(given, sys.argv[2])
    scope = f"{given['authority']}/.default"
    scopes = {} if given["default_scope"] else {"credential_scopes": [scope]}
    client = CognitiveServicesManagementClient(who, given["subscription"], base_url=given["authority"], **scopes)
    run = Run(client, client, given, "control plane", "")
    for section in (deployments, accounts, copies, locations):
        try:
            await section(run)
        except SectionEnded:
            continue
    print(json.dumps({"absent": run.absent}))


asyncio.run(main())
