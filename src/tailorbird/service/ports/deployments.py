"""The table of deployments."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from tailorbird.domain.deployments import Deployment


class DeploymentTable(Protocol):
    def add(self, deployment: Deployment) -> None:
        """Raises AlreadyThere when the account has one of this name (case-insensitive), or when another deployment
        serves the same checkpoint; the transaction is over then."""
        ...

    def get(self, account_id: str, name: str) -> Deployment | None:
        """Case-insensitive."""
        ...

    def list(self, account_id: str) -> list[Deployment]:
        """By name."""
        ...

    def save(self, deployment: Deployment) -> None:
        """Raises AlreadyThere when another deployment serves the same checkpoint; the transaction is over then."""
        ...

    def touch(self, account_id: str, name: str, used_at: datetime) -> None:
        """Remembers when it last served a request."""
        ...

    def delete(self, account_id: str, name: str) -> bool: ...

    def of_checkpoint(self, checkpoint_id: str) -> Deployment | None:
        """The deployment that serves this checkpoint, in any account."""
        ...

    def unfinished(self) -> list[Deployment]:
        """Deployments of every account in Creating or Deleting; a restarted server finishes them."""
        ...

    def expired(self, idle_since: datetime | None, developer_before: datetime | None) -> list[Deployment]:
        """What the clock ends, in every account: deployments of fine-tuned models made and last used before
        `idle_since`, and those of the developer tier made before `developer_before`. None ends nothing."""
        ...
