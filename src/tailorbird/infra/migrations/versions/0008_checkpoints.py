"""Checkpoints' copies and permissions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "checkpoint_copies",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        *_texts("id", "job_id", "checkpoint_id", "account_id", "destination", "destination_id", "region", "status"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.UniqueConstraint("id", name="checkpoint_copies_id"),
    )
    op.create_index("checkpoint_copies_of", "checkpoint_copies", ["account_id", "checkpoint_id", "seq"])
    unfinished = sa.text("status = 'InProgress'")
    op.create_index(
        "checkpoint_copies_unfinished",
        "checkpoint_copies",
        ["seq"],
        sqlite_where=unfinished,
        postgresql_where=unfinished,
    )
    op.create_table(
        "checkpoint_permissions",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        *_texts("id", "account_id", "checkpoint_id", "project_id", "copied_model"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("id", name="checkpoint_permissions_id"),
    )
    op.create_index(
        "checkpoint_permissions_of",
        "checkpoint_permissions",
        ["account_id", "checkpoint_id", "created_at", "seq"],
    )


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]
