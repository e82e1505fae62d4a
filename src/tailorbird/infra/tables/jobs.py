"""Tables of fine-tuning jobs, their metadata, events and checkpoints, and of an account's settings."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Index, Integer, Table, Text, UniqueConstraint

from tailorbird.domain.jobs import EventKind, EventLevel, Hyperparameters, JobError, JobStatus, Method, Stage
from tailorbird.infra.columns import Integrations, Json, Record, Utc, Word
from tailorbird.infra.tables import metadata, optional, required, seq, where

jobs = Table(
    "jobs",
    metadata,
    seq(),
    required("id"),
    required("account_id"),
    required("status", Word(JobStatus)),
    required("stage", Word(Stage)),
    required("model"),
    required("base"),
    required("training_file"),
    required("seed", BigInteger),
    required("asked", Record(Hyperparameters)),
    required("created_at", Utc()),
    required("estimated_finish", Utc()),
    optional("validation_file"),
    optional("start_checkpoint"),
    optional("suffix"),
    optional("training_type"),
    Column("method", Word(Method), nullable=False, server_default=Method.SUPERVISED.value),
    required("method_sent", Boolean),
    Column("integrations", Integrations(), nullable=False, server_default="[]"),
    required("metadata", Json()),
    optional("resolved", Record(Hyperparameters)),
    optional("template_hash"),
    optional("examples", BigInteger),
    optional("epoch_tokens", BigInteger),
    optional("started_at", Utc()),
    optional("finished_at", Utc()),
    Column("trained_steps", BigInteger, nullable=False, server_default=sa.text("0")),
    optional("paused_at", Utc()),
    Column("paused_seconds", Float(53), nullable=False, server_default=sa.text("0")),
    Column("pauses", Integer, nullable=False, server_default=sa.text("0")),
    optional("trained_tokens", BigInteger),
    optional("fine_tuned_model"),
    optional("fine_tuned_model_openai"),
    optional("result_file"),
    optional("error", Record(JobError)),
    required("cancel_requested", Boolean),
    required("attempts", Integer),
    required("ended", Boolean),
    optional("lease_owner"),
    optional("lease_until", Utc()),
    UniqueConstraint("id", name="jobs_id"),
    Index("jobs_of_account", "account_id", "created_at", "seq"),
    Index("jobs_queue", "created_at", "seq", **where("ended IS false")),
    Index("jobs_active", "account_id", "ended"),
    Index("jobs_status", "status"),
    Index("jobs_held", "account_id", **where("lease_owner IS NOT NULL")),
)

job_metadata = Table(
    "job_metadata",
    metadata,
    # A digest: one pair can be longer than PostgreSQL lets an index entry be, and may hold characters it refuses.
    Column("pair_key", Text, primary_key=True),
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Index("job_metadata_of_job", "job_id"),
)

job_events = Table(
    "job_events",
    metadata,
    seq(),
    required("id"),
    Column("job_id", Text, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    required("key"),
    required("kind", Word(EventKind)),
    required("level", Word(EventLevel)),
    required("created_at", Utc()),
    required("data", Json()),
    UniqueConstraint("job_id", "key", name="job_events_once"),
    Index("job_events_of_job", "job_id", "seq"),
    Index("job_events_id", "job_id", "id"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("id", Text, primary_key=True),
    required("job_id"),  # a deleted job leaves its checkpoints to models and deployments
    required("account_id"),
    required("step", BigInteger),
    required("name"),
    required("openai_name"),
    required("adapter_key"),
    required("created_at", Utc()),
    required("metrics", Json()),
    required("final", Boolean),
    required("deployable", Boolean),
    Column("at_pause", Boolean, nullable=False, server_default=sa.text("false")),
    Index("checkpoints_of_job", "job_id", "step", "id"),
    Index("checkpoints_name", "account_id", "name"),
    Index("checkpoints_openai_name", "account_id", "openai_name"),
)

account_settings = Table(
    "account_settings",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    required("value"),
)
