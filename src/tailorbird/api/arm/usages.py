"""Usages: how much of each quota a location or an account has taken."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from tailorbird.api.arm.envelope import ACCOUNT, ArmRoute, Caller, arm_path, listed, opened
from tailorbird.api.arm.models import LOCATION
from tailorbird.api.context import Given, only_query
from tailorbird.domain.access import Account, Action, subscription_scope
from tailorbird.service.deployments import Usage

See = Annotated[Account, Depends(opened(Action.READ_USAGES))]


def router() -> APIRouter:
    routes = APIRouter(route_class=ArmRoute, dependencies=[Depends(only_query())])
    routes.get(arm_path(ACCOUNT + "/usages"))(list_account_usages)
    routes.get(arm_path(LOCATION + "/usages"))(list_usages)
    return routes


def list_account_usages(found: See, services: Given) -> dict[str, Any]:
    return listed([_usage(usage) for usage in services.deployments.offers.usages_of_account(found.id)])


def list_usages(subscription: str, location: str, who: Caller, services: Given) -> dict[str, Any]:
    services.access.authorize_at(who, Action.READ_USAGES, subscription_scope(subscription))
    usages = services.deployments.offers.usages_of_location(subscription, location)
    return listed([_usage(usage) for usage in usages])


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "unit": "Count",
        "name": {"value": usage.name, "localizedValue": usage.shown},
        "currentValue": usage.current,
        "limit": usage.limit,
        "status": "Included",
    }
