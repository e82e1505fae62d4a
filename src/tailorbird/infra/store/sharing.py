"""Checkpoints' copies and permissions."""

from __future__ import annotations

import sqlalchemy as sa

from tailorbird.domain.sharing import CheckpointCopy, CheckpointPermission
from tailorbird.infra.store.rows import Rows, insert_or_replace
from tailorbird.infra.tables.sharing import checkpoint_copies, checkpoint_permissions
from tailorbird.service.ports import Order, Page

_COPIES = Rows(CheckpointCopy, checkpoint_copies)
_PERMISSIONS = Rows(CheckpointPermission, checkpoint_permissions)


class SqlSharing:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def put_copy(self, copy: CheckpointCopy) -> None:
        insert_or_replace(self._connection, checkpoint_copies, _COPIES.values(copy), ("id",))

    def copy(self, copy_id: str) -> CheckpointCopy | None:
        return _COPIES.one(self._connection, checkpoint_copies.c.id == copy_id)

    def copies(self, account_id: str, checkpoint_id: str) -> list[CheckpointCopy]:
        c = checkpoint_copies.c
        return _COPIES.all(
            self._connection, c.account_id == account_id, c.checkpoint_id == checkpoint_id, order=[c.seq]
        )

    def unfinished_copies(self) -> list[CheckpointCopy]:
        unfinished = sa.text("status = 'InProgress'")
        return _COPIES.all(self._connection, unfinished, order=[checkpoint_copies.c.seq])

    def add_permission(self, permission: CheckpointPermission) -> None:
        insert_or_replace(self._connection, checkpoint_permissions, _PERMISSIONS.values(permission), ("id",))

    def permission(self, account_id: str, permission_id: str) -> CheckpointPermission | None:
        c = checkpoint_permissions.c
        return _PERMISSIONS.one(self._connection, c.id == permission_id, c.account_id == account_id)

    def permissions(
        self,
        account_id: str,
        checkpoint_id: str,
        *,
        project_id: str | None,
        after: str | None,
        limit: int,
        order: Order,
    ) -> Page[CheckpointPermission]:
        c = checkpoint_permissions.c
        return _PERMISSIONS.page(
            self._connection,
            c.account_id == account_id,
            c.checkpoint_id == checkpoint_id,
            sa.true() if project_id is None else c.project_id == project_id,
            order=[c.created_at, c.seq],
            descending=order == "desc",
            last=None if after is None else c.id == after,
            limit=limit,
        )

    def delete_permission(self, account_id: str, permission_id: str) -> bool:
        c = checkpoint_permissions.c
        gone = sa.delete(checkpoint_permissions).where(c.id == permission_id, c.account_id == account_id)
        return self._connection.execute(gone).rowcount > 0
