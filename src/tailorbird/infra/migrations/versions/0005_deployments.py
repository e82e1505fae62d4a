"""Deployments: what they were copied from and when they end."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("deployments") as table:
        table.add_column(sa.Column("updated_by", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("version_upgrade", sa.Text(), nullable=True))
        table.add_column(sa.Column("rai_policy", sa.Text(), nullable=True))
        table.add_column(sa.Column("paused", sa.Boolean(), nullable=False, server_default=sa.text("false")))
        table.add_column(sa.Column("source", sa.Text(), nullable=True))
        table.add_column(sa.Column("template_hash", sa.Text(), nullable=True))
    op.execute("UPDATE deployments SET updated_by = created_by")
    op.execute(
        "UPDATE deployments SET template_hash = (SELECT models.template_hash FROM models"
        " JOIN checkpoints ON checkpoints.job_id = models.job_id"
        " WHERE checkpoints.id = deployments.checkpoint_id LIMIT 1) WHERE checkpoint_id IS NOT NULL"
    )
    # Two servers could race until now; the later of two gives way, as it would have on its next move.
    op.execute(
        "UPDATE deployments SET state = 'Failed', failure = 'Another deployment serves this fine-tuned model.'"
        " WHERE state IN ('Creating', 'Succeeded') AND EXISTS (SELECT 1 FROM deployments AS first WHERE"
        " first.checkpoint_id = deployments.checkpoint_id AND first.seq < deployments.seq"
        " AND first.state IN ('Creating', 'Succeeded'))"
    )
    live = sa.text("state IN ('Creating', 'Succeeded')")
    op.create_index(
        "deployments_checkpoint_once",
        "deployments",
        ["checkpoint_id"],
        unique=True,
        sqlite_where=live,
        postgresql_where=live,
    )
