"""Base models as the catalogue names them, and fine-tuned models."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime

from tailorbird.domain.jobs import AutoRule


@dataclass(frozen=True, slots=True)
class BaseModel:
    """Weights on disk. `folder` is a Hugging Face folder; `learning_rate` is the rate a multiplier of 1 means."""

    key: str
    folder: str
    learning_rate: float
    max_tokens: int
    lora_rank: int
    lora_alpha: int
    auto: AutoRule = field(default_factory=AutoRule)


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A name customers use for a base model. `short` is accepted as well and answered with `name`."""

    name: str
    base: str
    short: str | None
    version: str
    chat: bool
    completion: bool
    created_at: datetime
    fine_tune_until: date | None = None
    inference_until: date | None = None


@dataclass(frozen=True, slots=True)
class TunedModel:
    """A finished job's model; its adapter is the checkpoint `checkpoint_id`. Both surfaces' names lead to it."""

    name: str
    openai_name: str
    account_id: str
    job_id: str
    checkpoint_id: str
    catalogue_name: str
    base: str
    template_hash: str
    created_at: datetime
