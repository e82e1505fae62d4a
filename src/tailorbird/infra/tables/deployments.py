"""The table of deployments."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, Table, Text, UniqueConstraint, text

from tailorbird.domain.deployments import ProvisioningState
from tailorbird.infra.columns import Json, Utc, Word
from tailorbird.infra.tables import metadata, optional, required, seq, where

deployments = Table(
    "deployments",
    metadata,
    seq(),
    required("account_id"),
    required("name"),
    required("name_key"),
    required("model_name"),
    required("model_format"),
    required("model_version"),
    required("served_model"),
    required("base"),
    optional("checkpoint_id"),
    required("catalogue_name"),
    required("sku_name"),
    required("capacity", Integer),
    required("state", Word(ProvisioningState)),
    required("created_at", Utc()),
    required("updated_at", Utc()),
    required("created_by"),
    required("tags", Json()),
    optional("failure"),
    optional("last_used_at", Utc()),
    Column("updated_by", Text, nullable=False, server_default=""),
    optional("version_upgrade"),
    optional("rai_policy"),
    Column("paused", Boolean, nullable=False, server_default=text("false")),
    optional("source"),
    optional("template_hash"),
    UniqueConstraint("account_id", "name_key", name="deployments_name"),
    Index("deployments_checkpoint", "checkpoint_id"),
    # Of two servers that deploy one fine-tuned model at the same moment, one is told so by the database.
    Index("deployments_checkpoint_once", "checkpoint_id", unique=True, **where("state IN ('Creating', 'Succeeded')")),
    Index("deployments_unfinished", "seq", **where("state IN ('Creating', 'Deleting')")),
)
