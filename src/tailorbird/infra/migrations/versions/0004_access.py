"""Access: users, roles with ids, login codes, account details."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _accounts()
    _groups()
    _grants()
    _secrets()
    _logins()


def _required(name: str, kind: Any = None) -> sa.Column[Any]:
    return sa.Column(name, kind or sa.Text(), nullable=False)


def _accounts() -> None:
    with op.batch_alter_table("accounts") as table:
        table.add_column(sa.Column("sub_domain", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("tags", sa.Text(), nullable=False, server_default="{}"))
        table.add_column(sa.Column("deleted_at", _TIME, nullable=True))
    named = sa.text("sub_domain <> ''")
    op.create_index(
        "accounts_sub_domain", "accounts", ["sub_domain"], unique=True, sqlite_where=named, postgresql_where=named
    )


def _groups() -> None:
    op.create_table(
        "resource_groups",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        _required("group_key"),
        _required("subscription_id"),
        _required("subscription_key"),
        _required("name"),
        _required("location"),
        _required("created_at", _TIME),
        _required("tags"),
        sa.UniqueConstraint("group_key", name="resource_groups_key"),
    )
    op.create_index("resource_groups_subscription", "resource_groups", ["subscription_key"])
    # Until now a group existed by the accounts in it.
    op.execute(
        "INSERT INTO resource_groups "
        "(group_key, subscription_id, subscription_key, name, location, created_at, tags) "
        "SELECT lower(subscription_id || '/' || resource_group), min(subscription_id), subscription_key, "
        "min(resource_group), min(location), min(created_at), '{}' FROM accounts "
        "GROUP BY subscription_key, lower(subscription_id || '/' || resource_group)"
    )


def _grants() -> None:
    with op.batch_alter_table("role_assignments") as table:
        table.add_column(sa.Column("id", sa.Text(), nullable=True))
        table.add_column(sa.Column("kind", sa.Text(), nullable=False, server_default="ServicePrincipal"))
        table.add_column(sa.Column("created_at", _TIME, nullable=True))
        table.add_column(sa.Column("created_by", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("description", sa.Text(), nullable=False, server_default=""))
    connection = op.get_bind()
    words = ("seq", "id", "object_id", "role", "scope", "scope_key", "kind", "created_by", "description")
    columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in words]
    grants = sa.table("role_assignments", *columns, sa.column("created_at", _TIME))
    now = datetime.now(UTC)
    rows = connection.execute(sa.select(grants).order_by(grants.c.seq)).mappings().all()
    for row in rows:
        values = {"id": str(uuid.uuid4()), "created_at": now}
        connection.execute(sa.update(grants).where(grants.c.seq == row["seq"]).values(values))
    # Owners could use the data plane until now; Azure's Owner cannot, so they keep the right by a role that has it.
    contributor = "Cognitive Services OpenAI Contributor"
    held = {(row["object_id"], row["scope_key"]) for row in rows if row["role"] == contributor}
    for row in rows:
        if row["role"] == "Owner" and (row["object_id"], row["scope_key"]) not in held:
            values = {name: row[name] for name in ("object_id", "scope", "scope_key", "kind", "created_by")}
            values |= {"id": str(uuid.uuid4()), "role": contributor, "description": "", "created_at": now}
            connection.execute(sa.insert(grants).values(values))
    with op.batch_alter_table("role_assignments") as table:
        table.alter_column("id", existing_type=sa.Text(), nullable=False)
        table.alter_column("created_at", existing_type=_TIME, nullable=False)
        for name in ("kind", "created_by", "description"):
            table.alter_column(name, existing_type=sa.Text(), existing_nullable=False, server_default=None)
        table.create_unique_constraint("role_assignments_id", ["id"])


def _secrets() -> None:
    """Resets of a client secret were numbered rows; the last one is the secret."""
    connection = op.get_bind()
    apps = sa.table("service_principals", sa.column("app_id"), sa.column("secret_digest"))
    secrets = sa.table("secrets", sa.column("name"), sa.column("value"))
    prefix = "client-secret-digest/"
    last: dict[str, tuple[int, str]] = {}
    for name, value in connection.execute(sa.select(secrets).where(secrets.c.name.startswith(prefix))):
        app_id, number = name.removeprefix(prefix).rsplit("/", 1)
        last[app_id] = max(last.get(app_id, (0, "")), (int(number), value))
    for app_id, (_, digest) in last.items():
        connection.execute(sa.update(apps).where(apps.c.app_id == app_id).values(secret_digest=digest))
    connection.execute(sa.delete(secrets).where(secrets.c.name.startswith(prefix)))


def _logins() -> None:
    op.create_table(
        "users",
        _required("object_id"),
        _required("name"),
        _required("name_key"),
        _required("password_digest"),
        _required("created_at", _TIME),
        _required("failures", sa.Integer()),
        sa.Column("locked_until", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("object_id"),
        sa.UniqueConstraint("name_key", name="users_name"),
    )
    op.create_table(
        "device_codes",
        _required("digest"),
        _required("user_code"),
        _required("client_id"),
        _required("audience"),
        _required("created_at", _TIME),
        _required("expires_at", _TIME),
        sa.Column("polled_at", _TIME, nullable=True),
        sa.Column("object_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("digest"),
        sa.UniqueConstraint("user_code", name="device_codes_user_code"),
    )
    op.create_index("device_codes_expiry", "device_codes", ["expires_at"])
    op.create_table(
        "refresh_tokens",
        _required("digest"),
        _required("family"),
        _required("object_id"),
        _required("client_id"),
        _required("expires_at", _TIME),
        sa.Column("used_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("refresh_tokens_family", "refresh_tokens", ["family"])
    op.create_index("refresh_tokens_expiry", "refresh_tokens", ["expires_at"])
    op.create_index("refresh_tokens_object", "refresh_tokens", ["object_id"])
