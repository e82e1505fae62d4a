"""Evaluations, their runs and output items."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _evals()
    _runs()
    _items()


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def _evals() -> None:
    op.create_table(
        "evals",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        *(_text(name) for name in ("id", "account_id", "name")),
        _time("created_at"),
        _time("updated_at"),
        *(_text(name) for name in ("config", "criteria", "metadata")),
        sa.UniqueConstraint("id", name="evals_id"),
    )
    op.create_index("evals_of_account", "evals", ["account_id", "created_at", "seq"])
    op.create_index("evals_by_change", "evals", ["account_id", "updated_at", "seq"])


def _runs() -> None:
    op.create_table(
        "eval_runs",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        _text("id"),
        sa.Column("eval_id", sa.Text(), sa.ForeignKey("evals.id", ondelete="CASCADE"), nullable=False),
        *(_text(name) for name in ("account_id", "name", "model", "status")),
        _time("created_at"),
        *(_text(name) for name in ("source", "metadata", "totals")),
        _text("error_code", nullable=True),
        _text("error_message", nullable=True),
        sa.UniqueConstraint("id", name="eval_runs_id"),
    )
    op.create_index("eval_runs_of_eval", "eval_runs", ["eval_id", "created_at", "seq"])
    unfinished = sa.text("status IN ('queued', 'in_progress')")
    op.create_index("eval_runs_unfinished", "eval_runs", ["seq"], sqlite_where=unfinished, postgresql_where=unfinished)


def _items() -> None:
    op.create_table(
        "eval_items",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        _text("id"),
        sa.Column("run_id", sa.Text(), sa.ForeignKey("eval_runs.id", ondelete="CASCADE"), nullable=False),
        _text("eval_id"),
        sa.Column("number", sa.Integer(), nullable=False),
        _text("status"),
        _time("created_at"),
        *(_text(name) for name in ("item", "sample", "results")),
        sa.UniqueConstraint("id", name="eval_items_id"),
        sa.UniqueConstraint("run_id", "number", name="eval_items_once"),
    )
