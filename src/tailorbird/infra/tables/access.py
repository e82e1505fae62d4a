"""Tables of accounts, resource groups, principals, users, role assignments, logins and secrets."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, Table, Text, UniqueConstraint

from tailorbird.domain.access import PrincipalKind, Role
from tailorbird.infra.columns import Json, Utc, Word
from tailorbird.infra.tables import metadata, optional, required, seq, where

accounts = Table(
    "accounts",
    metadata,
    seq(),
    required("id"),
    required("subscription_id"),
    required("subscription_key"),
    required("resource_group"),
    required("name"),
    required("resource_key"),
    required("location"),
    required("kind"),
    required("key1"),
    required("key2"),
    required("created_at", Utc()),
    Column("sub_domain", Text, nullable=False, server_default=""),
    Column("tags", Json(), nullable=False, server_default="{}"),
    optional("deleted_at", Utc()),
    UniqueConstraint("id", name="accounts_id"),
    UniqueConstraint("resource_key", name="accounts_resource"),
    Index("accounts_key1", "key1"),
    Index("accounts_key2", "key2"),
    Index("accounts_subscription", "subscription_key"),
    Index("accounts_sub_domain", "sub_domain", unique=True, **where("sub_domain <> ''")),
)

resource_groups = Table(
    "resource_groups",
    metadata,
    seq(),
    required("group_key"),
    required("subscription_id"),
    required("subscription_key"),
    required("name"),
    required("location"),
    required("created_at", Utc()),
    required("tags", Json()),
    UniqueConstraint("group_key", name="resource_groups_key"),
    Index("resource_groups_subscription", "subscription_key"),
)

service_principals = Table(
    "service_principals",
    metadata,
    Column("app_id", Text, primary_key=True),
    required("object_id"),
    required("name"),
    required("secret_digest"),
)

users = Table(
    "users",
    metadata,
    Column("object_id", Text, primary_key=True),
    required("name"),
    required("name_key"),
    required("password_digest"),
    required("created_at", Utc()),
    required("failures", Integer),
    optional("locked_until", Utc()),
    UniqueConstraint("name_key", name="users_name"),
)

role_assignments = Table(
    "role_assignments",
    metadata,
    seq(),
    required("id"),
    required("object_id"),
    required("role", Word(Role)),
    required("scope"),
    required("scope_key"),
    required("kind", Word(PrincipalKind)),
    required("created_at", Utc()),
    required("created_by"),
    required("description"),
    UniqueConstraint("object_id", "role", "scope_key", name="role_assignments_once"),
    UniqueConstraint("id", name="role_assignments_id"),
)

device_codes = Table(
    "device_codes",
    metadata,
    Column("digest", Text, primary_key=True),
    required("user_code"),
    required("client_id"),
    required("audience"),
    required("created_at", Utc()),
    required("expires_at", Utc()),
    optional("polled_at", Utc()),
    optional("object_id"),
    UniqueConstraint("user_code", name="device_codes_user_code"),
    Index("device_codes_expiry", "expires_at"),
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("digest", Text, primary_key=True),
    required("family"),
    required("object_id"),
    required("client_id"),
    required("expires_at", Utc()),
    optional("used_at", Utc()),
    Index("refresh_tokens_family", "family"),
    Index("refresh_tokens_expiry", "expires_at"),
    Index("refresh_tokens_object", "object_id"),
)

secrets = Table("secrets", metadata, Column("name", Text, primary_key=True), required("value"))
