"""The table of fine-tuned models."""

from __future__ import annotations

from sqlalchemy import Index, Table, UniqueConstraint

from tailorbird.infra.columns import Utc
from tailorbird.infra.tables import metadata, required, seq

models = Table(
    "models",
    metadata,
    seq(),
    required("name"),
    required("openai_name"),
    required("account_id"),
    required("job_id"),
    required("checkpoint_id"),
    required("catalogue_name"),
    required("base"),
    required("template_hash"),
    required("created_at", Utc()),
    UniqueConstraint("account_id", "name", name="models_name"),
    Index("models_openai_name", "account_id", "openai_name"),
    Index("models_of_account", "account_id", "created_at", "seq"),
)
