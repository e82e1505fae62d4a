"""The tables of multi-part uploads and their parts."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Table, Text, UniqueConstraint

from tailorbird.domain.files import Purpose
from tailorbird.domain.uploads import UploadStatus
from tailorbird.infra.columns import Utc, Word
from tailorbird.infra.tables import metadata, optional, required, seq, where

uploads = Table(
    "uploads",
    metadata,
    seq(),
    required("id"),
    required("account_id"),
    required("filename"),
    required("purpose", Word(Purpose)),
    required("bytes", BigInteger),
    required("mime_type"),
    required("status", Word(UploadStatus)),
    required("created_at", Utc()),
    required("expires_at", Utc()),
    optional("file_seconds", BigInteger),
    optional("file_id"),
    required("swept", Boolean),
    UniqueConstraint("id", name="uploads_id"),
    Index("uploads_unswept", "expires_at", **where("swept IS false")),
)

upload_parts = Table(
    "upload_parts",
    metadata,
    seq(),
    required("id"),
    Column("upload_id", Text, ForeignKey("uploads.id", ondelete="CASCADE"), nullable=False),
    required("bytes", BigInteger),
    required("created_at", Utc()),
    required("blob_key"),
    UniqueConstraint("id", name="upload_parts_id"),
    Index("upload_parts_of_upload", "upload_id", "seq"),
)
