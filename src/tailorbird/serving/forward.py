"""The decoder of the Llama family, written for batches of unequal rows with an adapter of their own.

A step is a list of chunks: some tokens of one sequence each, one for a sequence that generates, many for a prompt. All
tokens stand in one flat [tokens, hidden] matrix, so every linear layer is one product for the whole step; only
attention looks at sequences: generating rows together over their gathered blocks, prompts one by one.
Source of the arithmetic: transformers' modeling_llama.py, modeling_qwen2.py, modeling_qwen3.py, modeling_mistral.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from tailorbird.serving.adapters import AdapterRows, LoadedAdapter, Stacks, Target
from tailorbird.serving.cache import BLOCK, BlockCache, Table
from tailorbird.serving.weights import Shape, Weights


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens to run, `tokens[0]` at position `start` of its sequence; `wanted` last ones need a row of the result."""

    tokens: list[int]
    start: int
    memory: Any
    adapter: LoadedAdapter | None
    wanted: int


class Forward(Protocol):
    """A base model as the scheduler sees it. A sequence's memory (its keys and values) is opaque."""

    @property
    def context(self) -> int:
        """The longest sequence, prompt and completion together."""
        ...

    @property
    def vocab(self) -> int: ...

    @property
    def targets(self) -> Mapping[str, Target]:
        """The modules an adapter may change, by full name."""
        ...

    def open(self) -> Any:
        """Memory for a new sequence, empty."""
        ...

    def reserve(self, memory: Any, length: int) -> bool:
        """Makes room for `length` positions in all; False when there is none now."""
        ...

    def fork(self, memory: Any, length: int) -> Any | None:
        """A copy of the first `length` positions, None when there is no room."""
        ...

    def close(self, memory: Any) -> None: ...

    @property
    def held(self) -> tuple[int, int]:
        """Positions whose keys and values are held, and how many could be; zeros where nothing is kept count of."""
        ...

    def rows(self, chunks: Sequence[Chunk]) -> Tensor:
        """Runs one step; the last states of the wanted tokens [wanted, hidden], chunk by chunk.

        Chunks of one adapter must be neighbours. Every memory was reserved up to the end of its chunk.
        """
        ...

    def logits(self, rows: Tensor) -> Tensor:
        """Float32 logits [rows, vocab] of some of the rows."""
        ...

    def pool(self, texts: Sequence[list[int]], adapter: LoadedAdapter | None) -> Tensor:
        """The mean over each text's tokens of the states behind the final norm, float32 [texts, hidden].

        Computed without a cache; texts are not empty and no longer than the context.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Linear:
    """Modules of the base that read the same input, as one weight [out, in]; `key` names them for the adapters."""

    key: str
    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor, adapters: AdapterRows) -> Tensor:
        y = F.linear(x, self.weight, self.bias)
        adapters.add(self.key, x, y)
        return y


@dataclass(frozen=True, slots=True)
class _Layer:
    attention_norm: Tensor
    qkv: _Linear
    head_norms: Tensor | None  # [heads + kv heads, features], of queries then keys (Qwen3)
    output: _Linear
    mlp_norm: Tensor
    gate_up: _Linear
    down: _Linear
    window: int | None


@dataclass(frozen=True, slots=True)
class _Prompt:
    """Rows [first, first + length) of the step are tokens `start` ... of one sequence that keeps `blocks` [1, n].

    `blocks` is None when the sequence keeps nothing: its tokens run from 0 and none come after them.
    """

    first: int
    length: int
    start: int
    blocks: Tensor | None
    masks: Mapping[int | None, Tensor | None]


@dataclass(frozen=True, slots=True)
class _Step:
    """One step's layout: `single` [rows] are the generating rows, None when they are all; no `slots`, no cache."""

    tokens: Tensor
    cos: Tensor
    sin: Tensor
    slots: Tensor | None
    single: Tensor | None
    single_blocks: Tensor | None
    single_masks: Mapping[int | None, Tensor]
    prompts: Sequence[_Prompt]
    wanted: Tensor | None


class Decoder:
    """A Llama, Mistral, Qwen2 or Qwen3 model over a block cache. One thread at a time."""

    def __init__(
        self, folder: Path, shape: Shape, *, cached_tokens: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._shape = shape
        self._dtype = dtype
        self._device = device
        self._frequencies = shape.frequencies.to(device)
        self._targets: dict[str, Target] = {}
        self._stacks = Stacks()
        with Weights(folder, dtype, device) as weights:
            self._embedding = weights.get("model.embed_tokens.weight")
            self._layers = [self._load_layer(weights, i) for i in range(shape.layers)]
            self._norm = weights.get("model.norm.weight")
            self._head = weights.find("lm_head.weight") if not weights.tied else None
            if self._head is None:
                self._head = self._embedding
        self._cache = BlockCache(
            layers=shape.layers,
            heads=shape.kv_heads,
            features=shape.features,
            max_blocks=max(-(-cached_tokens // BLOCK), -(-shape.context // BLOCK)),
            dtype=dtype,
            device=device,
        )

    @property
    def context(self) -> int:
        return self._shape.context

    @property
    def vocab(self) -> int:
        return self._embedding.shape[0]

    @property
    def targets(self) -> Mapping[str, Target]:
        return self._targets

    def open(self) -> Table:
        return Table()

    def reserve(self, memory: Table, length: int) -> bool:
        return self._cache.reserve(memory, length)

    def fork(self, memory: Table, length: int) -> Table | None:
        return self._cache.fork(memory, length)

    def close(self, memory: Table) -> None:
        self._cache.release(memory)

    @property
    def held(self) -> tuple[int, int]:
        return self._cache.used_blocks * BLOCK, self._cache.max_blocks * BLOCK

    def rows(self, chunks: Sequence[Chunk]) -> Tensor:
        return self._run(self._lay_out(chunks), AdapterRows(_segments(chunks), self._stacks))

    def logits(self, rows: Tensor) -> Tensor:
        assert self._head is not None
        return F.linear(rows, self._head).float()

    def pool(self, texts: Sequence[list[int]], adapter: LoadedAdapter | None) -> Tensor:
        step = self._lay_out_texts(texts)
        segments = [] if adapter is None else [(adapter, 0, len(step.tokens))]
        states = self._run(step, AdapterRows(segments, self._stacks)).float()
        return torch.stack([part.mean(0) for part in states.split([len(text) for text in texts])])

    def _run(self, step: _Step, adapters: AdapterRows) -> Tensor:
        """The last states of the wanted rows."""
        hidden = self._embedding[step.tokens]
        for i, layer in enumerate(self._layers):
            hidden = self._run_layer(i, layer, hidden, step, adapters)
        if step.wanted is not None:
            hidden = hidden[step.wanted]
        return self._normalise(hidden, self._norm)

    def _load_layer(self, weights: Weights, index: int) -> _Layer:
        prefix = f"model.layers.{index}."
        norms = [weights.find(f"{prefix}self_attn.{side}_norm.weight") for side in "qk"]
        query, key = norms
        shape = self._shape
        return _Layer(
            attention_norm=weights.get(f"{prefix}input_layernorm.weight"),
            qkv=self._fuse(weights, f"{prefix}self_attn.", "q_proj", "k_proj", "v_proj"),
            head_norms=None
            if query is None or key is None
            else torch.cat((query.expand(shape.heads, -1), key.expand(shape.kv_heads, -1))),
            output=self._fuse(weights, f"{prefix}self_attn.", "o_proj"),
            mlp_norm=weights.get(f"{prefix}post_attention_layernorm.weight"),
            gate_up=self._fuse(weights, f"{prefix}mlp.", "gate_proj", "up_proj"),
            down=self._fuse(weights, f"{prefix}mlp.", "down_proj"),
            window=shape.windows[index],
        )

    def _fuse(self, weights: Weights, prefix: str, *names: str) -> _Linear:
        parts = [weights.get(f"{prefix}{name}.weight") for name in names]
        biases = [weights.find(f"{prefix}{name}.bias") for name in names]
        key, offset = prefix + "|".join(names), 0
        for name, part in zip(names, parts, strict=True):
            self._targets[prefix + name] = Target(key, offset, part.shape[0], part.shape[1])
            offset += part.shape[0]
        bias = None
        if any(b is not None for b in biases):
            bias = torch.cat([p.new_zeros(p.shape[0]) if b is None else b for p, b in zip(parts, biases, strict=True)])
        return _Linear(key, parts[0] if len(parts) == 1 else torch.cat(parts), bias)

    def _run_layer(self, index: int, layer: _Layer, hidden: Tensor, step: _Step, adapters: AdapterRows) -> Tensor:
        shape = self._shape
        both = shape.heads + shape.kv_heads
        x = self._normalise(hidden, layer.attention_norm)
        heads = layer.qkv(x, adapters).view(x.shape[0], both + shape.kv_heads, shape.features)
        turning, values = heads[:, :both], heads[:, both:]
        if layer.head_norms is not None:
            turning = F.rms_norm(turning, (shape.features,), None, shape.epsilon) * layer.head_norms
        turning = _rotate(turning, step.cos, step.sin)
        queries, keys = turning[:, : shape.heads], turning[:, shape.heads :]
        if step.slots is not None:
            self._cache.write(index, step.slots, keys, values)
        mixed = self._attend(index, layer.window, step, queries, keys, values)
        hidden = hidden + layer.output(mixed, adapters)
        x = self._normalise(hidden, layer.mlp_norm)
        gate, up = layer.gate_up(x, adapters).chunk(2, dim=-1)
        return hidden + layer.down(F.silu(gate) * up, adapters)

    def _normalise(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self._shape.epsilon)

    def _attend(
        self, index: int, window: int | None, step: _Step, queries: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        """Every row's mix of values [tokens, heads x features]."""
        if step.single is None:
            return self._attend_single(index, window, step, queries)
        mixed = queries.new_empty((queries.shape[0], queries.shape[1] * queries.shape[2]))
        if step.single_blocks is not None:
            mixed[step.single] = self._attend_single(index, window, step, queries[step.single])
        for prompt in step.prompts:
            span = slice(prompt.first, prompt.first + prompt.length)
            mixed[span] = self._attend_prompt(index, window, prompt, queries[span], keys[span], values[span])
        return mixed

    def _attend_single(self, index: int, window: int | None, step: _Step, queries: Tensor) -> Tensor:
        """One query a row, the heads of one key head taking the place of query positions: no key is copied."""
        assert step.single_blocks is not None
        shape = self._shape
        keys, values = self._cache.gather(index, step.single_blocks)  # [rows, kv heads, positions, features]
        grouped = queries.reshape(queries.shape[0], shape.kv_heads, -1, shape.features)
        mixed = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=step.single_masks[window])
        return mixed.reshape(queries.shape[0], -1)

    def _attend_prompt(
        self, index: int, window: int | None, prompt: _Prompt, queries: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        mask = prompt.masks[window]
        if prompt.blocks is not None and prompt.start:
            gathered = self._cache.gather(index, prompt.blocks)
            k, v = (side[:, :, : prompt.start + prompt.length] for side in gathered)
        else:
            k, v = keys.transpose(0, 1)[None], values.transpose(0, 1)[None]
        mixed = F.scaled_dot_product_attention(
            queries.transpose(0, 1)[None], k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True
        )
        return mixed[0].transpose(0, 1).reshape(prompt.length, -1)

    def _lay_out(self, chunks: Sequence[Chunk]) -> _Step:
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        wanted: list[int] = []
        singles: list[tuple[int, Chunk]] = []
        prompts: list[_Prompt] = []
        for chunk in chunks:
            first, length = len(tokens), len(chunk.tokens)
            tokens += chunk.tokens
            positions += range(chunk.start, chunk.start + length)
            blocks: list[int] = chunk.memory.blocks
            slots += [
                blocks[place // BLOCK] * BLOCK + place % BLOCK for place in range(chunk.start, chunk.start + length)
            ]
            wanted += range(first + length - chunk.wanted, first + length)
            if length == 1:
                singles.append((first, chunk))
            else:
                prompts.append(self._lay_out_prompt(first, length, chunk.start, chunk.memory))
        cos, sin = self._angles(positions)
        rows, blocks_of_rows, masks = self._lay_out_singles(singles)
        return _Step(
            tokens=self._tensor(tokens),
            cos=cos,
            sin=sin,
            slots=self._tensor(slots),
            single=rows if prompts else None,
            single_blocks=blocks_of_rows,
            single_masks=masks,
            prompts=prompts,
            wanted=None if len(wanted) == len(tokens) else self._tensor(wanted),
        )

    def _lay_out_texts(self, texts: Sequence[list[int]]) -> _Step:
        prompts: list[_Prompt] = []
        tokens: list[int] = []
        for text in texts:
            prompts.append(self._lay_out_prompt(len(tokens), len(text), 0, None))
            tokens += text
        cos, sin = self._angles([place for text in texts for place in range(len(text))])
        none = self._tensor(list[int]())
        return _Step(self._tensor(tokens), cos, sin, None, none, None, {}, prompts, None)

    def _angles(self, positions: list[int]) -> tuple[Tensor, Tensor]:
        """Cosine and sine [tokens, 1, features / 2] of the rotary angles."""
        angles = self._tensor(positions)[:, None] * self._frequencies
        return angles.cos().to(self._dtype)[:, None], angles.sin().to(self._dtype)[:, None]

    def _lay_out_singles(
        self, singles: Sequence[tuple[int, Chunk]]
    ) -> tuple[Tensor, Tensor | None, Mapping[int | None, Tensor]]:
        rows = self._tensor([row for row, _ in singles])
        if not singles:
            return rows, None, {}
        starts = [chunk.start for _, chunk in singles]
        width = max(starts) // BLOCK + 1
        tables = [[*chunk.memory.blocks[:width], *([0] * (width - len(chunk.memory.blocks)))] for _, chunk in singles]
        own = self._tensor(starts)[:, None]
        places = torch.arange(width * BLOCK, device=self._device)
        masks = {window: self._mask(own, places, window)[:, None, None] for window in set(self._shape.windows)}
        return rows, self._tensor(tables), masks

    def _lay_out_prompt(self, first: int, length: int, start: int, memory: Table | None) -> _Prompt:
        end = start + length
        masks: dict[int | None, Tensor | None] = {}
        for window in set(self._shape.windows):
            plain = start == 0 and (window is None or window >= end)
            own = torch.arange(start, end, device=self._device)[:, None]
            masks[window] = None if plain else self._mask(own, torch.arange(end, device=self._device), window)
        blocks = None if memory is None else self._tensor([memory.blocks[: -(-end // BLOCK)]])
        return _Prompt(first, length, start, blocks, masks)

    def _mask(self, own: Tensor, places: Tensor, window: int | None) -> Tensor:
        """What is added to scores [queries, keys]: 0 where the query at `own` [queries, 1] sees a key of `places`.

        A query sees itself and what is before it, inside the window. Made once a step: a boolean mask would be turned
        into this one in every layer.
        """
        hidden = places > own
        if window is not None:
            hidden |= places <= own - window
        return torch.zeros(hidden.shape, dtype=self._dtype, device=self._device).masked_fill_(hidden, -torch.inf)

    def _tensor(self, numbers: list[int] | list[list[int]]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self._device)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions: feature i turns with i + half. x [tokens, heads, features], angles [tokens, 1, half]."""
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)


def _segments(chunks: Sequence[Chunk]) -> list[tuple[LoadedAdapter, int, int]]:
    """Neighbouring rows of the same adapter as (adapter, first row, end)."""
    segments: list[tuple[LoadedAdapter, int, int]] = []
    row = 0
    for chunk in chunks:
        end = row + len(chunk.tokens)
        if chunk.adapter is not None:
            if segments and segments[-1][0] is chunk.adapter and segments[-1][2] == row:
                segments[-1] = (chunk.adapter, segments[-1][1], end)
            else:
                segments.append((chunk.adapter, row, end))
        row = end
    return segments
