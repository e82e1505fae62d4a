"""Documents side by side in one row of a stock model: its attention is called once a document, so none sees another.

No mask is built and no padding computed: what a document gives is what it gives alone. It works where the architecture
takes its attention from transformers' table and its positions as an argument; `reason_against_packs` tries that out.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NAME = "tailorbird_documents"
_TRIED_LENGTHS = (7, 12)
# Relative distance of logits in a pack from those of a document alone; a document that saw another is far beyond it.
_ROUNDING = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


class _Row:
    """The lengths of the documents of a row, and how often an attention has cut it into them."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = list(lengths)
        self.calls = 0


_row: ContextVar[_Row] = ContextVar("row")


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, _mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """As transformers' attentions: [1, heads, tokens, features] to [1, tokens, heads, features]."""
    row = _row.get()
    row.calls += 1
    parts: list[Tensor] = []
    for q, k, v in zip(*(side.split(row.lengths, dim=2) for side in (query, key, value)), strict=True):
        parts.append(sdpa_attention_forward(module, q, k, v, None, **options)[0])
    return torch.cat(parts, dim=1), None


def _no_mask(*_: Any, **__: Any) -> None:
    return None


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, _no_mask)


@contextmanager
def documents(model: PreTrainedModel, lengths: Sequence[int]) -> Generator[None]:
    """Inside, the model takes one row made of documents of these lengths; their positions are the caller's to give."""
    with _documents(model, lengths):
        yield


@contextmanager
def _documents(model: PreTrainedModel, lengths: Sequence[int]) -> Generator[_Row]:
    config = cast(Any, model.config)
    before, row = config._attn_implementation, _Row(lengths)
    token = _row.set(row)
    config._attn_implementation = _NAME
    try:
        yield row
    finally:
        config._attn_implementation = before
        _row.reset(token)


def reason_against_packs(model: PreTrainedModel, *, longest: int) -> str | None:
    """Why documents of up to `longest` tokens cannot stand side by side in this model; None when they can.

    The last judge is a trial: two documents in one row must have the logits each has alone.
    """
    config = cast(Any, model.config)
    if not getattr(model, "_supports_attention_backend", False) or config._attn_implementation != "sdpa":
        return "its attention cannot be told where a document ends"
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return "it does not take positions"
    spans = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    if any(span is not None and span < longest for span in spans):
        return "its attention looks back over a window shorter than the examples may be"
    layers = getattr(config, "num_hidden_layers", None)
    if not _tried(model, layers):
        return "a trial gave other results than one example at a time"
    return None


@torch.no_grad()
def _tried(model: PreTrainedModel, layers: int | None) -> bool:
    ids = [torch.arange(length, device=model.device)[None] + 3 for length in _TRIED_LENGTHS]
    run = cast(Any, model)
    alone = torch.cat([run(input_ids=one, use_cache=False).logits for one in ids], dim=1)
    positions = torch.cat([torch.arange(length, device=model.device)[None] for length in _TRIED_LENGTHS], dim=1)
    with _documents(model, _TRIED_LENGTHS) as row:
        packed = run(input_ids=torch.cat(ids, dim=1), position_ids=positions, use_cache=False).logits
    distance = (packed.float() - alone.float()).norm() / alone.float().norm()
    return row.calls == layers and float(distance) < _ROUNDING.get(alone.dtype, 0.0)
