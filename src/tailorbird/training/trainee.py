"""What is trained: the frozen base with its adapter, the optimizer, and the way its batches are computed."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tailorbird.lm.adapter import AdapterError, load_adapter, save_adapter
from tailorbird.lm.loading import BaseModelError, load_base
from tailorbird.lm.lora import (
    LoraError,
    LoraSpec,
    adapter_state,
    all_linear,
    attach,
    load_adapter_state,
    lora_parameters,
)
from tailorbird.protocol.training import TrainPlan
from tailorbird.training import TrainingError
from tailorbird.training.batches import Example
from tailorbird.training.checkpoints import ResumePoint
from tailorbird.training.decoder.family import Decoder
from tailorbird.training.decoder.tree import grow
from tailorbird.training.memory import available_memory, plan_memory, resident_memory
from tailorbird.training.shared import Shared
from tailorbird.training.throughput import notes_on

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Trainee:
    """`shared` computes batches as prefix trees; None for a model that only its own code computes exactly."""

    model: PreTrainedModel
    shared: Shared | None
    spec: LoraSpec
    base_name: str
    parameters: list[torch.nn.Parameter]
    optimizer: torch.optim.Optimizer

    @classmethod
    def build(cls, plan: TrainPlan) -> Trainee:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            model = load_base(plan.base_model, dtype=getattr(torch, plan.dtype), device=device)
            initial = load_adapter(plan.initial_adapter) if plan.initial_adapter else None
            spec = initial.spec if initial else all_linear(model, rank=plan.lora_rank, alpha=plan.lora_alpha)
            if (spec.rank, spec.alpha) != (plan.lora_rank, plan.lora_alpha):
                raise LoraError(f"the first adapter has rank {spec.rank} and alpha {spec.alpha}, not the plan's")
            attach(model, spec, plan.seed)
            if initial:
                load_adapter_state(model, initial.tensors)
        except (BaseModelError, LoraError, AdapterError) as error:
            raise TrainingError("model_unusable", "The model to train could not be loaded.") from error
        parameters = lora_parameters(model)
        optimizer = torch.optim.AdamW(
            parameters, lr=plan.learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=plan.weight_decay, fused=True
        )
        # Not measured on GPUs: there the stock model's fused attention does the work.
        decoder = Decoder.of(model, longest=plan.max_tokens) if device == "cpu" else None
        shared = Shared(decoder, parameters, limit=plan.micro_batch_tokens) if decoder else None
        return cls(model, shared, spec, Path(plan.base_model).name, parameters, optimizer)

    @property
    def trained(self) -> PreTrainedModel | Shared:
        """What computes scores and gradients."""
        return self.shared or self.model

    def plan_memory(self, batches: Iterable[list[Example]]) -> dict[str, float]:
        """Cuts passes so that `batches`, which stand for all, fit; returns how. Empty without `shared`."""
        if self.shared is None:
            return {}
        found = plan_memory(
            self.shared.decoder,
            [grow(batch) for batch in batches],
            limit=self.shared.limit,
            available=available_memory(),
            resident=resident_memory(),
        )
        self.shared.limit, self.shared.recompute = found.limit, found.recompute
        expected = round(found.peak / (1 << 20), 1)
        log.info("passes of up to %d tokens, %d held at once, %.1f MB expected", found.limit, found.held, expected)
        if not found.fits:
            log.warning("this may be more memory than there is")
        return {
            "pass_tokens": float(found.limit),
            "held_tokens": float(found.held),
            "recompute": float(found.recompute),
            "expected_memory_mb": expected,
        }

    def notes(self) -> dict[str, float]:
        """What the training steps of this process came to."""
        return notes_on(self.shared.work, self.shared.decoder.dtype) if self.shared else {}

    def save_adapter(self, folder: Path) -> None:
        save_adapter(folder, adapter_state(self.model), self.spec, self.base_name)

    def resume_point(self, step: int, seconds: float) -> ResumePoint:
        return ResumePoint(step, seconds, adapter_state(self.model), self.optimizer.state_dict(), torch.get_rng_state())

    def restore(self, point: ResumePoint) -> None:
        load_adapter_state(self.model, point.adapter)
        self.optimizer.load_state_dict(point.optimizer)
        torch.set_rng_state(point.random_state)
