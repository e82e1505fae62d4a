"""Bodies of deployments, as the control plane takes them: az's strings, the form before SKUs, what a GET answered."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tailorbird.domain.deployments import RAI_POLICIES, UPGRADE_OPTIONS
from tailorbird.domain.errors import InvalidRequest

_STATES = ("Running", "Paused")
_ACCOUNT_ID = re.compile(
    r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/Microsoft\.CognitiveServices/accounts/([^/]+)/?",
    re.IGNORECASE,
)


class ArmBody(BaseModel):
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


class ModelBody(ArmBody):
    read_only = frozenset({"callRateLimit"})

    name: str
    format: str = "OpenAI"
    version: str | None = None
    publisher: str | None = None
    source: str | None = None
    sourceAccount: str | None = None  # noqa: N815


class ScaleBody(ArmBody):
    """The form before skus: `az … --scale-settings-*` still sends it."""

    read_only = frozenset({"activeCapacity"})

    scaleType: str = "Standard"  # noqa: N815
    capacity: int | None = None


class SkuBody(ArmBody):
    """az sends the capacity as a string."""

    name: str | None = None
    capacity: int | None = None
    tier: str | None = None
    size: str | None = None
    family: str | None = None


class PropertiesBody(ArmBody):
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


class DeploymentBody(ArmBody):
    read_only = frozenset({"id", "name", "type", "etag", "systemData"})

    properties: PropertiesBody
    sku: SkuBody | None = None
    tags: dict[str, str] | None = None


class DeploymentPatchBody(ArmBody):
    """What can change without provisioning anew; everything else takes a PUT."""

    sku: SkuBody | None = None
    tags: dict[str, str] | None = Field(default=None)


@dataclass(frozen=True, slots=True)
class AccountId:
    """The parts of an account's resource id."""

    subscription: str
    group: str
    name: str


def create_arguments(body: DeploymentBody) -> dict[str, Any]:
    """The service's arguments but the source. Raises InvalidRequest for a field we understand and cannot honour."""
    properties, model = body.properties, body.properties.model
    publisher = None if (model.publisher or "openai").lower() == "openai" else model.publisher
    _refuse(
        {
            "properties.model.publisher": publisher,
            "properties.spilloverDeploymentName": properties.spilloverDeploymentName,
            "properties.parentDeploymentName": properties.parentDeploymentName,
            "properties.capacitySettings": properties.capacitySettings,
            "properties.serviceTier": properties.serviceTier,
        }
    )
    scale = properties.scaleSettings or ScaleBody()
    if scale.scaleType.lower() not in ("standard", "manual"):
        raise _none_of("properties.scaleSettings.scaleType", scale.scaleType, ("Standard", "Manual"))
    _, capacity = _sku(body.sku)
    if body.sku is None:
        capacity = scale.capacity
    elif body.sku.name is None:
        raise InvalidRequest("'sku.name' is missing; it is required.", param="sku.name")
    state = _word("properties.deploymentState", properties.deploymentState, _STATES)
    return {
        "model_name": model.name,
        "model_format": model.format,
        "model_version": model.version,
        "sku_name": "Standard" if body.sku is None else body.sku.name,
        "capacity": 1 if capacity is None else capacity,
        "tags": body.tags or {},
        "version_upgrade": _word("properties.versionUpgradeOption", properties.versionUpgradeOption, UPGRADE_OPTIONS),
        "rai_policy": _word("properties.raiPolicyName", properties.raiPolicyName, RAI_POLICIES),
        "paused": None if state is None else state == "Paused",
    }


def update_arguments(body: DeploymentPatchBody) -> dict[str, Any]:
    name, capacity = _sku(body.sku)
    return {"sku_name": name, "capacity": capacity, "tags": body.tags}


def source_of(body: DeploymentBody) -> AccountId | None:
    """The account the model shall be copied from. Raises InvalidRequest."""
    model = body.properties.model
    given = [text for text in (model.source, model.sourceAccount) if text]
    if not given:
        return None
    field = f"properties.model.{'source' if model.source else 'sourceAccount'}"
    if len({text.rstrip("/").lower() for text in given}) > 1:
        raise InvalidRequest("'source' and 'sourceAccount' name different accounts; send one of them.", param=field)
    parts = _ACCOUNT_ID.fullmatch(given[0])
    if parts is None:
        raise InvalidRequest(
            f"'{given[0]}' is not the resource id of an account. It looks like /subscriptions/SUBSCRIPTION/"
            "resourceGroups/GROUP/providers/Microsoft.CognitiveServices/accounts/NAME.",
            param=field,
        )
    return AccountId(parts[1], parts[2], parts[3])


def _sku(sku: SkuBody | None) -> tuple[str | None, int | None]:
    if sku is None:
        return None, None
    tier = None if sku.tier is None or sku.tier.lower() == "standard" else sku.tier
    _refuse({"sku.size": sku.size, "sku.family": sku.family, "sku.tier": tier})
    return sku.name, sku.capacity


def _refuse(fields: dict[str, Any]) -> None:
    for field, value in fields.items():
        if value is not None:
            raise InvalidRequest(f"'{field}' cannot be honoured here; leave it out.", param=field)


def _word(field: str, value: str | None, known: tuple[str, ...]) -> str | None:
    """In the API's spelling, whatever the case."""
    if value is None:
        return None
    for word in known:
        if word.lower() == value.lower():
            return word
    raise _none_of(field, value, known)


def _none_of(field: str, value: str, known: tuple[str, ...]) -> InvalidRequest:
    return InvalidRequest(f"'{value}' is none of {', '.join(known)}.", param=field)
