"""The queue: claims, heartbeats and releases on the job rows themselves."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from tailorbird.domain.jobs import Job
from tailorbird.infra.schema import jobs
from tailorbird.infra.store.jobs import JOBS


class SqlLeases:
    """A lease is two columns of the job: who holds it and until when. It is lost only when someone else takes it."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def claim(self, owner: str, now: datetime, seconds: float) -> Job | None:
        free = sa.or_(jobs.c.lease_until.is_(None), jobs.c.lease_until <= now)
        oldest = (
            sa.select(jobs.c.seq)
            .where(jobs.c.ended.is_(sa.false()), free)
            .order_by(jobs.c.created_at, jobs.c.seq)
            .limit(1)
            # PostgreSQL: two claims at once take two jobs instead of waiting for one. SQLite has one writer at a time.
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        claimed = (
            sa.update(jobs)
            .where(jobs.c.seq == oldest)
            .values(lease_owner=owner, lease_until=_end(now, seconds), attempts=jobs.c.attempts + 1)
            .returning(*JOBS.columns)
        )
        with self._engine.begin() as connection:
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
