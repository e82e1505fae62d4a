"""The audit trail, the triggers that let it only grow, and an index for the metrics."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_REFUSAL = "the audit trail only grows"


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        *_texts("action", "resource", "resource_key", "outcome", "principal_id", "principal_name", "principal_key"),
        *_texts("request_id", "address", "detail"),
    )
    op.create_index("audit_at", "audit", ["at", "seq"])
    op.create_index("audit_principal", "audit", ["principal_id", "seq"])
    op.create_index("audit_resource", "audit", ["resource_key", "seq"])
    # For the metrics, which count jobs by status: without it every look at them reads all jobs there ever were.
    op.create_index("jobs_status", "jobs", ["status"])
    if op.get_bind().dialect.name == "sqlite":
        for move in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_no_{move.lower()} BEFORE {move} ON audit "
                f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_only_grows()"
    )


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]
