"""The database's engine, and its migration to the newest schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url

# Every module of tables, so that `metadata` is whole.
from tailorbird.infra.tables import (
    access,
    audit,
    completions,
    deployments,
    evals,
    files,
    jobs,
    metadata,
    models,
    safety,
    sharing,
    uploads,
    usage,
)

__all__ = [
    "access",
    "audit",
    "completions",
    "deployments",
    "evals",
    "files",
    "jobs",
    "make_engine",
    "metadata",
    "migrate",
    "models",
    "safety",
    "sharing",
    "uploads",
    "usage",
]

_BUSY_MILLISECONDS = 10_000
# Any number, as long as nothing else in the same database takes it.
_MIGRATION_LOCK = 7_414_110_217


def make_engine(url: str) -> sa.Engine:
    """Connections to a SQLite file (its folder is made) or PostgreSQL; neither is opened yet.

    Both isolate alike (READ COMMITTED): what only reads never waits for what writes, and two who write the same row do
    so one after the other. Parameters stay out of errors: keys and signed URLs are among them.
    """
    address = _address(url)
    if address.get_backend_name() != "sqlite":
        return sa.create_engine(address, isolation_level="READ COMMITTED", pool_pre_ping=True, hide_parameters=True)
    if not address.database or address.database == ":memory:":
        raise ValueError("database_url: SQLite needs a file, as every thread and process must see the same tables")
    Path(address.database).absolute().parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(address, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "before_cursor_execute", _begin_before_writing)
    return engine


def migrate(url: str) -> None:
    """Brings the database to the newest schema, or leaves it as it was. Who comes second waits and finds it done."""
    engine = make_engine(url)
    steps = Config()
    steps.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    try:
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            else:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            steps.attributes["connection"] = connection
            command.upgrade(steps, "head")
    finally:
        engine.dispose()


def _address(url: str) -> URL:
    address = make_url(url)
    if address.drivername in ("postgres", "postgresql"):
        return address.set(drivername="postgresql+psycopg")
    if address.get_backend_name() not in ("sqlite", "postgresql"):
        raise ValueError(f"database_url: {address.drivername!r} is neither sqlite nor postgresql")
    return address


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The module must not begin transactions by itself: it would begin them deferred, and a deferred transaction that
    # has read cannot wait for its turn to write; it fails (SQLITE_BUSY_SNAPSHOT).
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
    # Changing to WAL needs the file alone; asking does not.
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_before_writing(
    connection: sa.Connection, cursor: Any, statement: str, _parameters: object, _context: object, _many: bool
) -> None:
    """The first statement of a block that may write takes the write lock; reads before it see what is committed."""
    driver = cast("Any", connection.connection.dbapi_connection)
    if not driver.in_transaction and statement.split(None, 1)[0].upper() not in ("SELECT", "PRAGMA", "BEGIN"):
        cursor.execute("BEGIN IMMEDIATE")
