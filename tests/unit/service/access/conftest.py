"""Access on a real store (SQLite), with a clock that stands still until moved."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tailorbird.infra.schema import make_engine, migrate
from tailorbird.infra.store import SqlStore
from tailorbird.service.access import Access, Credentials


class StoppedClock:
    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 21, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A migrated, empty database with a signing key: both cost more than the rest of a test."""
    path = tmp_path_factory.mktemp("db") / "t.db"
    migrate(f"sqlite:///{path}")
    engine = make_engine(f"sqlite:///{path}")
    Access(SqlStore(engine), StoppedClock(), lambda: uuid.uuid4().hex).tokens.public_jwks()
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    return path.read_bytes()


@pytest.fixture
def store(tmp_path: Path, template: bytes):
    (tmp_path / "t.db").write_bytes(template)
    engine = make_engine(f"sqlite:///{tmp_path / 't.db'}")
    yield SqlStore(engine)
    engine.dispose()


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def new_hex() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: uuid.uuid5(uuid.NAMESPACE_OID, str(next(numbers))).hex


@pytest.fixture
def access(store: SqlStore, clock: StoppedClock, new_hex: Callable[[], str]) -> Access:
    return Access(store, clock, new_hex)


@pytest.fixture
def first(access: Access) -> Credentials:
    return access.first_run()
