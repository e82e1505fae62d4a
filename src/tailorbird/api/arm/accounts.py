"""Subscriptions, resource groups, accounts and their keys."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from tailorbird.api.arm.envelope import ACCOUNT, ACCOUNTS, ArmRoute, Caller, arm_path, listed, moment, opened
from tailorbird.api.context import Addresses, Given, only_query
from tailorbird.domain.access import Account, Action
from tailorbird.domain.errors import NotFound

_SUBSCRIPTION = "/subscriptions/{subscription}"
_GROUPS = "/subscriptions/{subscription}/resourceGroups"

Read = Annotated[Account, Depends(opened(Action.READ_ACCOUNT))]
Keys = Annotated[Account, Depends(opened(Action.LIST_KEYS))]


def router() -> APIRouter:
    routes = APIRouter(route_class=ArmRoute, dependencies=[Depends(only_query())])
    routes.get(arm_path("/subscriptions"))(list_subscriptions)
    routes.get(arm_path(_SUBSCRIPTION))(show_subscription)
    routes.get(arm_path(_GROUPS))(list_groups)
    routes.get(arm_path(_GROUPS + "/{group}"))(show_group)
    routes.get(arm_path(_SUBSCRIPTION + "/providers/Microsoft.CognitiveServices/accounts"))(list_accounts)
    routes.get(arm_path(ACCOUNTS))(list_accounts_of_group)
    routes.get(arm_path(ACCOUNT))(show_account)
    routes.post(arm_path(ACCOUNT + "/listKeys"))(list_keys)
    return routes


def list_subscriptions(who: Caller, services: Given) -> dict[str, Any]:
    tenant = services.access.tenant_id
    return listed([_subscription(name, tenant) for name in services.access.subscriptions(who)])


def show_subscription(subscription: str, who: Caller, services: Given) -> dict[str, Any]:
    for name in services.access.subscriptions(who):
        if name.lower() == subscription.lower():
            return _subscription(name, services.access.tenant_id)
    raise NotFound(f"The subscription '{subscription}' could not be found.", code="SubscriptionNotFound")


def list_groups(subscription: str, who: Caller, services: Given) -> dict[str, Any]:
    found = services.access.accounts(who, subscription)
    # A group exists by the accounts in it.
    return listed([_group(account) for account in {a.resource_group.lower(): a for a in reversed(found)}.values()])


def show_group(subscription: str, group: str, who: Caller, services: Given) -> dict[str, Any]:
    found = services.access.accounts(who, subscription, group)
    if not found:
        raise NotFound(f"Resource group '{group}' could not be found.", code="ResourceGroupNotFound")
    return _group(found[0])


def list_accounts(subscription: str, who: Caller, services: Given) -> dict[str, Any]:
    return listed([_account(a, services.addresses) for a in services.access.accounts(who, subscription)])


def list_accounts_of_group(subscription: str, group: str, who: Caller, services: Given) -> dict[str, Any]:
    return listed([_account(a, services.addresses) for a in services.access.accounts(who, subscription, group)])


def show_account(found: Read, services: Given) -> dict[str, Any]:
    return _account(found, services.addresses)


def list_keys(found: Keys) -> dict[str, str]:
    return {"key1": found.key1, "key2": found.key2}


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


def _group(account: Account) -> dict[str, Any]:
    return {
        "id": f"/subscriptions/{account.subscription_id}/resourceGroups/{account.resource_group}",
        "name": account.resource_group,
        "type": "Microsoft.Resources/resourceGroups",
        "location": account.location,
        "properties": {"provisioningState": "Succeeded"},
    }


def _account(account: Account, addresses: Addresses) -> dict[str, Any]:
    # Azure's endpoints end in a slash.
    endpoint = f"{addresses.data_plane}/"
    return {
        "id": account.resource_id,
        "name": account.name,
        "type": "Microsoft.CognitiveServices/accounts",
        "location": account.location,
        "kind": account.kind,
        "sku": {"name": "S0"},
        "etag": f'"{account.id}"',
        "systemData": {"createdAt": moment(account.created_at)},
        "properties": {
            "endpoint": endpoint,
            "endpoints": {
                "OpenAI Language Model Instance API": endpoint,
                "OpenAI Model Scaleset API": endpoint,
                "OpenAI v1": f"{addresses.data_plane}/openai/v1/",
            },
            "provisioningState": "Succeeded",
            "customSubDomainName": account.name,
            "publicNetworkAccess": "Enabled",
            "dateCreated": moment(account.created_at),
        },
    }
