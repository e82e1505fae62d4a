"""Accounts of a subscription or group: put, show, list, change, delete; their keys."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response

from tailorbird.api.arm.envelope import ACCOUNT, ACCOUNTS, ArmRoute, Caller, arm_path, listed, moment, opened
from tailorbird.api.bodies.accounts import AccountPatch, KeyName, refuse_unfit
from tailorbird.api.context import Addresses, Given, only_query
from tailorbird.domain.access import Account, Action, account_scope
from tailorbird.domain.errors import NotFound
from tailorbird.service.access.accounts import AskedAccount

_PROVIDER = "/subscriptions/{subscription}/providers/Microsoft.CognitiveServices"
_DELETED = _PROVIDER + "/locations/{location}/resourceGroups/{group}/deletedAccounts/{account}"

Read = Annotated[Account, Depends(opened(Action.READ_ACCOUNT))]
Write = Annotated[Account, Depends(opened(Action.WRITE_ACCOUNT))]
Keys = Annotated[Account, Depends(opened(Action.LIST_KEYS))]
NewKeys = Annotated[Account, Depends(opened(Action.REGENERATE_KEY))]


def router() -> APIRouter:
    routes = APIRouter(route_class=ArmRoute, dependencies=[Depends(only_query())])
    routes.get(arm_path(_PROVIDER + "/accounts"))(list_accounts)
    routes.get(arm_path(ACCOUNTS))(list_accounts_of_group)
    routes.get(arm_path(ACCOUNT))(show_account)
    routes.put(arm_path(ACCOUNT))(put_account)
    routes.patch(arm_path(ACCOUNT))(patch_account)
    routes.delete(arm_path(ACCOUNT))(delete_account)
    routes.delete(arm_path(_DELETED))(purge_account)
    routes.post(arm_path(ACCOUNT + "/listKeys"))(list_keys)
    routes.post(arm_path(ACCOUNT + "/regenerateKey"))(regenerate_key)
    return routes


def list_accounts(subscription: str, who: Caller, services: Given) -> dict[str, Any]:
    return listed([_account(a, services.addresses) for a in services.access.accounts(who, subscription)])


def list_accounts_of_group(subscription: str, group: str, who: Caller, services: Given) -> dict[str, Any]:
    return listed([_account(a, services.addresses) for a in services.access.accounts(who, subscription, group)])


def show_account(found: Read, services: Given) -> dict[str, Any]:
    return _account(found, services.addresses)


def put_account(
    subscription: str, group: str, account: str, body: AccountPatch, who: Caller, services: Given
) -> JSONResponse:
    services.access.authorize_at(who, Action.WRITE_ACCOUNT, account_scope(subscription, group, account))
    refuse_unfit(body)
    asked = AskedAccount(
        body.location,
        body.kind or "OpenAI",
        body.properties.customSubDomainName,
        body.tags or {},
        body.properties.restore,
    )
    made, created = services.access.resources.put(subscription, group, account, asked)
    return JSONResponse(_account(made, services.addresses), 201 if created else 200)


def patch_account(body: AccountPatch, found: Write, services: Given) -> dict[str, Any]:
    refuse_unfit(body)
    tags = dict(found.tags) if body.tags is None else body.tags
    asked = AskedAccount(body.location, body.kind or found.kind, body.properties.customSubDomainName, tags)
    changed, _ = services.access.resources.put(found.subscription_id, found.resource_group, found.name, asked)
    return _account(changed, services.addresses)


def delete_account(subscription: str, group: str, account: str, who: Caller, services: Given) -> Response:
    try:
        found = services.access.open(who, Action.DELETE_ACCOUNT, subscription, group, account)
    except NotFound:
        return Response(status_code=204)
    services.access.resources.delete(found)
    return Response(status_code=200)


def purge_account(subscription: str, group: str, account: str, who: Caller, services: Given) -> Response:
    services.access.authorize_at(who, Action.DELETE_ACCOUNT, account_scope(subscription, group, account))
    services.access.resources.purge(subscription, group, account)
    return Response(status_code=200)


def list_keys(found: Keys, services: Given) -> dict[str, str]:
    key1, key2 = services.access.resources.keys(found)
    return {"key1": key1, "key2": key2}


def regenerate_key(body: KeyName, found: NewKeys, services: Given) -> dict[str, str]:
    renewed = services.access.resources.regenerate_key(found, body.keyName)
    return {"key1": renewed.key1, "key2": renewed.key2}


def endpoint_of(account: Account, addresses: Addresses) -> str:
    """Where the account's data plane is. Azure's endpoints end in a slash."""
    below = f"accounts/{account.sub_domain}/" if account.sub_domain else ""
    return f"{addresses.data_plane}/{below}"


def _account(account: Account, addresses: Addresses) -> dict[str, Any]:
    endpoint = endpoint_of(account, addresses)
    body: dict[str, Any] = {
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
                "OpenAI v1": f"{endpoint}openai/v1/",
            },
            "provisioningState": "Succeeded",
            "customSubDomainName": account.sub_domain or account.name,
            "publicNetworkAccess": "Enabled",
            "dateCreated": moment(account.created_at),
        },
    }
    return {**body, "tags": dict(account.tags)} if account.tags else body
