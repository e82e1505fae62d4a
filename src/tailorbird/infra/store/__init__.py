"""The Store on SQLite or PostgreSQL, one module per noun."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime

import sqlalchemy as sa

from tailorbird.infra.store.accounts import SqlAccounts
from tailorbird.infra.store.audit import SqlAudit
from tailorbird.infra.store.completions import SqlCompletions
from tailorbird.infra.store.deployments import SqlDeployments
from tailorbird.infra.store.evals import SqlEvals
from tailorbird.infra.store.files import SqlFiles, SqlImports
from tailorbird.infra.store.identities import SqlIdentities
from tailorbird.infra.store.jobs import SqlAccountSettings, SqlJobs
from tailorbird.infra.store.models import SqlModels
from tailorbird.infra.store.safety import SqlVerdicts
from tailorbird.infra.store.sharing import SqlSharing
from tailorbird.infra.store.uploads import SqlUploads
from tailorbird.infra.store.usage import SqlBudgets, SqlCalibrations, SqlHosting, SqlLedger, SqlWork
from tailorbird.infra.store.usages import SqlUsages


class SqlSession:
    """One transaction. A statement sees what was committed before it began, and what this session wrote."""

    def __init__(self, connection: sa.Connection, now: datetime) -> None:
        self.accounts = SqlAccounts(connection)
        self.audit = SqlAudit(connection)
        self.identities = SqlIdentities(connection)
        self.files = SqlFiles(connection, now)
        self.imports = SqlImports(connection)
        self.uploads = SqlUploads(connection)
        self.jobs = SqlJobs(connection, now)
        self.account_settings = SqlAccountSettings(connection)
        self.models = SqlModels(connection)
        self.deployments = SqlDeployments(connection)
        self.completions = SqlCompletions(connection)
        self.evals = SqlEvals(connection)
        self.sharing = SqlSharing(connection)
        self.verdicts = SqlVerdicts(connection)
        self.usages = SqlUsages(connection)
        self.ledger = SqlLedger(connection)
        self.hosting = SqlHosting(connection)
        self.work = SqlWork(connection)
        self.calibrations = SqlCalibrations(connection)
        self.budgets = SqlBudgets(connection)


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
