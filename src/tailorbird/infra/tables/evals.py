"""Tables of evaluations, their runs and output items."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, Table, Text, UniqueConstraint

from tailorbird.domain.evals import ItemStatus, RunStatus
from tailorbird.infra.columns import Json, Utc, Word
from tailorbird.infra.tables import metadata, optional, required, seq, where

evals = Table(
    "evals",
    metadata,
    seq(),
    required("id"),
    required("account_id"),
    required("name"),
    required("created_at", Utc()),
    required("updated_at", Utc()),
    required("config", Json()),
    required("criteria", Json()),
    required("metadata", Json()),
    UniqueConstraint("id", name="evals_id"),
    Index("evals_of_account", "account_id", "created_at", "seq"),
    Index("evals_by_change", "account_id", "updated_at", "seq"),
)

eval_runs = Table(
    "eval_runs",
    metadata,
    seq(),
    required("id"),
    Column("eval_id", Text, ForeignKey("evals.id", ondelete="CASCADE"), nullable=False),
    required("account_id"),
    required("name"),
    required("model"),
    required("status", Word(RunStatus)),
    required("created_at", Utc()),
    required("source", Json()),
    required("metadata", Json()),
    required("totals", Json()),
    optional("error_code"),
    optional("error_message"),
    UniqueConstraint("id", name="eval_runs_id"),
    Index("eval_runs_of_eval", "eval_id", "created_at", "seq"),
    Index("eval_runs_unfinished", "seq", **where("status IN ('queued', 'in_progress')")),
)

eval_items = Table(
    "eval_items",
    metadata,
    seq(),
    required("id"),
    Column("run_id", Text, ForeignKey("eval_runs.id", ondelete="CASCADE"), nullable=False),
    required("eval_id"),
    required("number", Integer),
    required("status", Word(ItemStatus)),
    required("created_at", Utc()),
    required("item", Json()),
    required("sample", Json()),
    required("results", Json()),
    UniqueConstraint("id", name="eval_items_id"),
    UniqueConstraint("run_id", "number", name="eval_items_once"),
)
