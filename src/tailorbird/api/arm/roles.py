"""Role definitions and role assignments, at a subscription, a resource group or an account."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from tailorbird.api.arm.envelope import ACCOUNT, ArmRoute, Caller, arm_path, listed, moment
from tailorbird.api.bodies.deployments import ArmBody
from tailorbird.api.context import Given, only_query
from tailorbird.domain.access import (
    DATA_ACTIONS,
    ROLE_ACTIONS,
    ROLE_IDS,
    Action,
    Grant,
    PrincipalKind,
    Role,
    account_scope,
    group_scope,
    role_named,
    subscription_scope,
)
from tailorbird.domain.errors import InvalidRequest, NotFound

_PROVIDER = "/providers/Microsoft.Authorization"
_SUBSCRIPTION = "/subscriptions/{subscription}"
_SCOPES = ("", _SUBSCRIPTION, f"{_SUBSCRIPTION}/resourceGroups/{{group}}", ACCOUNT)


class AssignmentProperties(ArmBody):
    roleDefinitionId: str  # noqa: N815
    principalId: str  # noqa: N815
    principalType: str | None = None  # noqa: N815
    description: str | None = None
    condition: str | None = None
    conditionVersion: str | None = None  # noqa: N815
    delegatedManagedIdentityResourceId: str | None = None  # noqa: N815
    scope: str | None = None


class AssignmentBody(ArmBody):
    properties: AssignmentProperties


def scope_of(request: Request) -> str:
    """The scope an assignment's path begins with."""
    given = request.path_params
    if "account" in given:
        return account_scope(given["subscription"], given["group"], given["account"])
    if "group" in given:
        return group_scope(given["subscription"], given["group"])
    return subscription_scope(given["subscription"]) if "subscription" in given else "/"


Scope = Annotated[str, Depends(scope_of)]


def router() -> APIRouter:
    routes = APIRouter(route_class=ArmRoute)
    filtered, plain = [Depends(only_query("$filter"))], [Depends(only_query())]
    for scope in _SCOPES:
        assignments, definitions = (f"{scope}{_PROVIDER}/{noun}" for noun in ("roleAssignments", "roleDefinitions"))
        routes.get(arm_path(assignments), dependencies=filtered)(list_assignments)
        routes.get(arm_path(definitions), dependencies=filtered)(list_definitions)
        routes.get(arm_path(definitions + "/{definition}"), dependencies=plain)(show_definition)
        one = arm_path(assignments + "/{assignment}")
        routes.put(one, dependencies=plain)(put_assignment)
        routes.get(one, dependencies=plain)(show_assignment)
        routes.delete(one, dependencies=plain)(delete_assignment)
    return routes


def list_definitions(request: Request, scope: Scope, _: Caller, services: Given) -> dict[str, Any]:
    found = services.access.roles.definitions(request.query_params.get("$filter", ""))
    return listed([_definition(role, scope) for role in found])


def show_definition(definition: str, scope: Scope, _: Caller) -> dict[str, Any]:
    role = role_named(definition)
    if role is None:
        raise NotFound(f"The role definition '{definition}' was not found.", code="RoleDefinitionDoesNotExist")
    return _definition(role, scope)


def list_assignments(request: Request, scope: Scope, who: Caller, services: Given) -> dict[str, Any]:
    services.access.authorize_at(who, Action.READ_ROLE, scope)
    return listed([_assignment(g) for g in services.access.roles.list(scope, request.query_params.get("$filter", ""))])


def put_assignment(assignment: str, body: AssignmentBody, scope: Scope, who: Caller, services: Given) -> JSONResponse:
    services.access.authorize_at(who, Action.WRITE_ROLE, scope)
    services.access.check_scope(scope)
    asked = body.properties
    _refuse(asked, scope)
    made, created = services.access.roles.assign(
        asked.principalId,
        asked.roleDefinitionId,
        scope,
        by=who.id,
        kind=_kind(asked.principalType),
        grant_id=assignment,
        description=asked.description or "",
    )
    return JSONResponse(_assignment(made), 201 if created else 200)


def show_assignment(assignment: str, scope: Scope, who: Caller, services: Given) -> dict[str, Any]:
    services.access.authorize_at(who, Action.READ_ROLE, scope)
    return _assignment(services.access.roles.get(scope, assignment))


def delete_assignment(assignment: str, scope: Scope, who: Caller, services: Given) -> Response:
    services.access.authorize_at(who, Action.DELETE_ROLE, scope)
    removed = services.access.roles.remove(scope, assignment)
    return Response(status_code=204) if removed is None else JSONResponse(_assignment(removed))


def _refuse(asked: AssignmentProperties, scope: str) -> None:
    refused = {
        "condition": asked.condition,
        "conditionVersion": asked.conditionVersion if asked.condition else None,
        "delegatedManagedIdentityResourceId": asked.delegatedManagedIdentityResourceId,
        "scope": None if (asked.scope or scope).lower().rstrip("/") == scope.lower().rstrip("/") else asked.scope,
    }
    for field, value in refused.items():
        if value:
            raise InvalidRequest(f"'properties.{field}' cannot be honoured here; leave it out.", param=field)


def _kind(text: str | None) -> PrincipalKind:
    # Without one Azure looks the id up; here an outside issuer may be the only one who knows it.
    kinds = {kind.lower(): kind for kind in PrincipalKind}
    kind = PrincipalKind.USER if text is None else kinds.get(text.lower())
    if kind is None:
        raise InvalidRequest(f"'{text}' is none of {', '.join(PrincipalKind)}.", param="properties.principalType")
    return kind


def _definition_id(role: Role, scope: str) -> str:
    subscription = "/".join(scope.split("/")[:3]) if scope != "/" else ""
    return f"{subscription}{_PROVIDER}/roleDefinitions/{ROLE_IDS[role]}"


def _definition(role: Role, scope: str) -> dict[str, Any]:
    actions = sorted(ROLE_ACTIONS[role])
    return {
        "id": _definition_id(role, scope),
        "type": "Microsoft.Authorization/roleDefinitions",
        "name": ROLE_IDS[role],
        "properties": {
            "roleName": role.value,
            "type": "BuiltInRole",
            "description": f"Azure's built-in role {role.value}, as far as this service has its actions.",
            "assignableScopes": ["/"],
            "permissions": [
                {
                    "actions": [action for action in actions if action not in DATA_ACTIONS],
                    "notActions": [],
                    "dataActions": [action for action in actions if action in DATA_ACTIONS],
                    "notDataActions": [],
                }
            ],
        },
    }


def _assignment(grant: Grant) -> dict[str, Any]:
    scope = grant.scope.rstrip("/")
    return {
        "id": f"{scope}{_PROVIDER}/roleAssignments/{grant.id}",
        "type": "Microsoft.Authorization/roleAssignments",
        "name": grant.id,
        "properties": {
            "roleDefinitionId": _definition_id(grant.role, grant.scope),
            "principalId": grant.object_id,
            "principalType": grant.kind.value,
            "scope": grant.scope,
            "description": grant.description or None,
            "condition": None,
            "createdOn": moment(grant.created_at),
            "updatedOn": moment(grant.created_at),
            "createdBy": grant.created_by,
            "updatedBy": grant.created_by,
        },
    }
