"""The queue: claims, heartbeats and releases on the job rows themselves."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

import sqlalchemy as sa

from tailorbird.domain.jobs import Job
from tailorbird.infra.store.jobs import JOBS, QUEUE, waiting
from tailorbird.infra.tables.jobs import jobs

# Any number, as long as nothing else in the same database takes it.
_CLAIM_LOCK = 7_414_110_218


class SqlLeases:
    """A lease is two columns of the job: who holds it and until when. It is lost only when someone else takes it."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def claim(
        self, owner: str, now: datetime, seconds: float, per_account: int, bases: Collection[str] | None = None
    ) -> Job | None:
        held = sa.select(jobs.c.account_id).where(jobs.c.lease_owner.is_not(None), jobs.c.lease_until > now)
        full = held.group_by(jobs.c.account_id).having(sa.func.count() >= per_account)
        oldest = (
            sa.select(jobs.c.seq)
            .where(*waiting(now), jobs.c.account_id.not_in(full))
            .order_by(*QUEUE)
            .limit(1)
            # PostgreSQL: a job whose row somebody is writing is passed over instead of waited for.
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        claimed = (
            sa.update(jobs)
            .where(jobs.c.seq == oldest, *([] if bases is None else [jobs.c.base.in_(bases)]))
            .values(lease_owner=owner, lease_until=_end(now, seconds), attempts=jobs.c.attempts + 1)
            .returning(*JOBS.columns)
        )
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                # One claim at a time, so that two cannot both take an account's last place. SQLite has one writer.
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CLAIM_LOCK)))
            row = connection.execute(claimed).mappings().one_or_none()
        return None if row is None else JOBS.thing(row)

    def beat(self, job_id: str, owner: str, now: datetime, seconds: float) -> bool:
        """An expired lease nobody took is still the owner's."""
        held = (jobs.c.id == job_id, jobs.c.lease_owner == owner)
        with self._engine.begin() as connection:
            beaten = connection.execute(sa.update(jobs).where(*held).values(lease_until=_end(now, seconds)))
            return beaten.rowcount == 1

    def release(self, job_id: str, owner: str) -> None:
        """Releasing what another holds does nothing."""
        held = (jobs.c.id == job_id, jobs.c.lease_owner == owner)
        with self._engine.begin() as connection:
            connection.execute(sa.update(jobs).where(*held).values(lease_owner=None, lease_until=None))


def _end(now: datetime, seconds: float) -> datetime:
    return now + timedelta(seconds=seconds)
