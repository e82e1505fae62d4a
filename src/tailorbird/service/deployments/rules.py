"""What may be deployed: names, SKUs and capacities, how many, and one deployment for each fine-tuned model."""

from __future__ import annotations

import dataclasses

from tailorbird.domain import ids
from tailorbird.domain.access import Account
from tailorbird.domain.deployments import (
    DEVELOPER,
    PROVISIONED_SKUS,
    SKUS,
    Deployment,
    Limits,
    ProvisioningState,
    check_move,
    sku_called,
)
from tailorbird.domain.errors import Conflict, InvalidRequest, QuotaExceeded
from tailorbird.service.models import Catalogue
from tailorbird.service.ports import Session

_HOLDING = (ProvisioningState.CREATING, ProvisioningState.SUCCEEDED)


def check_name(name: str) -> None:
    if not ids.is_resource_name(name):
        raise InvalidRequest(
            f"The deployment name '{name}' is not valid. Use 1 to 64 letters, digits, dots, hyphens and "
            "underscores; the first must be a letter or digit.",
            param="name",
            code="InvalidResourceName",
        )


def check_capacity(capacity: int) -> None:
    if capacity < 1:
        raise InvalidRequest(
            f"The capacity must be a whole number of at least 1 (thousand tokens per minute), not {capacity}.",
            param="sku.capacity",
            code="InvalidCapacity",
        )


def check_sku(name: str, model_name: str, version: str, *, tuned: bool) -> str:
    """In Azure's spelling. The developer tier is for fine-tuned models alone. Raises InvalidRequest."""
    sku = sku_called(name)
    supported = skus_of(tuned=tuned)
    if sku not in supported:
        raise InvalidRequest(
            f"The specified SKU '{name}' of account deployment is not supported by the model '{model_name}' version: "
            f"'{version}'. Supported are {', '.join(supported)}.",
            param="sku.name",
            code="InvalidResourceProperties",
        )
    return sku


def skus_of(*, tuned: bool) -> tuple[str, ...]:
    """What a base model or a fine-tuned model can be deployed with."""
    return tuple(sku for sku in SKUS if tuned or sku != DEVELOPER)


def check_limits(
    tx: Session, catalogue: Catalogue, limits: Limits, account: Account, before: Deployment | None, after: Deployment
) -> None:
    """Raises QuotaExceeded when the account has too many deployments, or the location's quota is used up, with
    `after` in the place of `before`."""
    use = tx.usages.of_account(account.id, but=after.name)
    counts = (
        ("standard", "max_deployments", after.sku_name not in PROVISIONED_SKUS, use.standard_deployments,
         limits.standard_deployments),
        ("fine-tuned model", "max_tuned_deployments", after.checkpoint_id is not None, use.tuned_deployments,
         limits.tuned_deployments),
    )  # fmt: skip
    for kind, setting, counted, others, limit in counts:
        if counted and others >= limit:
            raise QuotaExceeded(
                f"The account '{account.name}' has {others} {kind} deployments and may have {limit}. Delete one, or "
                f"ask the operator to raise `{setting}`.",
                param="properties.model" if kind != "standard" else "sku.name",
            )
    _check_quota(tx, catalogue, limits.quota, account, before, after)


def _check_quota(
    tx: Session, catalogue: Catalogue, limit: int, account: Account, before: Deployment | None, after: Deployment
) -> None:
    used = tx.usages.capacity(account.subscription_id, account.location, but=(account.id, after.name))
    family = family_of(catalogue, after.catalogue_name)
    others = sum(
        u.capacity for u in used if u.sku_name == after.sku_name and family_of(catalogue, u.catalogue_name) == family
    )
    own = 0
    if before is not None and before.state in _HOLDING and before.sku_name == after.sku_name:
        own = before.capacity if family_of(catalogue, before.catalogue_name) == family else 0
    more = after.capacity - own
    if more <= 0 or others + after.capacity <= limit:
        return
    quota = quota_name(family, after.sku_name)
    raise QuotaExceeded(
        f"This operation require {more} new capacity in quota {quota}, which is bigger than the current available "
        f"capacity {max(0, limit - others - own)}. The current quota usage is {others + own} and the quota limit is "
        f"{limit} for quota {quota}.",
        param="sku.capacity",
    )


def family_of(catalogue: Catalogue, catalogue_name: str) -> str:
    """The versions of a model share one quota. An entry the operator has removed keeps its name."""
    entry = catalogue.entry(catalogue_name)
    return catalogue_name if entry is None else entry.family


def quota_name(family: str, sku_name: str) -> str:
    """As Azure's texts and usages call it."""
    unit = "Provisioned Managed Throughput Unit" if sku_name in PROVISIONED_SKUS else "Tokens Per Minute (thousands)"
    return f"{unit} - {family}"


def refuse_second(tx: Session, deployment: Deployment) -> None:
    """Raises Conflict when another deployment serves the same checkpoint."""
    other = None if deployment.checkpoint_id is None else tx.deployments.of_checkpoint(deployment.checkpoint_id)
    if other is None or (other.account_id, other.name.lower()) == (deployment.account_id, deployment.name.lower()):
        return
    raise Conflict(
        f"Only one deployment is permitted for a fine-tuned model: '{deployment.served_model}' is already served by "
        f"the deployment '{other.name}' ({other.state}). Use that one, or delete it before creating "
        f"'{deployment.name}'.",
        param="properties.model.name",
        code="DeploymentAlreadyExists",
    )


def refuse_leaving(existing: Deployment) -> None:
    """Raises Conflict while it is being deleted."""
    if existing.state is ProvisioningState.DELETING:
        raise Conflict(
            f"The deployment '{existing.name}' is being deleted. Wait until it is gone, then create it again.",
            code="RequestConflict",
        )


def check_tier_change(existing: Deployment, sku_name: str) -> None:
    """A deployment old enough would be deleted the moment it entered the developer tier. Raises InvalidRequest."""
    if sku_name == DEVELOPER != existing.sku_name:
        raise InvalidRequest(
            f"The deployment '{existing.name}' cannot change from {existing.sku_name} to {DEVELOPER}, which deletes a "
            "deployment 24 hours after its creation. Create a new one with that SKU.",
            param="sku.name",
            code="InvalidResourceProperties",
        )


def updated(existing: Deployment, wanted: Deployment) -> Deployment:
    """`existing` after a PUT of `wanted`. Raises Conflict while it is being deleted or moved to another model."""
    refuse_leaving(existing)
    check_tier_change(existing, wanted.sku_name)
    same = existing.checkpoint_id == wanted.checkpoint_id and existing.catalogue_name == wanted.catalogue_name
    merged = dataclasses.replace(
        wanted,
        name=existing.name,
        created_at=existing.created_at,
        created_by=existing.created_by,
        last_used_at=existing.last_used_at,
    )
    if same and existing.state is not ProvisioningState.FAILED:
        return dataclasses.replace(merged, state=existing.state)
    if existing.state is ProvisioningState.CREATING:
        raise Conflict(
            f"The deployment '{existing.name}' is still being created with the model '{existing.model_name}'. "
            "Wait until it is ready, then point it to another.",
            code="RequestConflict",
        )
    check_move(existing.state, ProvisioningState.CREATING)
    return merged
