"""Base models as the catalogue names them, and fine-tuned models."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime

from tailorbird.domain.jobs import AutoRule


@dataclass(frozen=True, slots=True)
class BaseModel:
    """Weights on disk. `folder` is a Hugging Face folder; `learning_rate` is the rate a multiplier of 1 means.

    `train_tokens_per_second` is what estimates count with until a job has been trained here; None: nobody knows."""

    key: str
    folder: str
    learning_rate: float
    max_tokens: int
    lora_rank: int
    lora_alpha: int
    auto: AutoRule = field(default_factory=AutoRule)
    train_tokens_per_second: float | None = None


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
    embeddings: bool = False

    @property
    def tunable(self) -> bool:
        """A model that only makes vectors says nothing that examples could teach."""
        return self.chat or self.completion

    @property
    def family(self) -> str:
        """What the control plane calls it, where the version stands apart: gpt-4o for gpt-4o-2024-08-06."""
        return self.name.removesuffix(f"-{self.version}")


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
