"""What accounts and locations use: counts and sums over the other tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Used:
    """The capacity the deployments of one catalogue entry (and of what was fine-tuned from it) take with one SKU."""

    catalogue_name: str
    sku_name: str
    capacity: int


@dataclass(frozen=True, slots=True)
class AccountUse:
    """Counts of one account; deleting and failed deployments hold nothing."""

    standard_deployments: int
    tuned_deployments: int
    jobs: int
    unended_jobs: int
    tuning_files: int
    tuning_bytes: int


class UsageTable(Protocol):
    def capacity(self, subscription_id: str, location: str, *, but: tuple[str, str] | None = None) -> list[Used]:
        """Sums over the accounts of a location (both case-insensitive), without `but`: (account id, deployment)."""
        ...

    def of_account(self, account_id: str, *, but: str | None = None) -> AccountUse:
        """Without the deployment called `but`."""
        ...
