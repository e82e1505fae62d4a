"""How fast base models train here, measured before a job has shown it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "calibrations",
        sa.Column("base", sa.Text(), primary_key=True),
        *(sa.Column(name, sa.DateTime(timezone=True), nullable=True) for name in ("taken_at", "measured_at")),
        sa.Column("machine", sa.Text(), nullable=False),
        *(
            sa.Column(name, sa.Float(53), nullable=False)
            for name in ("token_seconds", "step_seconds", "beside_seconds")
        ),
    )
