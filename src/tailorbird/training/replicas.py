"""One base under several adapters: each run has modules of its own, and all of them share the base's numbers."""

from __future__ import annotations

import copy
from itertools import chain
from typing import TYPE_CHECKING

from tailorbird.protocol.training import TrainPlan
from tailorbird.training.decoder.family import Decoder
from tailorbird.training.trainee import load_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Replicas:
    """Loads each base once, by its folder and precision."""

    def __init__(self) -> None:
        self._bases: dict[tuple[str, str], PreTrainedModel] = {}

    def load(self, plan: TrainPlan) -> PreTrainedModel:
        """The plan's base with fresh modules around the tensors of all; raises BaseModelError."""
        name = (plan.base_model, plan.dtype)
        if name not in self._bases:
            model = load_model(plan)
            # Merges matrices in place before the first replica is made, or each of them would merge its own copy.
            Decoder.of(model, longest=0)
            self._bases[name] = model
        base = self._bases[name]
        shared = {id(tensor): tensor for tensor in chain(base.parameters(), base.buffers())}
        return copy.deepcopy(base, shared)
