"""The tables of uploaded files and of those still being fetched."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, Table, UniqueConstraint

from tailorbird.domain.files import FileStatus, Purpose
from tailorbird.infra.columns import Utc, Word
from tailorbird.infra.tables import metadata, optional, required, seq, where

files = Table(
    "files",
    metadata,
    seq(),
    required("id"),
    required("account_id"),
    required("filename"),
    required("purpose", Word(Purpose)),
    required("bytes", BigInteger),
    required("status", Word(FileStatus)),
    required("created_at", Utc()),
    required("blob_key"),
    optional("status_details"),
    optional("kind"),
    optional("examples", BigInteger),
    optional("expires_at", Utc()),
    UniqueConstraint("id", name="files_id"),
    Index("files_of_account", "account_id", "created_at", "seq"),
    Index("files_of_purpose", "account_id", "purpose", "created_at", "seq"),
    Index("files_unfinished", "seq", **where("status IN ('pending', 'running')")),
    Index("files_expiring", "expires_at", **where("expires_at IS NOT NULL")),
)

file_imports = Table(
    "file_imports",
    metadata,
    seq(),
    required("file_id"),
    required("account_id"),
    required("url"),
    required("received", BigInteger),
    optional("version"),
    UniqueConstraint("file_id", name="file_imports_file"),
)
