"""Deployments of an account: put, change, pause, show, list, delete, and the state of a long-running operation."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from tailorbird.api.after import go_on
from tailorbird.api.arm.envelope import ACCOUNT, ArmRoute, Caller, arm_path, listed, moment, opened
from tailorbird.api.bodies.deployments import (
    DeploymentBody,
    DeploymentPatchBody,
    create_arguments,
    source_of,
    update_arguments,
)
from tailorbird.api.context import Given, Services, only_query
from tailorbird.domain.access import Account, Action, Principal
from tailorbird.domain.deployments import Deployment, Precondition, ProvisioningState
from tailorbird.domain.errors import NotFound
from tailorbird.service.deployments import DEFAULT_CAPACITY

TYPE = "Microsoft.CognitiveServices/accounts/deployments"
_DEPLOYMENTS = ACCOUNT + "/deployments"
_DEPLOYMENT = _DEPLOYMENTS + "/{deployment}"
# The oldest version whose clients we know; only echoed in the address of an operation.
_API_VERSION = "2024-10-01"
# Without this header the SDK sleeps 30 seconds between two looks.
_SOON = {"Retry-After": "1"}
_AUXILIARY = "x-ms-authorization-auxiliary"
_WINDOW_SECONDS = 60

Read = Annotated[Account, Depends(opened(Action.READ_DEPLOYMENT))]
Write = Annotated[Account, Depends(opened(Action.WRITE_DEPLOYMENT))]
Delete = Annotated[Account, Depends(opened(Action.DELETE_DEPLOYMENT))]


def _precondition(request: Request) -> Precondition:
    def tags(header: str) -> frozenset[str]:
        given = (tag.strip().removeprefix("W/").strip('"') for tag in request.headers.get(header, "").split(","))
        return frozenset(tag for tag in given if tag)

    return Precondition(tags("if-match"), tags("if-none-match"))


Expected = Annotated[Precondition, Depends(_precondition)]

# asyncio itself keeps only a weak hold on a task.


# --- routes -----------------------------------------------------------------------------------------------------------


def router() -> APIRouter:
    routes = APIRouter(route_class=ArmRoute, dependencies=[Depends(only_query())])
    # The docs' curl says POST where the specification says PUT.
    routes.api_route(arm_path(_DEPLOYMENT), methods=["PUT", "POST"])(put_deployment)
    routes.patch(arm_path(_DEPLOYMENT))(patch_deployment)
    routes.get(arm_path(_DEPLOYMENT))(show_deployment)
    routes.get(arm_path(_DEPLOYMENTS))(list_deployments)
    routes.delete(arm_path(_DEPLOYMENT))(delete_deployment)
    routes.get(arm_path(_DEPLOYMENT + "/skus"))(list_skus)
    routes.post(arm_path(_DEPLOYMENT + "/pause"))(pause_deployment)
    routes.post(arm_path(_DEPLOYMENT + "/resume"))(resume_deployment)
    routes.get(arm_path(_DEPLOYMENT + "/operations/{operation}"))(show_operation)
    return routes


async def put_deployment(
    deployment: str,
    body: DeploymentBody,
    found: Write,
    who: Caller,
    expected: Expected,
    services: Given,
    request: Request,
) -> JSONResponse:
    def create() -> tuple[Deployment, bool]:
        given: dict[str, Any] = {**create_arguments(body), "source": _source(body, who, services, request)}
        return services.deployments.create(found, deployment, by=who.name, precondition=expected, **given)

    made, created = await run_in_threadpool(create)
    headers: dict[str, str] = {}
    if made.state is ProvisioningState.CREATING:
        go_on(services.deployments.provision(found.id, made.name), "work on a deployment")
        headers = _operation(request, services, found, made.name, "create")
        headers["Location"] = f"{services.addresses.control_plane}{found.resource_id}/deployments/{made.name}"
    return JSONResponse(_deployment(found, made, services), 201 if created else 200, headers)


def patch_deployment(
    deployment: str, body: DeploymentPatchBody, found: Write, who: Caller, expected: Expected, services: Given
) -> JSONResponse:
    given = update_arguments(body)
    changed = services.deployments.update(found, deployment, by=who.name, precondition=expected, **given)
    return _shown(found, changed, services)


def show_deployment(deployment: str, found: Read, services: Given) -> JSONResponse:
    return _shown(found, services.deployments.get(found.id, deployment), services)


def list_deployments(found: Read, services: Given) -> dict[str, Any]:
    return listed([_deployment(found, row, services) for row in services.deployments.list(found.id)])


def list_skus(deployment: str, found: Read, services: Given) -> dict[str, Any]:
    """Also of one that was asked for and failed: it may want another SKU."""
    row = services.deployments.get(found.id, deployment)
    skus = services.deployments.offers.skus(row, found)
    return listed(
        [
            {"resourceType": TYPE, "sku": {"name": sku}, "capacity": {**capacity_range(room), "allowedValues": None}}
            for sku, room in skus
        ]
    )


def pause_deployment(deployment: str, found: Write, who: Caller, services: Given) -> JSONResponse:
    return _shown(found, services.deployments.set_paused(found.id, deployment, True, by=who.name), services)


def resume_deployment(deployment: str, found: Write, who: Caller, services: Given) -> JSONResponse:
    return _shown(found, services.deployments.set_paused(found.id, deployment, False, by=who.name), services)


async def delete_deployment(
    deployment: str, found: Delete, expected: Expected, services: Given, request: Request
) -> Response:
    leaving = await run_in_threadpool(services.deployments.mark_deleting, found.id, deployment, expected)
    if leaving is None:
        return Response(status_code=204)
    go_on(services.deployments.delete(found.id, leaving.name), "work on a deployment")
    headers = _operation(request, services, found, leaving.name, "delete")
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


def _source(body: DeploymentBody, who: Principal, services: Services, request: Request) -> Account | None:
    """The account the model comes from, for a caller who may see its deployments: by their own token, or by the
    second one that clients send for an account of another tenant."""
    wanted = source_of(body)
    if wanted is None:
        return None
    second = request.headers.get(_AUXILIARY, "").split(",")[0].strip()
    reader = services.access.by_token(second.removeprefix("Bearer").strip()) if second else who
    return services.access.open(reader, Action.READ_DEPLOYMENT, wanted.subscription, wanted.group, wanted.name)


def capacity_range(room: int) -> dict[str, int]:
    """What a client may ask for: between 1 and what is left."""
    return {"minimum": 1, "maximum": room, "step": 1, "default": min(DEFAULT_CAPACITY, room)}


def _shown(account: Account, row: Deployment, services: Services) -> JSONResponse:
    unfinished = row.state in (ProvisioningState.CREATING, ProvisioningState.DELETING)
    return JSONResponse(_deployment(account, row, services), headers=_SOON if unfinished else None)


def _deployment(account: Account, row: Deployment, services: Services) -> dict[str, Any]:
    model = {"format": row.model_format, "name": row.model_name, "version": row.model_version}
    properties: dict[str, Any] = {
        "model": model if row.source is None else {**model, "source": row.source},
        "provisioningState": row.state.value,
        "deploymentState": "Paused" if row.paused else "Running",
        # A version stays what it was deployed as until somebody deploys another, whatever was asked for.
        "versionUpgradeOption": row.version_upgrade or "NoAutoUpgrade",
        "currentCapacity": row.capacity,
        "capabilities": services.deployments.offers.capabilities(row.catalogue_name),
        "raiPolicyName": row.rai_policy,
        "rateLimits": _rate_limits(row) if services.deployments.limits.rate_limits else None,
        "error": None if row.failure is None else _failure(row),
    }
    body: dict[str, Any] = {
        "id": f"{account.resource_id}/deployments/{row.name}",
        "name": row.name,
        "type": TYPE,
        "sku": {"name": row.sku_name, "capacity": row.capacity},
        "properties": {name: value for name, value in properties.items() if value is not None},
        "systemData": {
            "createdBy": row.created_by,
            "createdByType": "Application",
            "createdAt": moment(row.created_at),
            "lastModifiedBy": row.updated_by or row.created_by,
            "lastModifiedByType": "Application",
            "lastModifiedAt": moment(row.updated_at),
        },
        "etag": f'"{row.etag}"',
    }
    return {**body, "tags": row.tags} if row.tags else body


def _rate_limits(row: Deployment) -> list[dict[str, Any]] | None:
    if row.requests_per_minute is None or row.tokens_per_minute is None:
        return None
    counts = (("request", row.requests_per_minute), ("token", row.tokens_per_minute))
    return [{"key": key, "renewalPeriod": _WINDOW_SECONDS, "count": count} for key, count in counts]


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


def _operation(request: Request, services: Services, account: Account, name: str, operation: str) -> dict[str, str]:
    version = request.query_params.get("api-version") or _API_VERSION
    path = f"{account.resource_id}/deployments/{name}/operations/{operation}?api-version={version}"
    return {"Azure-AsyncOperation": services.addresses.control_plane + path, **_SOON}
