"""The database's tables, its engine and its migration to the newest schema.

Every table is declared once, here; the steps in `migrations/` bring a database to it and a test compares the two. Rows
are found by the identifiers customers see; `seq` counts insertions and breaks ties where times are equal. Columns named
`*_key` hold what is compared instead of what was written: lower case, or a digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    event,
)
from sqlalchemy.engine import URL, Dialect, make_url
from sqlalchemy.types import DateTime, TypeDecorator, TypeEngine

from tailorbird.domain.access import Role
from tailorbird.domain.deployments import ProvisioningState
from tailorbird.domain.files import FileStatus, Purpose
from tailorbird.domain.jobs import EventKind, EventLevel, Hyperparameters, JobError, JobStatus, Stage

E = TypeVar("E", bound=StrEnum)
V = TypeVar("V", Hyperparameters, JobError)

_BUSY_MILLISECONDS = 10_000
# Any number, as long as nothing else in the same database takes it.
_MIGRATION_LOCK = 7_414_110_217


# --- column types -----------------------------------------------------------------------------------------------------


class Utc(TypeDecorator[datetime]):
    """An aware datetime in, the same moment in UTC out. SQLite keeps no zone, PostgreSQL answers in the session's."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Word(TypeDecorator[E], Generic[E]):
    """A member of an enumeration, kept as its value."""

    impl = Text
    cache_ok = True

    def __init__(self, words: type[E]) -> None:
        super().__init__()
        self.words = words

    def process_bind_param(self, value: E | None, dialect: Dialect) -> str | None:
        return None if value is None else value.value

    def process_result_value(self, value: str | None, dialect: Dialect) -> E | None:
        return None if value is None else self.words(value)


class Json(TypeDecorator[dict[str, Any]]):
    """A JSON object as text: PostgreSQL's own types refuse NaN and an escaped NUL, and JSONB forgets keys' order."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Mapping[str, Any] | None, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> dict[str, Any] | None:
        return None if value is None else json.loads(value)


class Record(TypeDecorator[V], Generic[V]):
    """A small frozen dataclass of plain fields, kept as a JSON object."""

    impl = Text
    cache_ok = True

    def __init__(self, shape: type[V]) -> None:
        super().__init__()
        self.shape = shape

    def process_bind_param(self, value: V | None, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(asdict(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> V | None:
        return None if value is None else self.shape(**json.loads(value))


# --- tables -----------------------------------------------------------------------------------------------------------

metadata = MetaData()


def _seq() -> Column[int]:
    # SQLite counts by itself only in a column of exactly the type INTEGER.
    return Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


def _required(name: str, kind: TypeEngine[Any] | type[TypeEngine[Any]] = Text) -> Column[Any]:
    return Column(name, kind, nullable=False)


def _optional(name: str, kind: TypeEngine[Any] | type[TypeEngine[Any]] = Text) -> Column[Any]:
    return Column(name, kind, nullable=True)


def _where(condition: str) -> dict[str, Any]:
    """A partial index: both databases use it for queries that contain the same condition, literally."""
    return {
        "sqlite_where": sa.text(condition.replace("false", "0")),  # as SQLAlchemy writes it there
        "postgresql_where": sa.text(condition),
    }


accounts = Table(
    "accounts",
    metadata,
    _seq(),
    _required("id"),
    _required("subscription_id"),
    _required("subscription_key"),
    _required("resource_group"),
    _required("name"),
    _required("resource_key"),
    _required("location"),
    _required("kind"),
    _required("key1"),
    _required("key2"),
    _required("created_at", Utc()),
    UniqueConstraint("id", name="accounts_id"),
    UniqueConstraint("resource_key", name="accounts_resource"),
    Index("accounts_key1", "key1"),
    Index("accounts_key2", "key2"),
    Index("accounts_subscription", "subscription_key"),
)

service_principals = Table(
    "service_principals",
    metadata,
    Column("app_id", Text, primary_key=True),
    _required("object_id"),
    _required("name"),
    _required("secret_digest"),
)

role_assignments = Table(
    "role_assignments",
    metadata,
    _seq(),
    _required("object_id"),
    _required("role", Word(Role)),
    _required("scope"),
    _required("scope_key"),
    UniqueConstraint("object_id", "role", "scope_key", name="role_assignments_once"),
)

secrets = Table("secrets", metadata, Column("name", Text, primary_key=True), _required("value"))

files = Table(
    "files",
    metadata,
    _seq(),
    _required("id"),
    _required("account_id"),
    _required("filename"),
    _required("purpose", Word(Purpose)),
    _required("bytes", BigInteger),
    _required("status", Word(FileStatus)),
    _required("created_at", Utc()),
    _required("blob_key"),
    _optional("status_details"),
    _optional("kind"),
    _optional("examples", BigInteger),
    UniqueConstraint("id", name="files_id"),
    Index("files_of_account", "account_id", "created_at", "seq"),
    Index("files_of_purpose", "account_id", "purpose", "created_at", "seq"),
    Index("files_unfinished", "seq", **_where("status IN ('pending', 'running')")),
)

jobs = Table(
    "jobs",
    metadata,
    _seq(),
    _required("id"),
    _required("account_id"),
    _required("status", Word(JobStatus)),
    _required("stage", Word(Stage)),
    _required("model"),
    _required("base"),
    _required("training_file"),
    _required("seed", BigInteger),
    _required("asked", Record(Hyperparameters)),
    _required("created_at", Utc()),
    _required("estimated_finish", Utc()),
    _optional("validation_file"),
    _optional("start_checkpoint"),
    _optional("suffix"),
    _optional("training_type"),
    _required("method_sent", Boolean),
    _required("metadata", Json()),
    _optional("resolved", Record(Hyperparameters)),
    _optional("template_hash"),
    _optional("examples", BigInteger),
    _optional("epoch_tokens", BigInteger),
    _optional("started_at", Utc()),
    _optional("finished_at", Utc()),
    _optional("trained_tokens", BigInteger),
    _optional("fine_tuned_model"),
    _optional("fine_tuned_model_openai"),
    _optional("result_file"),
    _optional("error", Record(JobError)),
    _required("cancel_requested", Boolean),
    _required("attempts", Integer),
    _required("ended", Boolean),
    _optional("lease_owner"),
    _optional("lease_until", Utc()),
    UniqueConstraint("id", name="jobs_id"),
    Index("jobs_of_account", "account_id", "created_at", "seq"),
    Index("jobs_queue", "created_at", "seq", **_where("ended IS false")),
    Index("jobs_active", "account_id", "ended"),
)

job_metadata = Table(
    "job_metadata",
    metadata,
    # A digest: one pair can be longer than PostgreSQL lets an index entry be, and may hold characters it refuses.
    Column("pair_key", Text, primary_key=True),
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Index("job_metadata_of_job", "job_id"),
)

job_events = Table(
    "job_events",
    metadata,
    _seq(),
    _required("id"),
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    _required("key"),
    _required("kind", Word(EventKind)),
    _required("level", Word(EventLevel)),
    _required("created_at", Utc()),
    _required("data", Json()),
    UniqueConstraint("job_id", "key", name="job_events_once"),
    Index("job_events_of_job", "job_id", "seq"),
    Index("job_events_id", "job_id", "id"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("id", Text, primary_key=True),
    _required("job_id"),  # a deleted job leaves its checkpoints to models and deployments
    _required("account_id"),
    _required("step", BigInteger),
    _required("name"),
    _required("openai_name"),
    _required("adapter_key"),
    _required("created_at", Utc()),
    _required("metrics", Json()),
    _required("final", Boolean),
    _required("deployable", Boolean),
    Index("checkpoints_of_job", "job_id", "step", "id"),
    Index("checkpoints_name", "account_id", "name"),
    Index("checkpoints_openai_name", "account_id", "openai_name"),
)

models = Table(
    "models",
    metadata,
    _seq(),
    _required("name"),
    _required("openai_name"),
    _required("account_id"),
    _required("job_id"),
    _required("checkpoint_id"),
    _required("catalogue_name"),
    _required("base"),
    _required("template_hash"),
    _required("created_at", Utc()),
    UniqueConstraint("account_id", "name", name="models_name"),
    Index("models_openai_name", "account_id", "openai_name"),
    Index("models_of_account", "account_id", "created_at", "seq"),
)

deployments = Table(
    "deployments",
    metadata,
    _seq(),
    _required("account_id"),
    _required("name"),
    _required("name_key"),
    _required("model_name"),
    _required("model_format"),
    _required("model_version"),
    _required("served_model"),
    _required("base"),
    _optional("checkpoint_id"),
    _required("catalogue_name"),
    _required("sku_name"),
    _required("capacity", Integer),
    _required("state", Word(ProvisioningState)),
    _required("created_at", Utc()),
    _required("updated_at", Utc()),
    _required("created_by"),
    _required("tags", Json()),
    _optional("failure"),
    _optional("last_used_at", Utc()),
    UniqueConstraint("account_id", "name_key", name="deployments_name"),
    Index("deployments_checkpoint", "checkpoint_id"),
    Index("deployments_unfinished", "seq", **_where("state IN ('Creating', 'Deleting')")),
)


# --- engine and migration ---------------------------------------------------------------------------------------------


def make_engine(url: str) -> sa.Engine:
    """Connections to a SQLite file (its folder is made) or PostgreSQL; neither is opened yet.

    Both isolate alike (READ COMMITTED): what only reads never waits for what writes, and two who write the same row do
    so one after the other.
    """
    address = _address(url)
    if address.get_backend_name() != "sqlite":
        return sa.create_engine(address, isolation_level="READ COMMITTED", pool_pre_ping=True)
    if not address.database or address.database == ":memory:":
        raise ValueError("database_url: SQLite needs a file, as every thread and process must see the same tables")
    Path(address.database).absolute().parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(address)
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
