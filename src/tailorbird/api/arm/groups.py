"""Tenants, subscriptions and resource groups."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from tailorbird.api.arm.envelope import ArmRoute, Caller, arm_path, listed
from tailorbird.api.bodies.deployments import ArmBody
from tailorbird.api.context import Given, only_query
from tailorbird.domain.access import Action, Principal, ResourceGroup, group_scope
from tailorbird.domain.errors import NotFound
from tailorbird.service.access import Access

_SUBSCRIPTION = "/subscriptions/{subscription}"
_GROUPS = "/subscriptions/{subscription}/resourceGroups"
_GROUP = _GROUPS + "/{group}"


class GroupBody(ArmBody):
    read_only = frozenset({"id", "name", "type", "properties"})

    location: str
    tags: dict[str, str] = Field(default_factory=dict[str, str])


class GroupPatch(ArmBody):
    tags: dict[str, str]


def router() -> APIRouter:
    routes = APIRouter(route_class=ArmRoute, dependencies=[Depends(only_query())])
    routes.get(arm_path("/tenants"))(list_tenants)
    routes.get(arm_path("/subscriptions"))(list_subscriptions)
    routes.get(arm_path(_SUBSCRIPTION))(show_subscription)
    routes.get(arm_path(_GROUPS))(list_groups)
    routes.get(arm_path(_GROUP))(show_group)
    routes.head(arm_path(_GROUP))(check_group)
    routes.put(arm_path(_GROUP))(put_group)
    routes.patch(arm_path(_GROUP))(tag_group)
    routes.delete(arm_path(_GROUP))(delete_group)
    return routes


def list_tenants(_: Caller, services: Given) -> dict[str, Any]:
    tenant = services.access.tenant_id
    return listed(
        [{"id": f"/tenants/{tenant}", "tenantId": tenant, "displayName": "Tailorbird", "tenantCategory": "Home"}]
    )


def list_subscriptions(who: Caller, services: Given) -> dict[str, Any]:
    tenant = services.access.tenant_id
    return listed([_subscription(name, tenant) for name in services.access.subscriptions(who)])


def show_subscription(subscription: str, who: Caller, services: Given) -> dict[str, Any]:
    for name in services.access.subscriptions(who):
        if name.lower() == subscription.lower():
            return _subscription(name, services.access.tenant_id)
    raise NotFound(f"The subscription '{subscription}' could not be found.", code="SubscriptionNotFound")


def list_groups(subscription: str, who: Caller, services: Given) -> dict[str, Any]:
    return listed([_group(group) for group in services.access.groups(who, subscription)])


def show_group(subscription: str, group: str, who: Caller, services: Given) -> dict[str, Any]:
    return _group(_seen(services.access, who, subscription, group))


def check_group(subscription: str, group: str, who: Caller, services: Given) -> Response:
    _seen(services.access, who, subscription, group)
    return Response(status_code=204)


def put_group(subscription: str, group: str, body: GroupBody, who: Caller, services: Given) -> JSONResponse:
    services.access.authorize_at(who, Action.WRITE_GROUP, group_scope(subscription, group))
    made, created = services.access.resources.put_group(subscription, group, body.location, body.tags)
    return JSONResponse(_group(made), 201 if created else 200)


def tag_group(subscription: str, group: str, body: GroupPatch, who: Caller, services: Given) -> dict[str, Any]:
    services.access.authorize_at(who, Action.WRITE_GROUP, group_scope(subscription, group))
    return _group(services.access.resources.tag_group(subscription, group, body.tags))


def delete_group(subscription: str, group: str, who: Caller, services: Given) -> Response:
    services.access.authorize_at(who, Action.DELETE_GROUP, group_scope(subscription, group))
    services.access.resources.delete_group(subscription, group)
    return Response(status_code=200)


def _seen(access: Access, who: Principal, subscription: str, group: str) -> ResourceGroup:
    """The group, for somebody who may see it; for others there is none."""
    for found in access.groups(who, subscription):
        if found.name.lower() == group.lower():
            return found
    raise NotFound(f"Resource group '{group}' could not be found.", code="ResourceGroupNotFound")


def _subscription(name: str, tenant: str) -> dict[str, Any]:
    return {
        "id": f"/subscriptions/{name}",
        "subscriptionId": name,
        "tenantId": tenant,
        "displayName": "Tailorbird",
        "state": "Enabled",
        "authorizationSource": "RoleBased",
        "subscriptionPolicies": {"spendingLimit": "Off"},
    }


def _group(group: ResourceGroup) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": group.resource_id,
        "name": group.name,
        "type": "Microsoft.Resources/resourceGroups",
        "location": group.location,
        "properties": {"provisioningState": "Succeeded"},
    }
    return {**body, "tags": dict(group.tags)} if group.tags else body
