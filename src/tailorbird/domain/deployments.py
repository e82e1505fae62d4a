"""Deployments: states and moves, and what they point at."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from tailorbird.domain.errors import IllegalState


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


@dataclass(frozen=True, slots=True)
class Deployment:
    """A name clients chat with. `checkpoint_id` None means the plain base model.

    `model_name` is what the caller asked for (a model name, a checkpoint name or a `ftchkpt-` id) and is echoed;
    `served_model` is what chat answers carry as `model`. `capacity` is in thousands of tokens per minute.
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


def check_move(current: ProvisioningState, new: ProvisioningState) -> None:
    """Raises IllegalState when the table has no such move."""
    if new not in MOVES[current]:
        raise IllegalState(f"A deployment that is {current} cannot become {new}.")
