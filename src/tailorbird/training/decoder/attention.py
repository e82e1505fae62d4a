"""Causal attention over a prefix tree: a node's tokens see their ancestors' keys and their own up to themselves.

Queries stand as [key heads, tokens x group, features]: the heads that share a key head take the place of further
tokens, so no key is ever copied for them. Scores are formed for one node and a stretch of its tokens at a time and are
computed again for the gradient, so memory for them stays small. Plain products beat PyTorch's fused attention on CPUs
for stretches this short, and its FlexAttention has no gradient there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Tokens whose scores are formed at once. Fewer skip more of the upper triangle, more make larger products.
STRETCH = 256


@dataclass(slots=True)
class Keys:
    """Keys and values [key heads, tokens, features] of one pass in one layer, and their gradients in float32."""

    k: Tensor
    v: Tensor
    dk: Tensor | None = None
    dv: Tensor | None = None

    def gradients(self) -> tuple[Tensor, Tensor]:
        """Made of zeros at their first use."""
        if self.dk is None or self.dv is None:
            self.dk = torch.zeros_like(self.k, dtype=torch.float32)
            self.dv = torch.zeros_like(self.v, dtype=torch.float32)
        return self.dk, self.dv


@dataclass(frozen=True, slots=True)
class Stretch:
    """Queries `first` to `last` see all ancestors and the first `visible` own keys, less what `mask` hides.

    `mask` is added to the scores of the last of those keys.
    """

    first: int
    last: int
    visible: int
    mask: Tensor | None


@dataclass(frozen=True, slots=True)
class Block:
    """The queries of one node. `sources` are (store, first, last) of its ancestors' keys and, last, its own."""

    sources: tuple[tuple[int, int, int], ...]
    stretches: tuple[Stretch, ...]

    @property
    def before(self) -> int:
        """Keys of the ancestors."""
        return sum(last - first for _, first, last in self.sources[:-1])


class Masks:
    """Makes the stretches of a pass; masks of the same form are made once."""

    def __init__(self, group: int, dtype: torch.dtype, device: torch.device) -> None:
        self._group = group
        self._dtype = dtype
        self._device = device
        self._triangles: dict[int, Tensor] = {}

    def whole(self, first: int, length: int) -> tuple[Stretch, ...]:
        """For all `length` tokens of a node, which are queries `first` and on."""
        stretches: list[Stretch] = []
        for low in range(0, length, STRETCH):
            high = min(low + STRETCH, length)
            stretches.append(Stretch(first + low, first + high, high, self._triangle(high - low)))
        return tuple(stretches)

    def some(self, first: int, rows: Sequence[int]) -> tuple[Stretch, ...]:
        """For the tokens `rows` of a node, in rising order, which are queries `first` and on."""
        stretches: list[Stretch] = []
        for low in range(0, len(rows), STRETCH):
            part = rows[low : low + STRETCH]
            mask = None
            if part[-1] > part[0]:
                seen = torch.tensor(part, device=self._device).repeat_interleave(self._group)[:, None]
                mask = self._hide(torch.arange(part[0] + 1, part[-1] + 1, device=self._device) > seen)
            stretches.append(Stretch(first + low, first + low + len(part), part[-1] + 1, mask))
        return tuple(stretches)

    def _triangle(self, length: int) -> Tensor | None:
        if length == 1:
            return None
        if length not in self._triangles:
            rows = torch.arange(length, device=self._device).repeat_interleave(self._group)[:, None]
            self._triangles[length] = self._hide(torch.arange(1, length, device=self._device) > rows)
        return self._triangles[length]

    def _hide(self, hidden: Tensor) -> Tensor:
        return torch.zeros(hidden.shape, dtype=self._dtype, device=self._device).masked_fill_(hidden, -torch.inf)


def attend(q: Tensor, blocks: Sequence[Block], stores: Sequence[Keys], group: int) -> Tensor:
    """The mixed values, in the layout of `q`, which is already scaled."""
    mixed = torch.empty_like(q)
    for block in blocks:
        keys, values = _gathered(block, stores, lambda store: store.k), _gathered(block, stores, lambda store: store.v)
        for part in block.stretches:
            rows = slice(part.first * group, part.last * group)
            width = block.before + part.visible
            weights = _weights(q[:, rows], keys[:, :width], part.mask)
            mixed[:, rows] = torch.bmm(weights, values[:, :width])
    return mixed


def attend_backward(dmixed: Tensor, q: Tensor, blocks: Sequence[Block], stores: Sequence[Keys], group: int) -> Tensor:
    """The gradient of `q`; those of keys and values are added to the stores'."""
    dq = torch.empty_like(q)
    for block in blocks:
        keys, values = _gathered(block, stores, lambda store: store.k), _gathered(block, stores, lambda store: store.v)
        for part in block.stretches:
            rows = slice(part.first * group, part.last * group)
            width = block.before + part.visible
            weights = _weights(q[:, rows], keys[:, :width], part.mask)
            dweights = torch.bmm(dmixed[:, rows], values[:, :width].transpose(1, 2))
            dscores = torch.ops.aten._softmax_backward_data(dweights, weights, -1, weights.dtype)
            dq[:, rows] = torch.bmm(dscores, keys[:, :width])
            dk = torch.bmm(dscores.transpose(1, 2), q[:, rows])
            dv = torch.bmm(weights.transpose(1, 2), dmixed[:, rows])
            _scatter(block, stores, dk, dv)
    return dq


def _weights(q: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
    scores = torch.bmm(q, keys.transpose(1, 2))
    if mask is not None:
        scores[..., scores.shape[-1] - mask.shape[-1] :].add_(mask)
    return torch.softmax(scores, dim=-1)


def _gathered(block: Block, stores: Sequence[Keys], side: Callable[[Keys], Tensor]) -> Tensor:
    parts = [side(stores[store])[:, first:last] for store, first, last in block.sources]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _scatter(block: Block, stores: Sequence[Keys], dk: Tensor, dv: Tensor) -> None:
    at = 0
    for store, first, last in block.sources:
        width = min(last - first, dk.shape[1] - at)  # of the own keys a stretch sees only the first
        for total, part in zip(stores[store].gradients(), (dk, dv), strict=True):
            total[:, first : first + width].add_(part[:, at : at + width])
        at += width
