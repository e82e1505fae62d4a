"""The real things the suites run on: a SQLite file, a private PostgreSQL, a folder, memory."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tailorbird.domain.jobs import Hyperparameters, Job, JobStatus, Stage
from tailorbird.infra.blobs import ObstoreBlobs, open_blobs
from tailorbird.infra.leases import SqlLeases
from tailorbird.infra.schema import make_engine, metadata, migrate
from tailorbird.infra.store import SqlStore


class HandClock:
    """Stands still until moved."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 5, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def pass_seconds(self, seconds: float) -> datetime:
        self.time += timedelta(seconds=seconds)
        return self.time


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL of our own, reachable through a socket in its folder only."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    if not found:
        pytest.skip("no PostgreSQL binaries under /usr/lib/postgresql")
    user = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("run as root, and there is no user postgres to become")
    # Not pytest's own folder: user postgres may not enter it.
    folder = Path(tempfile.mkdtemp(prefix="tailorbird-pg-"))
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    account: dict[str, Any] = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def run(command: str, *options: str) -> None:
        with (folder / "output").open("ab") as output:
            subprocess.run(
                [found[-1] / command, *options], check=True, stdout=output, stderr=output, cwd=folder, **account
            )

    careless = "-c fsync=off -c full_page_writes=off -c synchronous_commit=off"
    server = f"-k {folder} -c listen_addresses='' {careless} -c max_connections=50 -c shared_buffers=16MB"
    data = str(folder / "data")
    try:
        run("initdb", "-D", data, "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync")
        run("pg_ctl", "-D", data, "-w", "-o", server, "start")
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql: str) -> Iterator[sa.Engine]:
    migrate(postgresql)
    engine = make_engine(postgresql)
    yield engine
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """An empty, migrated database."""
    if request.param == "postgresql":
        shared: sa.Engine = request.getfixturevalue("migrated_postgresql")
        with shared.begin() as connection:
            # Without the triggers that let the ledger and the audit trail only grow.
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
            # For a few rows much faster than TRUNCATE, which makes new files.
            connection.exec_driver_sql("; ".join(f"DELETE FROM {t.name}" for t in reversed(metadata.sorted_tables)))
        yield shared
        return
    path = tmp_path / "tailorbird.db"
    shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
    own = make_engine(f"sqlite:///{path}")
    yield own
    own.dispose()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store(engine: sa.Engine, clock: HandClock) -> SqlStore:
    return SqlStore(engine, clock.now)


@pytest.fixture
def leases(engine: sa.Engine) -> SqlLeases:
    return SqlLeases(engine)


@pytest.fixture(params=["folder", "memory"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> ObstoreBlobs:
    return open_blobs(str(tmp_path / "blobs") if request.param == "folder" else "memory://")


@pytest.fixture
def a_job(clock: HandClock) -> Callable[..., Job]:
    """Makes a queued job of account `acct`, created when the test began, with the given fields instead."""
    born = clock.now()

    def make(number: int = 1, **fields: Any) -> Job:
        usual: dict[str, Any] = {
            "id": f"ftjob-{number:032x}",
            "account_id": "acct",
            "status": JobStatus.QUEUED,
            "stage": Stage.VALIDATE,
            "model": "gpt-4o-mini-2024-07-18",
            "base": "weaver",
            "training_file": "file-0",
            "seed": 105,
            "asked": Hyperparameters(),
            "created_at": born,
            "estimated_finish": born + timedelta(hours=1),
        }
        return Job(**(usual | fields))

    return make
