"""Any other architecture: the stock transformers model, one sequence at a time, adapters as hooks on its linear layers.

Exact for whatever transformers can load, and slow: rows of a step run one after the other. Families that matter earn a
place in forward.py.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tailorbird.lm.loading import load_base
from tailorbird.lm.lora import find_linear_targets
from tailorbird.serving.adapters import LoadedAdapter, Target
from tailorbird.serving.forward import Chunk


class StockModel:
    """A Forward over AutoModelForCausalLM. One thread at a time; raises BaseModelError when it does not load."""

    def __init__(self, folder: Path, *, context: int, dtype: torch.dtype, device: torch.device) -> None:
        self._model: Any = load_base(folder, dtype=dtype, device=device)
        self._device = device
        self._context = context
        self._adapter: LoadedAdapter | None = None
        self._targets: dict[str, Target] = {}
        for name in find_linear_targets(self._model):
            module: nn.Linear = self._model.get_submodule(name)
            self._targets[name] = Target(name, 0, module.out_features, module.in_features)
            module.register_forward_hook(self._hook(name))

    @property
    def context(self) -> int:
        return self._context

    @property
    def vocab(self) -> int:
        return self._model.get_input_embeddings().num_embeddings

    @property
    def targets(self) -> Mapping[str, Target]:
        return self._targets

    def open(self) -> Any:
        from transformers import DynamicCache  # load_base paid for the import

        return DynamicCache(config=self._model.config)

    def reserve(self, memory: Any, length: int) -> bool:
        return True

    def fork(self, memory: Any, length: int) -> Any | None:
        return copy.deepcopy(memory)

    def close(self, memory: Any) -> None:
        """The cache is garbage once the scheduler lets go of it."""

    @property
    def held(self) -> tuple[int, int]:
        return 0, 0

    def rows(self, chunks: Sequence[Chunk]) -> Tensor:
        """The rows are logits already: models differ in what they do behind the head."""
        wanted = [self._run(chunk) for chunk in chunks]
        return torch.cat(wanted)

    def logits(self, rows: Tensor) -> Tensor:
        return rows.float()

    def pool(self, texts: Sequence[list[int]], adapter: LoadedAdapter | None) -> Tensor:
        self._adapter = adapter
        states = [self._model.base_model(input_ids=self._row(text), use_cache=False)[0][0] for text in texts]
        return torch.stack([state.float().mean(0) for state in states])

    def _row(self, tokens: list[int]) -> Tensor:
        return torch.tensor([tokens], device=self._device)

    def _run(self, chunk: Chunk) -> Tensor:
        self._adapter = chunk.adapter
        places = torch.arange(chunk.start, chunk.start + len(chunk.tokens), device=self._device)[None]
        result = self._model(
            input_ids=self._row(chunk.tokens),
            position_ids=places,
            past_key_values=chunk.memory,
            use_cache=True,
            logits_to_keep=max(chunk.wanted, 1),
        )
        return result.logits[0, result.logits.shape[1] - chunk.wanted :]

    def _hook(self, name: str) -> Any:
        def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            pair = None if self._adapter is None else self._adapter.pairs.get(name)
            return output if pair is None else output + inputs[0] @ pair[0] @ pair[1]

        return add
