"""The migration of deployments, on a database that an earlier version has filled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import tailorbird.infra
from tailorbird.infra.schema import make_engine
from tailorbird.infra.store import SqlStore


@pytest.fixture(params=["sqlite", "postgresql"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """An empty database of our own."""
    if request.param == "sqlite":
        engine = make_engine(f"sqlite:///{tmp_path}/old.db")
        yield engine
        engine.dispose()
        return
    url: str = request.getfixturevalue("postgresql")
    server = make_engine(url).execution_options(isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE old")
        engine = make_engine(url.replace("/postgres?", "/old?"))
        yield engine
        engine.dispose()
        connection.exec_driver_sql("DROP DATABASE old WITH (FORCE)")
    server.dispose()


@pytest.fixture
def upgrade(old: sa.Engine) -> Callable[[str], None]:
    steps = Config()
    steps.set_main_option("script_location", str(Path(tailorbird.infra.__file__).parent / "migrations"))

    def to(revision: str) -> None:
        with old.begin() as connection:
            steps.attributes["connection"] = connection
            command.upgrade(steps, revision)

    return to


def insert(connection: sa.Connection, table: str, **values: object) -> None:
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    connection.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), values)


def test_deployments_of_an_earlier_version_survive(old: sa.Engine, upgrade: Callable[[str], None]) -> None:
    upgrade("0004")
    at = "2026-01-05 12:00:00.000000"
    common = {"account_id": "acct", "model_name": "m", "model_format": "OpenAI", "model_version": "1"}
    common |= {"served_model": "m", "base": "weaver", "catalogue_name": "gpt", "sku_name": "Standard", "capacity": 1}
    common |= {"created_at": at, "updated_at": at, "created_by": "somebody", "tags": "{}"}
    with old.begin() as connection:
        insert(
            connection, "models", name="m", openai_name="ft:m", account_id="acct", job_id="ftjob-1",
            checkpoint_id="ftchkpt-2", catalogue_name="gpt", base="weaver", template_hash="abc", created_at=at,
        )  # fmt: skip
        columns = {c["name"]: c for c in sa.inspect(connection).get_columns("checkpoints")}
        checkpoint = {
            "id": "ftchkpt-1", "job_id": "ftjob-1", "account_id": "acct", "step": 1, "name": "m:1",
            "openai_name": "ft:m:1", "adapter_key": "k", "created_at": at, "metrics": "{}", "final": False,
            "deployable": True,
        }  # fmt: skip
        insert(connection, "checkpoints", **{k: v for k, v in checkpoint.items() if k in columns})
        for name, state, served in (
            ("first", "Succeeded", "ftchkpt-1"),
            ("second", "Creating", "ftchkpt-1"),
            ("leaving", "Deleting", "ftchkpt-1"),
            ("plain", "Succeeded", None),
            ("other", "Succeeded", None),
        ):
            insert(connection, "deployments", **common, name=name, name_key=name, state=state, checkpoint_id=served)
    upgrade("head")
    with old.connect() as connection:
        query = sa.text("SELECT name, state, template_hash, updated_by, paused FROM deployments ORDER BY seq")
        assert [tuple(row) for row in connection.execute(query)] == [
            ("first", "Succeeded", "abc", "somebody", False),
            ("second", "Failed", "abc", "somebody", False),
            ("leaving", "Deleting", "abc", "somebody", False),
            ("plain", "Succeeded", None, "somebody", False),
            ("other", "Succeeded", None, "somebody", False),
        ]


def test_deployments_that_stand_ready_pay_by_the_hour_from_the_step_on(
    old: sa.Engine, upgrade: Callable[[str], None]
) -> None:
    upgrade("0008")
    at = "2026-01-05 12:00:00.000000"
    common = {"account_id": "acct", "model_name": "m", "model_format": "OpenAI", "model_version": "1"}
    common |= {"served_model": "m", "base": "weaver", "catalogue_name": "gpt", "capacity": 7}
    common |= {"created_at": at, "updated_at": at, "created_by": "somebody", "tags": "{}"}
    rows = [
        ("Tuned", "Standard", "c1", "Succeeded"),
        ("Units", "GlobalProvisionedManaged", None, "Succeeded"),
        ("Base", "Standard", None, "Succeeded"),
        ("Developer", "DeveloperTier", "c2", "Succeeded"),
        ("Failed", "Standard", "c3", "Failed"),
    ]
    with old.begin() as connection:
        for name, sku, checkpoint, state in rows:
            own = {"name": name, "name_key": name.lower(), "sku_name": sku, "checkpoint_id": checkpoint, "state": state}
            insert(connection, "deployments", **common, **own)
    before = datetime.now(UTC)
    upgrade("0009")
    with SqlStore(old).begin() as tx:
        found = sorted(tx.hosting.due(datetime.now(UTC), 10), key=lambda one: one.deployment)
        assert tx.hosting.of("acct", "TUNED") == [found[0]]
    assert [(one.deployment, one.sku_name, one.capacity, one.tuned, one.hours) for one in found] == [
        ("Tuned", "Standard", 7, True, 0),
        ("Units", "GlobalProvisionedManaged", 7, False, 0),
    ]
    assert before <= found[0].started_at <= datetime.now(UTC)
