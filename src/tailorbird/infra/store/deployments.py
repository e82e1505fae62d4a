"""Deployments."""

from __future__ import annotations

import builtins
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tailorbird.domain.deployments import DEVELOPER, Deployment, ProvisioningState
from tailorbird.infra.store.rows import Rows, insert_new
from tailorbird.infra.tables.deployments import deployments
from tailorbird.service.ports import AlreadyThere

_DEPLOYMENTS = Rows(Deployment, deployments)


class SqlDeployments:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, deployment: Deployment) -> None:
        row = {**_DEPLOYMENTS.values(deployment), "name_key": deployment.name.lower()}
        if not insert_new(self._connection, deployments, row, ()):
            raise AlreadyThere(deployment.name)

    def get(self, account_id: str, name: str) -> Deployment | None:
        return _DEPLOYMENTS.one(self._connection, *_called(account_id, name))

    def list(self, account_id: str) -> builtins.list[Deployment]:
        own = deployments.c.account_id == account_id
        found = _DEPLOYMENTS.all(self._connection, own, order=[deployments.c.seq])
        # Sorted here, as a database's order of letters depends on its locale.
        return sorted(found, key=lambda deployment: deployment.name.lower())

    def save(self, deployment: Deployment) -> None:
        """One deleted meanwhile stays deleted; one used meanwhile stays used: `last_used_at` only grows."""
        row = _DEPLOYMENTS.values(deployment)
        del row["last_used_at"]
        same = _called(deployment.account_id, deployment.name)
        try:
            self._connection.execute(sa.update(deployments).where(*same).values(row))
        except IntegrityError:
            # The one constraint a name that stays can break: one deployment for each checkpoint.
            raise AlreadyThere(deployment.name) from None
        if deployment.last_used_at is not None:
            self.touch(deployment.account_id, deployment.name, deployment.last_used_at)

    def touch(self, account_id: str, name: str, used_at: datetime) -> None:
        earlier = sa.or_(deployments.c.last_used_at.is_(None), deployments.c.last_used_at < used_at)
        self._connection.execute(
            sa.update(deployments).where(*_called(account_id, name), earlier).values(last_used_at=used_at)
        )

    def delete(self, account_id: str, name: str) -> bool:
        return self._connection.execute(sa.delete(deployments).where(*_called(account_id, name))).rowcount > 0

    def of_checkpoint(self, checkpoint_id: str) -> Deployment | None:
        """Of several the oldest."""
        serves = deployments.c.checkpoint_id == checkpoint_id
        return next(iter(_DEPLOYMENTS.all(self._connection, serves, order=[deployments.c.seq])), None)

    def unfinished(self) -> builtins.list[Deployment]:
        """Oldest first."""
        moving = sa.text("state IN ('Creating', 'Deleting')")
        return _DEPLOYMENTS.all(self._connection, moving, order=[deployments.c.seq])

    def expired(self, idle_since: datetime | None, developer_before: datetime | None) -> builtins.list[Deployment]:
        """Oldest first."""
        c = deployments.c
        ways: builtins.list[sa.ColumnElement[bool]] = []
        if idle_since is not None:
            used = sa.func.coalesce(c.last_used_at, c.created_at)
            ways.append(sa.and_(c.checkpoint_id.is_not(None), c.created_at < idle_since, used < idle_since))
        if developer_before is not None:
            ways.append(sa.and_(c.sku_name == DEVELOPER, c.created_at < developer_before))
        alive = c.state != ProvisioningState.DELETING
        return _DEPLOYMENTS.all(self._connection, sa.or_(sa.false(), *ways), alive, order=[c.seq])


def _called(account_id: str, name: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return deployments.c.account_id == account_id, deployments.c.name_key == name.lower()
