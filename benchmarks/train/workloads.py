"""Models and data of the training benchmark: random weights in a real shape, token ids in a real distribution.

Everything comes from one seed and is written to disk once, so that every trainer reads the same weights, the same first
adapter, the same token ids in the same order and the same batches.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tailorbird.lm.adapter import save_adapter
from tailorbird.lm.loading import load_base
from tailorbird.lm.lora import adapter_state, all_linear, attach

RANK = 16
ALPHA = 32
_SYSTEM = 384  # tokens of a prompt of the sets that are no sweep over its length
SHAPES: dict[str, dict[str, Any]] = {
    "smollm2-135m": {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "rms_norm_eps": 1e-5,
        "rope_theta": 100000.0,
        "tie_word_embeddings": True,
        "max_position_embeddings": 8192,
    },
    "qwen2.5-0.5b": {
        "model_type": "qwen2",
        "vocab_size": 151936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
        "max_position_embeddings": 32768,
    },
}
"""Shapes of published models; the weights are random, so nothing is fetched."""


@dataclass(frozen=True)
class Row:
    """Token ids, and which of them are trained (1) or only read (0)."""

    ids: list[int]
    trained: list[int]


def write_base(folder: Path, shape: str, *, layers: int | None, seed: int = 0) -> Path:
    """The model of `shape`, cut to `layers` where given, and `adapter/`, away from its start, in it."""
    numbers = dict(SHAPES[shape])
    kind = numbers.pop("model_type")
    if layers:
        numbers["num_hidden_layers"] = layers
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **numbers, bos_token_id=0, eos_token_id=0))
    model.to(torch.bfloat16).save_pretrained(folder)
    base = load_base(folder, dtype=torch.float32)
    spec = all_linear(base, rank=RANK, alpha=ALPHA)
    generator = torch.Generator().manual_seed(seed)
    for layer in attach(base, spec, seed).values():
        torch.nn.init.normal_(layer.lora_b, std=0.02, generator=generator)
    save_adapter(folder / "adapter", adapter_state(base), spec, folder.name)
    return folder


class _Draw:
    """Turns of a conversation: user and assistant lengths lognormal with medians 60 and 110."""

    def __init__(self, vocab: int, seed: int) -> None:
        self._random = random.Random(seed)
        self._vocab = vocab

    def ids(self, count: int) -> list[int]:
        return [self._random.randrange(self._vocab) for _ in range(count)]

    def length(self, median: int) -> int:
        return max(4, min(8 * median, round(median * self._random.lognormvariate(0, 0.5))))

    def turn(self) -> Row:
        asked, answered = self.ids(self.length(60)), self.ids(self.length(110))
        return Row(asked + answered, [0] * len(asked) + [1] * len(answered))

    def turns(self) -> int:
        return self._random.randint(1, 6)


def _after(beginning: Row, turns: list[Row]) -> Row:
    parts = [beginning, *turns]
    return Row([i for part in parts for i in part.ids], [i for part in parts for i in part.trained])


def prefixed(vocab: int, count: int, prefix: int, *, turns: int | None = None, seed: int = 1) -> list[Row]:
    """Conversations behind one system prompt of `prefix` tokens; all of `turns` turns, or of one to six."""
    draw = _Draw(vocab, seed)
    prompt = draw.ids(prefix)
    beginning = Row(prompt, [0] * prefix)
    return [_after(beginning, [draw.turn() for _ in range(turns or draw.turns())]) for _ in range(count)]


def conversation_trees(vocab: int, count: int, *, seed: int = 2) -> list[Row]:
    """Each row goes on from where another one stood: every turn of a conversation is a row of its own."""
    draw = _Draw(vocab, seed)
    rows: list[Row] = []
    prompt = Row(draw.ids(_SYSTEM), [0] * _SYSTEM)
    while len(rows) < count:
        so_far = prompt
        for _ in range(draw.turns()):
            turn = draw.turn()
            rows.append(_after(so_far, [turn]))
            so_far = Row(so_far.ids + turn.ids, so_far.trained + [0] * len(turn.ids))
    return rows[:count]


def tools(vocab: int, count: int, *, seed: int = 3) -> list[Row]:
    """Four sets of long tool definitions, 1,500 tokens each, before one or two turns."""
    draw = _Draw(vocab, seed)
    definitions = [Row(draw.ids(1500), [0] * 1500) for _ in range(4)]
    return [_after(definitions[i % 4], [draw.turn()]) for i in range(count)]


WORKLOADS: dict[str, Callable[[int, int], list[Row]]] = {
    **{f"P={p}": lambda vocab, count, p=p: prefixed(vocab, count, p) for p in (0, 384, 1024, 2048)},
    **{f"P={p} one turn": lambda vocab, count, p=p: prefixed(vocab, count, p, turns=1) for p in (0, 384, 1024, 2048)},
    "conversation trees": conversation_trees,
    "long tool definitions": tools,
}


def write_rows(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps({"ids": row.ids, "trained": row.trained}) + "\n" for row in rows))
    return path
