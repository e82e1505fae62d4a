"""The table of checkpoints' copies and permissions."""

from __future__ import annotations

from typing import Protocol

from tailorbird.domain.sharing import CheckpointCopy, CheckpointPermission
from tailorbird.service.ports.outcomes import Order, Page


class SharingTable(Protocol):
    def put_copy(self, copy: CheckpointCopy) -> None:
        """Putting the same id again replaces it."""
        ...

    def copy(self, copy_id: str) -> CheckpointCopy | None: ...

    def copies(self, account_id: str, checkpoint_id: str) -> list[CheckpointCopy]:
        """Oldest first."""
        ...

    def unfinished_copies(self) -> list[CheckpointCopy]:
        """Those of every account in progress; a restarted server finishes them."""
        ...

    def add_permission(self, permission: CheckpointPermission) -> None:
        """Adding the same id again replaces it."""
        ...

    def permission(self, account_id: str, permission_id: str) -> CheckpointPermission | None: ...

    def permissions(
        self,
        account_id: str,
        checkpoint_id: str,
        *,
        project_id: str | None,
        after: str | None,
        limit: int,
        order: Order,
    ) -> Page[CheckpointPermission]: ...

    def delete_permission(self, account_id: str, permission_id: str) -> bool: ...
