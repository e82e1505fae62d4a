"""Models that can be deployed: of an account, of a location, and the capacity each has left; and the locations."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from tailorbird.api.arm.deployments import capacity_range
from tailorbird.api.arm.envelope import ACCOUNT, ArmRoute, Caller, arm_path, listed, moment, opened
from tailorbird.api.context import Given, Services, only_query
from tailorbird.domain.access import Account, Action, Principal
from tailorbird.domain.errors import InvalidRequest, NotFound
from tailorbird.service.deployments import Offer, Room

SUBSCRIPTION = "/subscriptions/{subscription}"
PROVIDER = SUBSCRIPTION + "/providers/Microsoft.CognitiveServices"
LOCATION = PROVIDER + "/locations/{location}"
_FORMAT = "OpenAI"
_KINDS = ("OpenAI", "AIServices")

Read = Annotated[Account, Depends(opened(Action.READ_ACCOUNT))]


def subscribed(subscription: str, who: Caller, services: Given) -> str:
    """A dependency: the subscription of the path, for a caller who holds a role in it. Raises NotFound."""
    for known in services.access.subscriptions(who):
        if known.lower() == subscription.lower():
            return known
    raise NotFound(f"The subscription '{subscription}' could not be found.", code="SubscriptionNotFound")


Subscribed = Annotated[str, Depends(subscribed)]


def router() -> APIRouter:
    routes = APIRouter(route_class=ArmRoute)
    plain = [Depends(only_query())]
    asked = [Depends(only_query("modelFormat", "modelName", "modelVersion"))]
    routes.get(arm_path(ACCOUNT + "/models"), dependencies=plain)(list_account_models)
    routes.get(arm_path(LOCATION + "/models"), dependencies=plain)(list_models)
    routes.get(arm_path(PROVIDER + "/modelCapacities"), dependencies=asked)(list_capacities)
    routes.get(arm_path(LOCATION + "/modelCapacities"), dependencies=asked)(list_location_capacities)
    routes.get(arm_path(SUBSCRIPTION + "/locations"), dependencies=plain)(list_locations)
    return routes


def list_account_models(found: Read, services: Given) -> dict[str, Any]:
    return listed([_model(offer) for offer in services.deployments.offers.models(found.id)])


def list_models(location: str, subscription: Subscribed, services: Given) -> dict[str, Any]:
    """Every location has the same models; az lists one entry for each kind of account."""
    offers = services.deployments.offers.base_models()
    return listed(
        [
            {"model": _model(offer), "kind": kind, "skuName": "S0", "description": _shown_name(offer)}
            for kind in _KINDS
            for offer in offers
        ]
    )


def list_capacities(
    subscription: Subscribed,
    who: Caller,
    services: Given,
    modelFormat: str = "",  # noqa: N803
    modelName: str = "",  # noqa: N803
    modelVersion: str = "",  # noqa: N803
) -> dict[str, Any]:
    locations = _locations(services, who, subscription)
    return _capacities(services, subscription, locations, modelFormat, modelName, modelVersion)


def list_location_capacities(
    location: str,
    subscription: Subscribed,
    services: Given,
    modelFormat: str = "",  # noqa: N803
    modelName: str = "",  # noqa: N803
    modelVersion: str = "",  # noqa: N803
) -> dict[str, Any]:
    return _capacities(services, subscription, [location], modelFormat, modelName, modelVersion)


def list_locations(subscription: Subscribed, who: Caller, services: Given) -> dict[str, Any]:
    """Those that hold an account or a resource group: any name can become one."""
    return listed(
        [
            {
                "id": f"/subscriptions/{subscription}/locations/{name}",
                "subscriptionId": subscription,
                "name": name,
                "type": "Region",
                "displayName": name,
                "regionalDisplayName": name,
                "metadata": {"regionType": "Physical", "regionCategory": "Recommended"},
            }
            for name in _locations(services, who, subscription)
        ]
    )


# --- in and out -------------------------------------------------------------------------------------------------------


def _locations(services: Services, who: Principal, subscription: str) -> list[str]:
    accounts = [account.location for account in services.access.accounts(who, subscription)]
    groups = [group.location for group in services.access.groups(who, subscription)]
    return sorted({name.lower(): name for name in (*groups, *accounts)}.values(), key=str.lower)


def _capacities(
    services: Services, subscription: str, locations: list[str], form: str, name: str, version: str
) -> dict[str, Any]:
    for parameter, value in (("modelFormat", form), ("modelName", name), ("modelVersion", version)):
        if not value:
            raise InvalidRequest(f"The query parameter '{parameter}' is missing; it is required.", param=parameter)
    if form.lower() != _FORMAT.lower():
        return listed([])
    rooms = services.deployments.offers.rooms(subscription, locations, name, version)
    return listed([_capacity(subscription, room) for room in rooms])


def _capacity(subscription: str, room: Room) -> dict[str, Any]:
    place = f"/subscriptions/{subscription}/providers/Microsoft.CognitiveServices/locations/{room.location}"
    offer = room.offer
    return {
        "id": f"{place}/models/{_FORMAT}.{offer.name}.{offer.version}/skuCapacities/{room.sku_name}",
        "type": "Microsoft.CognitiveServices/locations/models/skuCapacities",
        "name": room.sku_name,
        "location": room.location,
        "properties": {
            "model": {"format": _FORMAT, "name": offer.name, "version": offer.version},
            "skuName": room.sku_name,
            "availableCapacity": room.available,
            "availableFinetuneCapacity": room.available if offer.capabilities.get("fineTune") == "true" else 0,
        },
    }


def _model(offer: Offer) -> dict[str, Any]:
    deprecation = {
        "fineTune": None if offer.tuned is not None else _day(offer.entry.fine_tune_until),
        "inference": _day(offer.entry.inference_until),
    }
    body: dict[str, Any] = {
        "format": _FORMAT,
        "name": offer.name,
        "version": offer.version,
        "isDefaultVersion": offer.is_default,
        "maxCapacity": offer.capacity,
        "capabilities": offer.capabilities,
        "skus": [_sku(offer, sku) for sku in offer.skus],
        "deprecation": {name: value for name, value in deprecation.items() if value is not None},
        "lifecycleStatus": "Deprecated" if offer.retired else "GenerallyAvailable",
        "systemData": {"createdAt": moment(offer.created_at), "lastModifiedAt": moment(offer.created_at)},
    }
    if offer.tuned is not None:
        entry = offer.entry
        body["baseModel"] = {"format": _FORMAT, "name": entry.family, "version": entry.version}
    return body


def _sku(offer: Offer, sku: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "name": sku,
        "usageName": f"OpenAI.{sku}.{offer.entry.family}",
        "capacity": capacity_range(offer.capacity),
    }
    deprecation = _day(offer.entry.inference_until)
    return body if deprecation is None else {**body, "deprecationDate": deprecation}


def _shown_name(offer: Offer) -> str:
    return f"{offer.name}, version {offer.version}"


def _day(day: date | None) -> str | None:
    return None if day is None else moment(datetime.combine(day, time(), UTC))
