"""The Store on SQLite or PostgreSQL, one module per noun."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime

import sqlalchemy as sa

from tailorbird.infra.store.accounts import SqlAccounts
from tailorbird.infra.store.deployments import SqlDeployments
from tailorbird.infra.store.files import SqlFiles
from tailorbird.infra.store.jobs import SqlJobs
from tailorbird.infra.store.models import SqlModels


class SqlSession:
    """One transaction. A statement sees what was committed before it began, and what this session wrote."""

    def __init__(self, connection: sa.Connection, now: datetime) -> None:
        self.accounts = SqlAccounts(connection)
        self.files = SqlFiles(connection)
        self.jobs = SqlJobs(connection, now)
        self.models = SqlModels(connection)
        self.deployments = SqlDeployments(connection)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SqlStore:
    """`engine` comes from `schema.make_engine`, its database through `schema.migrate`; `now` tells expired leases."""

    def __init__(self, engine: sa.Engine, now: Callable[[], datetime] = _utc_now) -> None:
        self._engine = engine
        self._now = now

    @contextmanager
    def begin(self) -> Generator[SqlSession]:
        with self._engine.begin() as connection:
            yield SqlSession(connection, self._now())

    def ping(self) -> None:
        with self._engine.connect() as connection:
            connection.execute(sa.select(1))
