"""Bodies of accounts, as the control plane takes them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from tailorbird.api.bodies.deployments import ArmBody
from tailorbird.domain.errors import InvalidRequest


class SkuBody(ArmBody):
    read_only = frozenset({"tier"})

    name: str


class PropertiesBody(ArmBody):
    """What an account can be told; anything else of Azure's is refused by name."""

    read_only = frozenset({"endpoint", "endpoints", "provisioningState", "dateCreated"})

    customSubDomainName: str | None = None  # noqa: N815
    restore: bool = False
    publicNetworkAccess: str | None = None  # noqa: N815
    disableLocalAuth: bool | None = None  # noqa: N815
    allowProjectManagement: bool | None = None  # noqa: N815
    dynamicThrottlingEnabled: bool | None = None  # noqa: N815
    apiProperties: dict[str, Any] | None = None  # noqa: N815
    networkAcls: dict[str, Any] | None = None  # noqa: N815


class AccountPatch(ArmBody):
    read_only = frozenset({"id", "name", "type", "etag", "systemData"})

    location: str | None = None
    kind: str | None = None
    sku: SkuBody | None = None
    tags: dict[str, str] | None = None
    identity: dict[str, Any] | None = None
    properties: PropertiesBody = Field(default_factory=PropertiesBody)


class KeyName(ArmBody):
    keyName: str  # noqa: N815


def refuse_unfit(body: AccountPatch) -> None:
    """Raises InvalidRequest for a field we understand and cannot honour."""
    asked = body.properties
    acls = {name: value for name, value in (asked.networkAcls or {}).items() if value}
    identity = (body.identity or {}).get("type", "None")
    refused = {
        "sku.name": body.sku is not None and body.sku.name.upper() != "S0",
        "identity": identity != "None",
        "properties.publicNetworkAccess": asked.publicNetworkAccess not in (None, "Enabled"),
        "properties.disableLocalAuth": bool(asked.disableLocalAuth),
        "properties.allowProjectManagement": asked.allowProjectManagement is False,
        "properties.dynamicThrottlingEnabled": bool(asked.dynamicThrottlingEnabled),
        "properties.apiProperties": any((asked.apiProperties or {}).values()),
        "properties.networkAcls": acls not in ({}, {"defaultAction": "Allow"}),
    }
    for field, unfit in refused.items():
        if unfit:
            raise InvalidRequest(f"'{field}' cannot be what it is in this request; leave it out.", param=field)
