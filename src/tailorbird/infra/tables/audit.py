"""The table of the audit trail, which only grows: triggers refuse everything else."""

from __future__ import annotations

from sqlalchemy import Index, Table

from tailorbird.domain.audit import Outcome
from tailorbird.infra.columns import Utc, Word
from tailorbird.infra.tables import metadata, required, seq

audit = Table(
    "audit",
    metadata,
    seq(),
    required("at", Utc()),
    required("action"),
    required("resource"),
    required("resource_key"),
    required("outcome", Word(Outcome)),
    required("principal_id"),
    required("principal_name"),
    required("principal_key"),
    required("request_id"),
    required("address"),
    required("detail"),
    Index("audit_at", "at", "seq"),
    Index("audit_principal", "principal_id", "seq"),
    Index("audit_resource", "resource_key", "seq"),
)
