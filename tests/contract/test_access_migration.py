"""The step that brought users and roles with ids: what a database held before it is still good after it."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import tailorbird.infra.schema as schema
from tailorbird.domain.access import Assignment, Role
from tailorbird.infra.store import SqlStore


def test_accounts_groups_roles_and_secrets_of_an_older_database_survive(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    engine = schema.make_engine(url)
    steps = Config()
    steps.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    with engine.begin() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        steps.attributes["connection"] = connection
        command.upgrade(steps, "0003")
        for statement in (
            "INSERT INTO accounts (id, subscription_id, subscription_key, resource_group, name, resource_key,"
            " location, kind, key1, key2, created_at) VALUES"
            " ('a', 'S', 's', 'Local', 'local', 's/local/local', 'local', 'OpenAI', 'k1', 'k2', '2026-01-05 12:00:00')",
            "INSERT INTO service_principals VALUES ('app', 'oid', 'robot', 'first')",
            "INSERT INTO role_assignments (object_id, role, scope, scope_key)"
            " VALUES ('oid', 'Owner', '/subscriptions/S', '/subscriptions/s')",
            "INSERT INTO secrets VALUES ('client-secret-digest/app/9', 'ninth')",
            "INSERT INTO secrets VALUES ('client-secret-digest/app/10', 'tenth')",
            "INSERT INTO secrets VALUES ('tenant-id', 'T')",
        ):
            connection.execute(sa.text(statement))
    engine.dispose()
    schema.migrate(url)
    engine = schema.make_engine(url)
    with SqlStore(engine).begin() as session:
        found = session.accounts.by_key("k2")
        assert found is not None
        assert (found.sub_domain, found.tags, found.deleted_at) == ("", {}, None)
        assert [group.name for group in session.accounts.groups()] == ["Local"]
        robot = session.identities.service_principal("app")
        assert robot is not None
        assert robot.secret_digest == "tenth"
        # Owner opened the data plane until then; who had it keeps that by the role that now means it.
        assert robot.assignments == (
            Assignment(Role.OWNER, "/subscriptions/S"),
            Assignment(Role.OPENAI_CONTRIBUTOR, "/subscriptions/S"),
        )
        assert len({grant.id for grant in session.identities.grants()}) == 2
        assert session.accounts.secret("tenant-id") == "T"
        assert session.accounts.secret("client-secret-digest/app/10") is None
    engine.dispose()
