"""The table of verdicts on models."""

from __future__ import annotations

from sqlalchemy import Integer, Table, UniqueConstraint

from tailorbird.infra.columns import Json, Utc, Words
from tailorbird.infra.tables import metadata, required, seq

verdicts = Table(
    "verdicts",
    metadata,
    seq(),
    required("subject"),
    required("set_version"),
    required("rates", Json()),
    required("harms", Words()),
    required("conversations", Integer),
    required("measured_at", Utc()),
    UniqueConstraint("subject", "set_version", name="verdicts_once"),
)
