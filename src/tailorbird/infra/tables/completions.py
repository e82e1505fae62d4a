"""Tables of stored chat completions and their metadata."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Table, Text, UniqueConstraint

from tailorbird.infra.columns import Json, Utc
from tailorbird.infra.tables import metadata, optional, required, seq

completions = Table(
    "completions",
    metadata,
    seq(),
    required("id"),
    required("account_id"),
    required("created_at", Utc()),
    required("model"),
    optional("deployment"),
    required("request", Json()),
    required("answer", Json()),
    required("metadata", Json()),
    UniqueConstraint("id", name="completions_id"),
    Index("completions_of_account", "account_id", "created_at", "seq"),
)

completion_metadata = Table(
    "completion_metadata",
    metadata,
    # A digest, as with jobs: a pair may be longer than an index entry, and hold what PostgreSQL refuses.
    Column("pair_key", Text, primary_key=True),
    Column("completion_id", Text, ForeignKey("completions.id", ondelete="CASCADE"), primary_key=True),
    Index("completion_metadata_of_completion", "completion_id"),
)
