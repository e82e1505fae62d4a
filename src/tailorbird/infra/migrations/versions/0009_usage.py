"""Cost: the ledger, which only grows, what is hosted, what jobs have trained, budgets."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _ledger()
    _hosting()
    _work()
    _budgets()
    _guard()
    _take_up_deployments()


def _ledger() -> None:
    op.create_table(
        "ledger",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        _text("key"),
        _text("account"),
        _text("meter"),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        *(_text(name) for name in ("unit_price", "price_list", "model")),
        _time("at"),
        _text("day"),
        _text("job_id", nullable=True),
        _text("deployment", nullable=True),
        sa.UniqueConstraint("key", name="ledger_key"),
    )
    op.create_index("ledger_of_account", "ledger", ["account", "at", "seq"])


def _hosting() -> None:
    op.create_table(
        "hosting",
        sa.Column("id", sa.Text(), primary_key=True),
        *(_text(name) for name in ("account", "deployment", "deployment_key", "model", "sku_name")),
        sa.Column("capacity", sa.Integer(), nullable=False),
        sa.Column("tuned", sa.Boolean(), nullable=False),
        _time("started_at"),
        _time("ended_at", nullable=True),
        sa.Column("hours", sa.Integer(), nullable=False),
        _time("due_at"),
        sa.Column("settled", sa.Boolean(), nullable=False),
    )
    _partial_index("hosting_of_deployment", "hosting", ["account", "deployment_key"], "ended_at IS NULL")
    _partial_index("hosting_due", "hosting", ["due_at"], "settled IS false")


def _work() -> None:
    op.create_table(
        "job_work",
        sa.Column("job_id", sa.Text(), primary_key=True),
        *(_text(name) for name in ("account_id", "base", "method")),
        sa.Column("steps", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False),
        sa.Column("cost_tokens", sa.BigInteger(), nullable=False),
        sa.Column("total_seconds", sa.Float(53), nullable=True),
        _time("finished_at", nullable=True),
    )
    op.create_index("job_work_finished", "job_work", ["base", "method", "finished_at"])


def _budgets() -> None:
    op.create_table(
        "budgets",
        sa.Column("account_id", sa.Text(), primary_key=True),
        _text("amount"),
        _text("period"),
        sa.Column("stop_jobs", sa.Boolean(), nullable=False),
        sa.Column("retire_deployments", sa.Boolean(), nullable=False),
        _time("updated_at"),
        sa.Column("warned", sa.Integer(), nullable=False),
        _time("warned_since", nullable=True),
    )


def _guard() -> None:
    """A line of the ledger is never changed and never deleted, whoever tries."""
    if op.get_bind().dialect.name == "sqlite":
        for what in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER ledger_no_{what.lower()} BEFORE {what} ON ledger "
                "BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION ledger_only_grows() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the ledger only grows'; END $$"
    )
    op.execute(
        "CREATE TRIGGER ledger_only_grows BEFORE UPDATE OR DELETE ON ledger "
        "FOR EACH ROW EXECUTE FUNCTION ledger_only_grows()"
    )


def _take_up_deployments() -> None:
    """Deployments that stand ready pay from this moment on, not for the time before there was a price list."""
    now = datetime.now(UTC)
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        now = now.replace(tzinfo=None)
    moment = sa.literal(now, sa.DateTime(timezone=True))
    d = sa.table(
        "deployments",
        *_columns("account_id", "name", "name_key", "catalogue_name", "sku_name", "state", "checkpoint_id"),
        sa.column("capacity", sa.Integer()),
    )
    target = sa.table(
        "hosting",
        *_columns("id", "account", "deployment", "deployment_key", "model", "sku_name"),
        sa.column("capacity", sa.Integer()),
        sa.column("tuned", sa.Boolean()),
        sa.column("started_at", sa.DateTime(timezone=True)),
        sa.column("hours", sa.Integer()),
        sa.column("due_at", sa.DateTime(timezone=True)),
        sa.column("settled", sa.Boolean()),
    )
    tuned = sa.and_(d.c.checkpoint_id.is_not(None), d.c.sku_name != "DeveloperTier")
    rows = sa.select(
        d.c.account_id + "/" + d.c.name_key + "/first",
        d.c.account_id,
        d.c.name,
        d.c.name_key,
        d.c.catalogue_name,
        d.c.sku_name,
        d.c.capacity,
        d.c.checkpoint_id.is_not(None),
        moment,
        sa.literal(0, sa.Integer()),
        moment,
        sa.false(),
    ).where(d.c.state == "Succeeded", sa.or_(tuned, d.c.sku_name.like("%ProvisionedManaged")))
    connection.execute(sa.insert(target).from_select([column.name for column in target.columns], rows))


def _columns(*names: str) -> list[sa.ColumnClause[str]]:
    return [sa.column(name, sa.Text()) for name in names]


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _time(name: str, *, nullable: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _partial_index(name: str, table: str, columns: list[str], condition: str) -> None:
    op.create_index(
        name,
        table,
        columns,
        sqlite_where=sa.text(condition.replace("false", "0")),
        postgresql_where=sa.text(condition),
    )
