"""Tables of checkpoints' copies and permissions."""

from __future__ import annotations

from sqlalchemy import Index, Table, UniqueConstraint

from tailorbird.domain.sharing import CopyStatus
from tailorbird.infra.columns import Utc, Word
from tailorbird.infra.tables import metadata, optional, required, seq, where

checkpoint_copies = Table(
    "checkpoint_copies",
    metadata,
    seq(),
    required("id"),
    required("job_id"),
    required("checkpoint_id"),
    required("account_id"),
    required("destination"),
    required("destination_id"),
    required("region"),
    required("status", Word(CopyStatus)),
    required("created_at", Utc()),
    optional("failure"),
    UniqueConstraint("id", name="checkpoint_copies_id"),
    Index("checkpoint_copies_of", "account_id", "checkpoint_id", "seq"),
    Index("checkpoint_copies_unfinished", "seq", **where("status = 'InProgress'")),
)

checkpoint_permissions = Table(
    "checkpoint_permissions",
    metadata,
    seq(),
    required("id"),
    required("account_id"),
    required("checkpoint_id"),
    required("project_id"),
    required("copied_model"),
    required("created_at", Utc()),
    UniqueConstraint("id", name="checkpoint_permissions_id"),
    Index("checkpoint_permissions_of", "account_id", "checkpoint_id", "created_at", "seq"),
)
