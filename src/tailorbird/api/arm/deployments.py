"""Deployments of an account: put, show, list, delete, and the state of a long-running operation."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Coroutine
from typing import Annotated, Any, ClassVar, cast

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.concurrency import run_in_threadpool

from tailorbird.api.arm.envelope import ACCOUNT, ArmRoute, Caller, arm_path, listed, moment, opened
from tailorbird.api.context import Given, only_query
from tailorbird.domain.access import Account, Action
from tailorbird.domain.deployments import Deployment, ProvisioningState
from tailorbird.domain.errors import InvalidRequest, NotFound

log = logging.getLogger(__name__)

_DEPLOYMENTS = ACCOUNT + "/deployments"
_DEPLOYMENT = _DEPLOYMENTS + "/{deployment}"
# The oldest version whose clients we know; only echoed in the address of an operation.
_API_VERSION = "2024-10-01"
# Without this header the SDK sleeps 30 seconds between two looks.
_SOON = {"Retry-After": "1"}
_UPGRADES = ("OnceNewDefaultVersionAvailable", "OnceCurrentVersionExpired", "NoAutoUpgrade")

Read = Annotated[Account, Depends(opened(Action.READ_DEPLOYMENT))]
Write = Annotated[Account, Depends(opened(Action.WRITE_DEPLOYMENT))]
Delete = Annotated[Account, Depends(opened(Action.DELETE_DEPLOYMENT))]

# asyncio itself keeps only a weak hold on a task.
_running: set[asyncio.Task[Any]] = set()


# --- bodies -----------------------------------------------------------------------------------------------------------


class _Strict(BaseModel):
    """Refuses fields it does not know; the service's own (`read_only`) may come back in a PUT, as in all of ARM."""

    model_config = ConfigDict(extra="forbid")
    read_only: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _without_read_only(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        fields = cast("dict[str, Any]", given)
        return {name: value for name, value in fields.items() if name not in cls.read_only}


class ModelBody(_Strict):
    name: str
    format: str = "OpenAI"
    version: str | None = None
    publisher: str | None = None
    source: str | None = None
    sourceAccount: str | None = None  # noqa: N815


class ScaleBody(_Strict):
    """The form before skus: `az … --scale-settings-*` still sends it."""

    scaleType: str = "Standard"  # noqa: N815
    capacity: int | None = None


class SkuBody(_Strict):
    """az sends the capacity as a string."""

    name: str
    capacity: int | None = None
    tier: str | None = None
    size: str | None = None
    family: str | None = None


class PropertiesBody(_Strict):
    read_only = frozenset(
        {
            "provisioningState",
            "currentCapacity",
            "capabilities",
            "rateLimits",
            "callRateLimit",
            "dynamicThrottlingEnabled",
            "error",
        }
    )

    model: ModelBody
    versionUpgradeOption: str | None = None  # noqa: N815
    scaleSettings: ScaleBody | None = None  # noqa: N815
    raiPolicyName: str | None = None  # noqa: N815
    spilloverDeploymentName: str | None = None  # noqa: N815
    parentDeploymentName: str | None = None  # noqa: N815
    capacitySettings: dict[str, Any] | None = None  # noqa: N815
    serviceTier: str | None = None  # noqa: N815
    deploymentState: str | None = None  # noqa: N815


class DeploymentBody(_Strict):
    read_only = frozenset({"id", "name", "type", "etag", "systemData"})

    properties: PropertiesBody
    sku: SkuBody | None = None
    tags: dict[str, str] = Field(default_factory=dict[str, str])


# --- routes -----------------------------------------------------------------------------------------------------------


def router() -> APIRouter:
    routes = APIRouter(route_class=ArmRoute, dependencies=[Depends(only_query())])
    # The docs' curl says POST where the specification says PUT.
    routes.api_route(arm_path(_DEPLOYMENT), methods=["PUT", "POST"])(put_deployment)
    routes.get(arm_path(_DEPLOYMENT))(show_deployment)
    routes.get(arm_path(_DEPLOYMENTS))(list_deployments)
    routes.delete(arm_path(_DEPLOYMENT))(delete_deployment)
    routes.get(arm_path(_DEPLOYMENT + "/operations/{operation}"))(show_operation)
    return routes


async def put_deployment(
    deployment: str, body: DeploymentBody, found: Write, who: Caller, services: Given, request: Request
) -> JSONResponse:
    asked = _asked(body)

    def create() -> tuple[Deployment, bool]:
        return services.deployments.create(found, deployment, by=who.name, **asked)

    made, created = await run_in_threadpool(create)
    headers: dict[str, str] = {}
    if made.state is ProvisioningState.CREATING:
        _start(services.deployments.provision(found.id, made.name))
        headers = _operation(request, services.addresses.control_plane, found, made.name, "create")
    return JSONResponse(_deployment(found, made), 201 if created else 200, headers)


def show_deployment(deployment: str, found: Read, services: Given) -> JSONResponse:
    row = services.deployments.get(found.id, deployment)
    unfinished = row.state in (ProvisioningState.CREATING, ProvisioningState.DELETING)
    return JSONResponse(_deployment(found, row), headers=_SOON if unfinished else None)


def list_deployments(found: Read, services: Given) -> dict[str, Any]:
    return listed([_deployment(found, row) for row in services.deployments.list(found.id)])


async def delete_deployment(deployment: str, found: Delete, services: Given, request: Request) -> Response:
    leaving = await run_in_threadpool(services.deployments.mark_deleting, found.id, deployment)
    if leaving is None:
        return Response(status_code=204)
    _start(services.deployments.delete(found.id, leaving.name))
    headers = _operation(request, services.addresses.control_plane, found, leaving.name, "delete")
    return Response(status_code=202, headers={**headers, "Location": headers["Azure-AsyncOperation"]})


def show_operation(deployment: str, operation: str, found: Read, services: Given, request: Request) -> JSONResponse:
    """The state of a `create` or a `delete` is the state of its deployment: nothing else has to be remembered."""
    row = next((d for d in services.deployments.list(found.id) if d.name.lower() == deployment.lower()), None)
    status, error = _progress(operation, row)
    body: dict[str, Any] = {"id": request.url.path, "name": operation, "status": status}
    if error is not None:
        body["error"] = error
    return JSONResponse(body, headers=None if status in ("Succeeded", "Failed", "Canceled") else _SOON)


# --- in and out -------------------------------------------------------------------------------------------------------


def _asked(body: DeploymentBody) -> dict[str, Any]:
    """The service's arguments. Raises InvalidRequest for a field we understand and cannot honour."""
    properties, model = body.properties, body.properties.model
    refused = {
        "properties.model.source": model.source,
        "properties.model.sourceAccount": model.sourceAccount,
        "properties.model.publisher": None if (model.publisher or "openai").lower() == "openai" else model.publisher,
        "properties.raiPolicyName": properties.raiPolicyName,
        "properties.spilloverDeploymentName": properties.spilloverDeploymentName,
        "properties.parentDeploymentName": properties.parentDeploymentName,
        "properties.capacitySettings": properties.capacitySettings,
        "properties.serviceTier": properties.serviceTier,
        "properties.deploymentState": None if properties.deploymentState == "Running" else properties.deploymentState,
        "sku.size": body.sku and body.sku.size,
        "sku.family": body.sku and body.sku.family,
    }
    for field, value in refused.items():
        if value is not None:
            raise InvalidRequest(f"'{field}' cannot be honoured here; leave it out.", param=field)
    if properties.versionUpgradeOption not in (None, *_UPGRADES):
        raise InvalidRequest(
            f"'{properties.versionUpgradeOption}' is none of {', '.join(_UPGRADES)}.",
            param="properties.versionUpgradeOption",
        )
    scale = properties.scaleSettings or ScaleBody()
    capacity = scale.capacity if body.sku is None else body.sku.capacity
    return {
        "model_name": model.name,
        "model_format": model.format,
        "model_version": model.version,
        "sku_name": "Standard" if body.sku is None else body.sku.name,
        "capacity": 1 if capacity is None else capacity,
        "tags": body.tags,
    }


def _deployment(account: Account, row: Deployment) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "model": {"format": row.model_format, "name": row.model_name, "version": row.model_version},
        "provisioningState": row.state.value,
        # A version stays what it was deployed as until somebody deploys another.
        "versionUpgradeOption": "NoAutoUpgrade",
        "currentCapacity": row.capacity,
    }
    if row.failure is not None:
        properties["error"] = _failure(row)
    body: dict[str, Any] = {
        "id": f"{account.resource_id}/deployments/{row.name}",
        "name": row.name,
        "type": "Microsoft.CognitiveServices/accounts/deployments",
        "sku": {"name": row.sku_name, "capacity": row.capacity},
        "properties": properties,
        "systemData": {
            "createdBy": row.created_by,
            "createdByType": "Application",
            "createdAt": moment(row.created_at),
            "lastModifiedAt": moment(row.updated_at),
        },
        "etag": f'"{hashlib.sha256(f"{row.state}{row.updated_at}".encode()).hexdigest()[:32]}"',
    }
    return {**body, "tags": row.tags} if row.tags else body


def _failure(row: Deployment) -> dict[str, str]:
    return {"code": "DeploymentFailed", "message": row.failure or ""}


def _progress(operation: str, row: Deployment | None) -> tuple[str, dict[str, str] | None]:
    if operation.lower() == "delete":
        return ("Deleting" if row is not None and row.state is ProvisioningState.DELETING else "Succeeded"), None
    if operation.lower() != "create":
        raise NotFound(f"There is no operation '{operation}'; operations are create and delete.")
    if row is None or row.state is ProvisioningState.DELETING:
        return "Canceled", {"code": "Canceled", "message": "The deployment was deleted before it was ready."}
    if row.state is ProvisioningState.FAILED:
        return "Failed", _failure(row)
    return row.state.value, None


def _operation(request: Request, control_plane: str, account: Account, name: str, operation: str) -> dict[str, str]:
    version = request.query_params.get("api-version") or _API_VERSION
    url = f"{control_plane}{account.resource_id}/deployments/{name}/operations/{operation}?api-version={version}"
    return {"Azure-AsyncOperation": url, **_SOON}


def _start(work: Coroutine[Any, Any, Any]) -> None:
    """Goes on after the answer; not as the framework's background task, which would hold the connection meanwhile."""
    task = asyncio.create_task(work)
    _running.add(task)
    task.add_done_callback(_ended)


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and task.exception() is not None:
        log.error("work on a deployment broke off; it goes on at the next start", exc_info=task.exception())
