"""Stored chat completions: a conversation with its answer, kept because the caller asked for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class StoredCompletion:
    """`request` holds the fields as they were sent (messages, tools, temperature, ...), `answer` what came of them.

    `answer` is `{"choices": [...], "usage": {...}, "fingerprint": ...}` in the service's own words, see
    `service/completions.py`. `model` is the served model's name, `deployment` the name it was asked under, if any.
    """

    id: str
    account_id: str
    created_at: datetime
    model: str
    deployment: str | None
    request: dict[str, Any]
    answer: dict[str, Any]
    metadata: dict[str, str] = field(default_factory=dict[str, str])
