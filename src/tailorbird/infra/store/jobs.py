"""Fine-tuning jobs with their events and checkpoints, and an account's settings."""

from __future__ import annotations

import builtins
import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from tailorbird.domain.jobs import Checkpoint, EventKind, Job, JobEvent, JobStatus, Stage
from tailorbird.infra.store.rows import Rows, either, insert_new, insert_or_replace
from tailorbird.infra.tables.access import accounts
from tailorbird.infra.tables.jobs import account_settings, checkpoints, job_events, job_metadata, jobs
from tailorbird.service.ports import AlreadyThere, LeaseLost, Page

JOBS = Rows(Job, jobs)
_EVENTS = Rows(JobEvent, job_events)
_CHECKPOINTS = Rows(Checkpoint, checkpoints)

QUEUE = (jobs.c.created_at, jobs.c.seq)
"""The order in which waiting jobs are claimed."""

# Written by whoever cancels and whoever claims, while the owner of the lease saves what it read before.
_NOT_SAVED = ("cancel_requested", "attempts")


class SqlJobs:
    def __init__(self, connection: sa.Connection, now: datetime) -> None:
        self._connection = connection
        self._now = now

    def add(self, job: Job) -> None:
        """Raises AlreadyThere."""
        if not insert_new(self._connection, jobs, {**JOBS.values(job), "ended": job.ended}, ("id",)):
            raise AlreadyThere(job.id)
        self._add_pairs(job.id, pair_keys(job.metadata))

    def get(self, account_id: str | None, job_id: str) -> Job | None:
        own = sa.true() if account_id is None else jobs.c.account_id == account_id
        return JOBS.one(self._connection, jobs.c.id == job_id, own)

    def list(
        self, account_id: str, *, after: str | None, limit: int, metadata: dict[str, str] | None = None
    ) -> Page[Job]:
        """Jobs of one moment come in the reverse order of adding; `after` must be in the same list."""
        carried = [
            jobs.c.id.in_(sa.select(job_metadata.c.job_id).where(job_metadata.c.pair_key == pair))
            for pair in pair_keys(metadata or {})
        ]
        return JOBS.page(
            self._connection,
            jobs.c.account_id == account_id,
            *carried,
            order=[jobs.c.created_at, jobs.c.seq],
            descending=True,
            last=None if after is None else jobs.c.id == after,
            limit=limit,
        )

    def save(self, job: Job, *, owner: str | None) -> None:
        """Also raises LeaseLost when the job has ended in another way meanwhile: an ended job's status is final."""
        row: dict[str, Any] = {name: value for name, value in JOBS.values(job).items() if name not in _NOT_SAVED}
        row["ended"] = job.ended
        if job.ended or job.status is JobStatus.PAUSED:
            row.update(lease_owner=None, lease_until=None)
        if job.status is JobStatus.RUNNING and job.stage is Stage.TRAIN:
            # The worker saves what it read before somebody asked for a pause.
            pausing = jobs.c.status == JobStatus.PAUSING
            row["status"] = sa.case((pausing, jobs.c.status), else_=sa.literal(job.status, jobs.c.status.type))
        if owner is None:
            allowed = sa.or_(jobs.c.lease_owner.is_(None), jobs.c.lease_until <= self._now)
        else:
            allowed = jobs.c.lease_owner == owner
        still = sa.or_(jobs.c.ended.is_(sa.false()), jobs.c.status == job.status)
        written = self._connection.execute(sa.update(jobs).where(jobs.c.id == job.id, allowed, still).values(row))
        if written.rowcount == 0:
            raise LeaseLost(job.id)
        self._replace_pairs(job.id, pair_keys(job.metadata))

    def request_cancel(self, job_id: str) -> None:
        self._connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(cancel_requested=True))

    def cancel_requested(self, job_id: str) -> bool:
        query = sa.select(jobs.c.cancel_requested).where(jobs.c.id == job_id)
        return self._connection.execute(query).scalar_one_or_none() is True

    def request_pause(self, job_id: str) -> bool:
        training = (jobs.c.status == JobStatus.RUNNING, jobs.c.stage == Stage.TRAIN)
        asked = sa.update(jobs).where(jobs.c.id == job_id, *training).values(status=JobStatus.PAUSING)
        return self._connection.execute(asked).rowcount == 1

    def append_event(self, event: JobEvent) -> bool:
        return insert_new(self._connection, job_events, _EVENTS.values(event), ("job_id", "key"))

    def find_event(self, job_id: str, key: str) -> JobEvent | None:
        return _EVENTS.one(self._connection, job_events.c.job_id == job_id, job_events.c.key == key)

    def events(self, job_id: str, *, after: str | None, limit: int) -> Page[JobEvent]:
        return _EVENTS.page(
            self._connection,
            job_events.c.job_id == job_id,
            order=[job_events.c.seq],
            descending=True,
            last=None if after is None else job_events.c.id == after,
            limit=limit,
        )

    def metrics(self, job_id: str, *, after: str | None, limit: int) -> Page[JobEvent]:
        return _EVENTS.page(
            self._connection,
            job_events.c.job_id == job_id,
            job_events.c.kind == EventKind.METRICS,
            order=[job_events.c.seq],
            descending=False,
            last=None if after is None else job_events.c.id == after,
            limit=limit,
        )

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        insert_or_replace(self._connection, checkpoints, _CHECKPOINTS.values(checkpoint), ("id",))

    def checkpoints(self, job_id: str, *, after: str | None, limit: int) -> Page[Checkpoint]:
        return _CHECKPOINTS.page(
            self._connection,
            checkpoints.c.job_id == job_id,
            order=[checkpoints.c.step, checkpoints.c.id],
            descending=True,
            last=None if after is None else checkpoints.c.id == after,
            limit=limit,
        )

    def find_checkpoint(self, account_id: str, reference: str) -> Checkpoint | None:
        """Of several with one OpenAI name (it carries eight digits of the job only) the newest."""
        c = checkpoints.c
        ways = (c.id == reference, c.name == reference, c.openai_name == reference)
        named = either(c.id, c.account_id == account_id, *ways)
        order = [c.created_at.desc(), c.step.desc(), c.id]
        return next(iter(_CHECKPOINTS.all(self._connection, named, order=order)), None)

    def continued(self, account_id: str, job_id: str) -> builtins.list[Job]:
        own = sa.select(checkpoints.c.id).where(checkpoints.c.job_id == job_id)
        mine = (jobs.c.account_id == account_id, jobs.c.start_checkpoint.in_(own))
        return JOBS.all(self._connection, *mine, order=[jobs.c.created_at, jobs.c.seq])

    def hold(self, account_id: str) -> None:
        # Writing the account's row, unchanged, makes others wait who do the same: on SQLite as on PostgreSQL.
        self._connection.execute(sa.update(accounts).where(accounts.c.id == account_id).values(id=accounts.c.id))

    def active_count(self, account_id: str) -> int:
        query = sa.select(sa.func.count()).where(jobs.c.account_id == account_id, jobs.c.ended.is_(sa.false()))
        return self._connection.execute(query).scalar_one()

    def count(self, account_id: str, statuses: Collection[JobStatus] | None = None) -> int:
        query = sa.select(sa.func.count()).where(jobs.c.account_id == account_id)
        if statuses is not None:
            # The index of active jobs knows no states, only who has ended; nobody asks for ended ones by state.
            query = query.where(jobs.c.ended.is_(sa.false()), jobs.c.status.in_(list(statuses)))
        return self._connection.execute(query).scalar_one()

    def waiting(self, limit: int) -> list[Job]:
        query = sa.select(*JOBS.columns).where(*waiting(self._now)).order_by(*QUEUE).limit(limit)
        return [JOBS.thing(row) for row in self._connection.execute(query).mappings()]

    def delete(self, account_id: str, job_id: str) -> bool:
        # Events and metadata go with the row they point at (ON DELETE CASCADE).
        same = (jobs.c.id == job_id, jobs.c.account_id == account_id)
        return self._connection.execute(sa.delete(jobs).where(*same)).rowcount > 0

    def _add_pairs(self, job_id: str, pairs: set[str]) -> None:
        if pairs:
            rows = [{"pair_key": pair, "job_id": job_id} for pair in sorted(pairs)]
            self._connection.execute(sa.insert(job_metadata), rows)

    def _replace_pairs(self, job_id: str, pairs: set[str]) -> None:
        own = job_metadata.c.job_id == job_id
        known = set(self._connection.execute(sa.select(job_metadata.c.pair_key).where(own)).scalars())
        if known - pairs:
            self._connection.execute(sa.delete(job_metadata).where(own, job_metadata.c.pair_key.in_(known - pairs)))
        self._add_pairs(job_id, pairs - known)


def waiting(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    """The conditions of a job that nobody works on and somebody should."""
    free = sa.or_(jobs.c.lease_until.is_(None), jobs.c.lease_until <= now)
    return jobs.c.ended.is_(sa.false()), jobs.c.status != JobStatus.PAUSED, free


class SqlAccountSettings:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def get(self, account_id: str, name: str) -> str | None:
        c = account_settings.c
        query = sa.select(c.value).where(c.account_id == account_id, c.name == name)
        return self._connection.execute(query).scalar_one_or_none()

    def put(self, account_id: str, name: str, value: str | None) -> None:
        c = account_settings.c
        if value is None:
            self._connection.execute(sa.delete(account_settings).where(c.account_id == account_id, c.name == name))
            return
        row = {"account_id": account_id, "name": name, "value": value}
        insert_or_replace(self._connection, account_settings, row, ("account_id", "name"))


def pair_keys(metadata: Mapping[str, str]) -> set[str]:
    return {hashlib.sha256(json.dumps(pair).encode()).hexdigest() for pair in metadata.items()}
