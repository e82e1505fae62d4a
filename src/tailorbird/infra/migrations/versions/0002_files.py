"""Files: where they come from, when they expire, and multi-part uploads."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("files", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "files_expiring",
        "files",
        ["expires_at"],
        sqlite_where=sa.text("expires_at IS NOT NULL"),
        postgresql_where=sa.text("expires_at IS NOT NULL"),
    )
    op.create_table(
        "file_imports",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("file_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Text(), nullable=True),
        sa.UniqueConstraint("file_id", name="file_imports_file"),
    )
    _uploads()


def _uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("mime_type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("file_seconds", sa.BigInteger(), nullable=True),
        sa.Column("file_id", sa.Text(), nullable=True),
        sa.Column("swept", sa.Boolean(), nullable=False),
        sa.UniqueConstraint("id", name="uploads_id"),
    )
    op.create_index(
        "uploads_unswept",
        "uploads",
        ["expires_at"],
        sqlite_where=sa.text("swept IS 0"),
        postgresql_where=sa.text("swept IS false"),
    )
    op.create_table(
        "upload_parts",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("upload_id", sa.Text(), sa.ForeignKey("uploads.id", ondelete="CASCADE"), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("blob_key", sa.Text(), nullable=False),
        sa.UniqueConstraint("id", name="upload_parts_id"),
    )
    op.create_index("upload_parts_of_upload", "upload_parts", ["upload_id", "seq"])
