"""What is trained: the frozen base with its adapter, the optimizer, and the way its batches are computed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
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
from tailorbird.protocol.training import ComputedAs, TrainPlan
from tailorbird.training import TrainingError
from tailorbird.training.batches import Example
from tailorbird.training.checkpoints import ResumePoint
from tailorbird.training.decoder.family import Decoder, reason_against_trees
from tailorbird.training.decoder.tree import Forest, grow
from tailorbird.training.memory import available_memory, plan_memory, resident_memory
from tailorbird.training.methods import Trained
from tailorbird.training.packing import reason_against_packs
from tailorbird.training.ranks import ALONE, Ranks
from tailorbird.training.shared import Shared
from tailorbird.training.split import Split, cut_evenly
from tailorbird.training.stock import Stock
from tailorbird.training.throughput import notes_on

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

LoadModel = Callable[[TrainPlan], "PreTrainedModel"]
"""The plan's base, frozen, with modules of its own that an adapter can be attached to; raises BaseModelError."""


def load_model(plan: TrainPlan) -> PreTrainedModel:
    """For one run alone."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_base(plan.base_model, dtype=getattr(torch, plan.dtype), device=device)


@dataclass(slots=True)
class Trainee:
    """`own` computes batches as prefix trees, or through the model's own code; `remarks` say why not the former."""

    model: PreTrainedModel
    own: Shared | Stock
    remarks: list[str]
    spec: LoraSpec
    base_name: str
    parameters: list[torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    split: Split | None = None

    @classmethod
    def build(cls, plan: TrainPlan, load: LoadModel = load_model, ranks: Ranks = ALONE) -> Trainee:
        try:
            model = load(plan)
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
        own, remarks = _way(model, parameters, plan)
        split = Split(own, parameters, ranks) if ranks.size > 1 and ranks.first else None
        return cls(model, own, remarks, spec, Path(plan.base_model).name, parameters, optimizer, split)

    @property
    def trained(self) -> Trained:
        """What computes scores and gradients, in all processes of the run."""
        return self.split or self.own

    def cut(self, batches: Iterable[list[Example]]) -> dict[str, float]:
        """How the work on `batches`, which stand for all, is cut so that it fits: figures for people."""
        batches = list(batches)
        notes = {"pass_tokens": float(self.own.limit)}
        processes = self.split.processes if self.split else 1
        if isinstance(self.own, Shared):
            forests = [grow(part) for batch in batches for part in cut_evenly(batch, processes) if part]
            notes = _planned(self.own, forests, processes)
            notes["step_computed_tokens"] = round(sum(forest.tokens for forest in forests) / max(1, len(batches)), 1)
        if self.split:
            self.split.cut()
            notes["processes"] = float(processes)
        given = sum(example.length for batch in batches for example in batch)
        notes["step_tokens"] = round(given / max(1, len(batches)), 1)
        return notes

    @property
    def computed_as(self) -> ComputedAs:
        if isinstance(self.own, Shared):
            return "trees"
        return "packs" if self.own.packed else "padded"

    def notes(self) -> dict[str, float]:
        """What the training steps of this process came to."""
        if self.split is None:
            return notes_on(self.own.work, self.model.dtype, self.model.device)
        return notes_on(self.split.work(), self.model.dtype, self.model.device, self.split.processes)

    def save_adapter(self, folder: Path) -> None:
        save_adapter(folder, adapter_state(self.model), self.spec, self.base_name)

    def resume_point(self, step: int, seconds: float) -> ResumePoint:
        return ResumePoint(step, seconds, adapter_state(self.model), self.optimizer.state_dict(), torch.get_rng_state())

    def restore(self, point: ResumePoint) -> None:
        load_adapter_state(self.model, point.adapter)
        self.optimizer.load_state_dict(point.optimizer)
        torch.set_rng_state(point.random_state)


def _way(
    model: PreTrainedModel, parameters: Sequence[torch.nn.Parameter], plan: TrainPlan
) -> tuple[Shared | Stock, list[str]]:
    """How batches go through the model, and why nothing better does."""
    limit, remarks = plan.micro_batch_tokens, list[str]()
    # Not measured on GPUs: there the stock model's fused attention does the work.
    on_gpu = "that is measured on CPUs only" if model.device.type != "cpu" else None
    reason = on_gpu or reason_against_trees(model, longest=plan.max_tokens)
    decoder = None if reason else Decoder.of(model, longest=plan.max_tokens)
    if decoder is not None:
        return Shared(decoder, parameters, limit=limit), remarks
    remarks.append(f"common beginnings are computed once an example, as {reason}")
    reason = reason_against_packs(model, longest=plan.max_tokens)
    if reason:
        remarks.append(f"examples are padded, as {reason}")
    return Stock(model, parameters, limit=limit, packed=not reason), remarks


def _planned(trained: Shared, forests: Sequence[Forest], processes: int) -> dict[str, float]:
    """Cuts passes so that `forests` fit, where so many processes share the memory; returns how."""
    available = available_memory()
    found = plan_memory(
        trained.decoder,
        forests,
        limit=trained.limit,
        available=None if available is None else available // processes,
        resident=resident_memory(),
    )
    trained.limit, trained.recompute = found.limit, found.recompute
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
