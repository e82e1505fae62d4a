"""Deployments: states and moves, SKUs and what they allow, and what a deployment points at."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from tailorbird.domain.errors import IllegalState, PreconditionFailed


class ProvisioningState(StrEnum):
    CREATING = "Creating"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    DELETING = "Deleting"


MOVES: dict[ProvisioningState, frozenset[ProvisioningState]] = {
    ProvisioningState.CREATING: frozenset(
        {ProvisioningState.SUCCEEDED, ProvisioningState.FAILED, ProvisioningState.DELETING}
    ),
    # A PUT over an existing deployment provisions it again.
    ProvisioningState.SUCCEEDED: frozenset({ProvisioningState.CREATING, ProvisioningState.DELETING}),
    ProvisioningState.FAILED: frozenset({ProvisioningState.CREATING, ProvisioningState.DELETING}),
    ProvisioningState.DELETING: frozenset(),
}


TOKENS_PER_UNIT, REQUESTS_PER_UNIT = 1000, 6
"""What a capacity of 1 allows in a minute. The ratio is Azure's:
https://learn.microsoft.com/azure/ai-foundry/openai/how-to/quota#understanding-rate-limits"""

DEVELOPER = "DeveloperTier"
PROVISIONED_SKUS = ("ProvisionedManaged", "GlobalProvisionedManaged", "DataZoneProvisionedManaged")
SKUS = ("Standard", "GlobalStandard", "DataZoneStandard", DEVELOPER, *PROVISIONED_SKUS)
"""Azure's spelling; compared without case. `Developer` is az's name for DeveloperTier."""

RAI_POLICIES = ("Microsoft.Default", "Microsoft.DefaultV2")
UPGRADE_OPTIONS = ("OnceNewDefaultVersionAvailable", "OnceCurrentVersionExpired", "NoAutoUpgrade")


@dataclass(frozen=True, slots=True)
class Limits:
    """What an installation grants. `quota` is the capacity a model has in a location with one SKU; all else is counted
    per account. The two times are 0 where the clock shall end nothing; jobs and files are limited elsewhere."""

    standard_deployments: int = 32
    tuned_deployments: int = 10
    quota: int = 1000
    rate_limits: bool = True
    idle_days: float = 15.0
    developer_hours: float = 24.0
    jobs: int = 100
    queued_jobs: int = 20
    tuning_files: int = 100
    tuning_bytes: int = 10**9


@dataclass(frozen=True, slots=True)
class Deployment:
    """A name clients chat with. `checkpoint_id` None means the plain base model.

    `model_name` is what the caller asked for (a model name, a checkpoint name or a `ftchkpt-` id) and is echoed;
    `served_model` is what chat answers carry as `model`. `capacity` is in thousands of tokens per minute. `source` is
    the resource id of the account the model was copied from; `template_hash` the chat template it was trained with.
    """

    account_id: str
    name: str
    model_name: str
    model_format: str
    model_version: str
    served_model: str
    base: str
    checkpoint_id: str | None
    catalogue_name: str
    sku_name: str
    capacity: int
    state: ProvisioningState
    created_at: datetime
    updated_at: datetime
    created_by: str
    tags: dict[str, str] = field(default_factory=dict[str, str])
    failure: str | None = None
    last_used_at: datetime | None = None
    updated_by: str = ""
    version_upgrade: str | None = None
    rai_policy: str | None = None
    paused: bool = False
    source: str | None = None
    template_hash: str | None = None

    @property
    def etag(self) -> str:
        """Changes with every change but use."""
        return hashlib.sha256(f"{self.state}{self.updated_at}".encode()).hexdigest()[:32]

    @property
    def tokens_per_minute(self) -> int | None:
        """None for provisioned throughput, which Azure does not measure in tokens and we do not limit."""
        return None if self.sku_name in PROVISIONED_SKUS else self.capacity * TOKENS_PER_UNIT

    @property
    def requests_per_minute(self) -> int | None:
        return None if self.sku_name in PROVISIONED_SKUS else self.capacity * REQUESTS_PER_UNIT


class EndReason(StrEnum):
    IDLE = "idle"
    DEVELOPER_TIER = "developer_tier"


@dataclass(frozen=True, slots=True)
class Ending:
    """When the clock deletes a deployment: unless it is used before (`IDLE`), or whatever happens."""

    at: datetime
    why: EndReason


def ending_of(deployment: Deployment, limits: Limits) -> Ending | None:
    """None for one the clock leaves alone: a plain base model, or one that is on its way out already."""
    if deployment.state is ProvisioningState.DELETING:
        return None
    ends: list[Ending] = []
    if deployment.checkpoint_id is not None and limits.idle_days > 0:
        used = max(deployment.created_at, deployment.last_used_at or deployment.created_at)
        ends.append(Ending(used + timedelta(days=limits.idle_days), EndReason.IDLE))
    if deployment.sku_name == DEVELOPER and limits.developer_hours > 0:
        ends.append(Ending(deployment.created_at + timedelta(hours=limits.developer_hours), EndReason.DEVELOPER_TIER))
    return min(ends, key=lambda ending: ending.at, default=None)


def check_move(current: ProvisioningState, new: ProvisioningState) -> None:
    """Raises IllegalState when the table has no such move."""
    if new not in MOVES[current]:
        raise IllegalState(f"A deployment that is {current} cannot become {new}.")


@dataclass(frozen=True, slots=True)
class Precondition:
    """HTTP's If-Match and If-None-Match: the etags, without quotes, that must or must not be the deployment's."""

    if_match: frozenset[str] = frozenset()
    if_none_match: frozenset[str] = frozenset()

    def check(self, existing: Deployment | None) -> None:
        """`*` stands for any deployment at all. Raises PreconditionFailed."""
        tags: frozenset[str] = frozenset() if existing is None else frozenset({"*", existing.etag})
        if self.if_match and not self.if_match & tags:
            raise PreconditionFailed(
                "The deployment has changed, or is not there: its etag is none of If-Match. Get it again, look at what "
                "has changed, and send its new etag.",
                param="If-Match",
            )
        if self.if_none_match & tags:
            raise PreconditionFailed(
                "The deployment exists with an etag of If-None-Match. Leave out the header to replace it.",
                param="If-None-Match",
            )


ALWAYS = Precondition()
"""What a request without these headers asks for."""


def sku_called(name: str) -> str | None:
    """In Azure's spelling; None when there is no such SKU."""
    wanted = DEVELOPER.lower() if name.lower() == "developer" else name.lower()
    return next((known for known in SKUS if known.lower() == wanted), None)
