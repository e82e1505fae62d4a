"""What accounts and locations use."""

from __future__ import annotations

import sqlalchemy as sa

from tailorbird.domain.deployments import PROVISIONED_SKUS, ProvisioningState
from tailorbird.domain.files import Purpose
from tailorbird.infra.tables.access import accounts
from tailorbird.infra.tables.deployments import deployments
from tailorbird.infra.tables.files import files
from tailorbird.infra.tables.jobs import jobs
from tailorbird.service.ports import AccountUse, Used

_HOLDING = (ProvisioningState.CREATING, ProvisioningState.SUCCEEDED)


class SqlUsages:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def capacity(self, subscription_id: str, location: str, *, but: tuple[str, str] | None = None) -> list[Used]:
        c = deployments.c
        query = (
            sa.select(c.catalogue_name, c.sku_name, sa.func.sum(c.capacity))
            .join(accounts, accounts.c.id == c.account_id)
            .where(
                accounts.c.subscription_key == subscription_id.lower(),
                sa.func.lower(accounts.c.location) == location.lower(),
                c.state.in_(_HOLDING),
            )
            .group_by(c.catalogue_name, c.sku_name)
        )
        if but is not None:
            account_id, name = but
            query = query.where(sa.not_(sa.and_(c.account_id == account_id, c.name_key == name.lower())))
        return sorted(
            (Used(entry, sku, int(total)) for entry, sku, total in self._connection.execute(query)),
            key=lambda used: (used.catalogue_name, used.sku_name),
        )

    def of_account(self, account_id: str, *, but: str | None = None) -> AccountUse:
        c = deployments.c
        held = sa.and_(c.account_id == account_id, c.state.in_(_HOLDING), c.name_key != (but or "").lower())
        tuning = sa.and_(files.c.account_id == account_id, files.c.purpose == Purpose.FINE_TUNE)
        counts = sa.select(
            _count(deployments, held, c.sku_name.not_in(PROVISIONED_SKUS)),
            _count(deployments, held, c.checkpoint_id.is_not(None)),
            _count(jobs, jobs.c.account_id == account_id),
            _count(jobs, jobs.c.account_id == account_id, jobs.c.ended.is_(False)),
            _count(files, tuning),
            sa.select(sa.func.coalesce(sa.func.sum(files.c.bytes), 0)).where(tuning).scalar_subquery(),
        )
        return AccountUse(*(int(count) for count in self._connection.execute(counts).one()))


def _count(table: sa.Table, *conditions: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count()).select_from(table).where(*conditions).scalar_subquery()
