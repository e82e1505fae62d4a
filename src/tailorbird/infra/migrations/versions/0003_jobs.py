"""Jobs: methods, integrations, pausing and their place in the queue."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("jobs") as table:
        table.add_column(sa.Column("method", sa.Text(), nullable=False, server_default="supervised"))
        table.add_column(sa.Column("integrations", sa.Text(), nullable=False, server_default="[]"))
        table.add_column(sa.Column("trained_steps", sa.BigInteger(), nullable=False, server_default=sa.text("0")))
        table.add_column(sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True))
        table.add_column(sa.Column("paused_seconds", sa.Float(53), nullable=False, server_default=sa.text("0")))
        table.add_column(sa.Column("pauses", sa.Integer(), nullable=False, server_default=sa.text("0")))
    held = sa.text("lease_owner IS NOT NULL")
    op.create_index("jobs_held", "jobs", ["account_id"], sqlite_where=held, postgresql_where=held)
    with op.batch_alter_table("checkpoints") as table:
        table.add_column(sa.Column("at_pause", sa.Boolean(), nullable=False, server_default=sa.text("false")))
    op.create_table(
        "account_settings",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "name"),
    )
