"""Tables of cost: the ledger, what is hosted, what jobs have trained, how fast bases train, budgets."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, Table, Text, UniqueConstraint

from tailorbird.domain.pricing import Meter, Period
from tailorbird.infra.columns import Money, Utc, Word
from tailorbird.infra.tables import metadata, optional, required, seq, where

# `account` instead of `account_id`: what was charged is not the account's own, and stays when the account is purged.
ledger = Table(
    "ledger",
    metadata,
    seq(),
    required("key"),
    required("account"),
    required("meter", Word(Meter)),
    required("quantity", BigInteger),
    required("unit_price", Money()),
    required("price_list"),
    required("model"),
    required("at", Utc()),
    required("day"),
    optional("job_id"),
    optional("deployment"),
    UniqueConstraint("key", name="ledger_key"),
    Index("ledger_of_account", "account", "at", "seq"),
)

hosting = Table(
    "hosting",
    metadata,
    Column("id", Text, primary_key=True),
    required("account"),
    required("deployment"),
    required("deployment_key"),
    required("model"),
    required("sku_name"),
    required("capacity", Integer),
    required("tuned", Boolean),
    required("started_at", Utc()),
    optional("ended_at", Utc()),
    required("hours", Integer),
    required("due_at", Utc()),
    required("settled", Boolean),
    Index("hosting_of_deployment", "account", "deployment_key", **where("ended_at IS NULL")),
    Index("hosting_due", "due_at", **where("settled IS false")),
)

job_work = Table(
    "job_work",
    metadata,
    # No reference to jobs: what a deleted job has measured goes on serving estimates.
    Column("job_id", Text, primary_key=True),
    required("account_id"),
    required("base"),
    required("method"),
    required("steps", BigInteger),
    required("tokens", BigInteger),
    required("seconds", Float(53)),
    required("cost_tokens", BigInteger),
    Column("total_seconds", Float(53), nullable=True),
    optional("finished_at", Utc()),
    Index("job_work_finished", "base", "method", "finished_at"),
)

calibrations = Table(
    "calibrations",
    metadata,
    Column("base", Text, primary_key=True),
    optional("taken_at", Utc()),
    optional("measured_at", Utc()),
    required("machine"),
    required("token_seconds", Float(53)),
    required("step_seconds", Float(53)),
    required("beside_seconds", Float(53)),
)

budgets = Table(
    "budgets",
    metadata,
    Column("account_id", Text, primary_key=True),
    required("amount", Money()),
    required("period", Word(Period)),
    required("stop_jobs", Boolean),
    required("retire_deployments", Boolean),
    required("updated_at", Utc()),
    required("warned", Integer),
    optional("warned_since", Utc()),
)
