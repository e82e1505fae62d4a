"""Migrations: they make what schema.py declares, once, whoever asks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import exc

import tailorbird
from tailorbird.infra.schema import make_engine, metadata, migrate


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/folder/with %25 in it/tailorbird.db"
        return
    url: str = request.getfixturevalue("postgresql")
    engine = make_engine(url).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE empty")
        yield url.replace("/postgres?", "/empty?")
        connection.exec_driver_sql("DROP DATABASE empty WITH (FORCE)")
    engine.dispose()


def test_the_steps_make_exactly_the_declared_tables(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        # Alembic does not compare the conditions of partial indexes.
        made = {
            index["name"]: index for table in metadata.tables for index in sa.inspect(connection).get_indexes(table)
        }
    option = f"{engine.dialect.name}_where"
    for table in metadata.tables.values():
        for index in table.indexes:
            condition = index.dialect_options[engine.dialect.name]["where"]
            found = made[str(index.name)].get("dialect_options", {}).get(option)
            assert (condition is None) == (found is None)
            # PostgreSQL answers with its own spelling.
            assert engine.dialect.name == "postgresql" or str(condition) == str(found)


def test_processes_that_migrate_at_once_all_succeed(empty_url: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(tailorbird.__file__).parents[1])}
    code = "import sys; from tailorbird.infra.schema import migrate; migrate(sys.argv[1])"
    running = [
        subprocess.Popen([sys.executable, "-c", code, empty_url], env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    complaints = [process.communicate(timeout=180)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], complaints
    migrate(empty_url)
    engine = make_engine(empty_url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM alembic_version").scalar_one() == 1
    engine.dispose()


def test_sqlite_is_set_up_for_many_processes(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path}/tailorbird.db")
    pragmas = ("journal_mode", "foreign_keys", "busy_timeout", "synchronous")
    with engine.connect() as connection:
        values = [connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() for pragma in pragmas]
    engine.dispose()
    assert values == ["wal", 1, 10_000, 1]


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/db"])
def test_a_database_that_cannot_serve_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="database_url"):
        make_engine(url)


def test_a_time_without_zone_is_refused(engine: sa.Engine) -> None:
    jobs = metadata.tables["jobs"]
    query = sa.select(jobs.c.id).where(jobs.c.created_at < datetime(2026, 1, 5))
    with engine.connect() as connection, pytest.raises(exc.StatementError, match="no time zone"):
        connection.execute(query)
