"""Who the caller is, what they may do on which account, and the account's deployments for those who only hold a key."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from tailorbird.api.auth import allow, who_asks
from tailorbird.api.bodies import listing
from tailorbird.api.context import Given, Services, Spoken, only_query
from tailorbird.domain.access import Account, Action, Principal
from tailorbird.domain.deployments import Deployment
from tailorbird.domain.errors import PermissionDenied
from tailorbird.service.deployments import Quote
from tailorbird.service.deployments.quotes import Price
from tailorbird.service.usage.reports import plain

router = APIRouter(tags=["caller"])

Asking = Annotated[Principal, Depends(who_asks)]
_on_data_plane, _on_control_plane = allow(Action.READ_MODEL), allow(Action.READ_DEPLOYMENT)


def sees_deployments(request: Request, principal: Asking, services: Given, dialect: Spoken) -> Account:
    """A dependency: whoever may use models, and whoever may see deployments, as an Owner who may not use them."""
    # Asked for first: a refusal would be written down as somebody's attempt.
    if any(Action.READ_MODEL in actions for _, actions in services.access.reached(principal)):
        try:
            return _on_data_plane(request, services, dialect)
        except PermissionDenied:
            pass  # On another account than the one that is asked for.
    return _on_control_plane(request, services, dialect)


Reader = Annotated[Account, Depends(sees_deployments)]
RoleReader = Annotated[Account, Depends(allow(Action.READ_ROLE))]


@router.get("/caller", dependencies=[Depends(only_query())])
def show_caller(principal: Asking, services: Given) -> Response:
    """Every account on which the caller may do anything, with what they may do there in Azure's names of actions."""
    reached = services.access.reached(principal)
    return JSONResponse(
        {
            "object": "caller",
            "name": principal.name,
            "kind": "token" if principal.key_account is None else "key",
            "roles": [{"role": held.role.value, "scope": held.scope} for held in principal.assignments],
            "accounts": [_account(account, actions) for account, actions in reached],
        }
    )


@router.get("/deployments", dependencies=[Depends(only_query())])
def list_deployments(account: Reader, services: Given) -> Response:
    """What can be chatted with. The control plane has more, for those with a token."""
    rows = services.deployments.list(account.id)
    return JSONResponse(listing([_deployment(one, services) for one in rows], has_more=False))


@router.get("/deployments/estimate", dependencies=[Depends(only_query("model", "sku", "capacity"))])
def estimate_deployment(
    account: Reader,
    services: Given,
    model: str,
    sku: str = "Standard",
    capacity: Annotated[int, Query(ge=1)] = 1,
) -> Response:
    """What a deployment would cost and be allowed, before it is made; nothing is written."""
    return JSONResponse(_estimate(services.deployments.quotes.before(account, model, sku, capacity)))


@router.get("/principals", dependencies=[Depends(only_query())])
def list_principals(_: RoleReader, services: Given) -> Response:
    """Users and applications of this installation, for those who may read who holds which role."""
    users = [
        {"id": one.object_id, "object": "principal", "kind": "User", "name": one.name}
        for one in services.access.users.users()
    ]
    applications = [
        {"id": one.object_id, "object": "principal", "kind": "ServicePrincipal", "name": one.name, "app_id": one.app_id}
        for one in services.access.users.applications()
    ]
    return JSONResponse(listing([*users, *applications], has_more=False))


def _account(account: Account, actions: frozenset[Action]) -> dict[str, Any]:
    return {
        "name": account.name,
        "id": account.resource_id,
        "subscription": account.subscription_id,
        "resource_group": account.resource_group,
        "location": account.location,
        # Before the path of any request; empty for the account at the plain address.
        "path": f"/accounts/{account.sub_domain}" if account.sub_domain else "",
        "actions": sorted(actions),
    }


def _deployment(one: Deployment, services: Services) -> dict[str, Any]:
    ending = services.deployments.quotes.ending(one)
    limited = services.deployments.limits.rate_limits
    return {
        "id": one.name,
        "object": "deployment",
        "model": one.served_model,
        "model_version": one.model_version,
        "base_model": one.catalogue_name,
        "fine_tuned": one.checkpoint_id is not None,
        "status": one.state.value,
        "error": one.failure,
        "paused": one.paused,
        "sku": one.sku_name,
        "capacity": one.capacity,
        "tokens_per_minute": one.tokens_per_minute if limited else None,
        "requests_per_minute": one.requests_per_minute if limited else None,
        "price": _price(services.deployments.quotes.price(one)),
        "created_at": int(one.created_at.timestamp()),
        "created_by": one.created_by,
        "last_used_at": None if one.last_used_at is None else int(one.last_used_at.timestamp()),
        "expires_at": None if ending is None else int(ending.at.timestamp()),
        "expires_because": None if ending is None else ending.why.value,
    }


def _estimate(quote: Quote) -> dict[str, Any]:
    return {
        "object": "deployment.estimate",
        "model": quote.served_model,
        "base_model": quote.base_model,
        "fine_tuned": quote.tuned,
        "sku": quote.sku_name,
        "skus": list(quote.skus),
        "capacity": quote.capacity,
        "tokens_per_minute": quote.tokens_per_minute,
        "requests_per_minute": quote.requests_per_minute,
        "quota": {"limit": quote.quota, "left": quote.left},
        "price": _price(quote.price),
        "idle_days": quote.idle_days,
        "developer_hours": quote.developer_hours,
        "deployed_as": quote.taken_by,
    }


def _price(price: Price) -> dict[str, str]:
    return {
        "hour": plain(price.hour),
        "input_1k": plain(price.input_tokens),
        "output_1k": plain(price.output_tokens),
        "currency": price.currency,
        "price_list": price.price_list,
    }
