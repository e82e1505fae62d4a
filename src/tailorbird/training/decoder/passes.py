"""Forward and backward over a forest, in passes of bounded size that share the keys of the nodes above them.

A subtree that fits within the limit is one pass, with others beside it. Of a larger one the root node is a pass of its
own: its forward comes first, then its children's passes, each forward and backward, which add to the gradient of its
keys and values, and last its backward. So every token is computed once and memory holds one path of the tree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tailorbird.training.decoder.attention import Block, Keys, Masks
from tailorbird.training.decoder.family import LOGITS_AT_ONCE, Decoder
from tailorbird.training.decoder.layer import Memory, View
from tailorbird.training.decoder.tree import Forest, Node

Coefficients = Callable[[Tensor], Tensor]
"""From the numbers [K] of predictions with known log-probabilities to the loss's gradient by minus each of those."""


@dataclass(slots=True)
class Predictions:
    """Of a forest: each prediction's log-probability in nats, and whether its token is the likeliest."""

    logprobs: Tensor  # [count] float32
    correct: Tensor  # [count] bool

    @classmethod
    def of(cls, count: int, device: torch.device) -> Predictions:
        return cls(torch.zeros(count, device=device), torch.zeros(count, dtype=torch.bool, device=device))


def passes_of(siblings: Sequence[Node], limit: int) -> list[list[Node]]:
    """Neighbours grouped so that a group's subtrees have at most `limit` tokens; a larger one stands alone."""
    groups: list[list[Node]] = []
    size = 0
    for node in siblings:
        if not groups or size + node.size > limit:
            groups.append([])
            size = 0
        groups[-1].append(node)
        size += node.size
    return groups


@dataclass(slots=True)
class Sweep:
    """One run over a forest. Without `coefficients` there is no gradient."""

    decoder: Decoder
    forest: Forest
    limit: int
    coefficients: Coefficients | None
    recompute: bool
    """Whether a layer's memory is made again for its gradient instead of being held."""
    predictions: Predictions

    @torch.no_grad()
    def run(self) -> None:
        """Fills in the predictions and adds to the gradients of the adapter."""
        self.decoder.refresh()
        try:
            self._walk(self.forest.roots, [])
        finally:
            self.decoder.forget()

    def _walk(self, siblings: Sequence[Node], above: list[_Pass]) -> None:
        for group in passes_of(siblings, self.limit):
            split = _splits(group, self.limit)
            one = _Pass(self, group if split else _subtrees(group), above)
            one.forward(keep=self.coefficients is not None)
            if split:
                self._walk(group[0].children, [*above, one])
            if self.coefficients is not None:
                one.backward()


def held_tokens(siblings: Sequence[Node], limit: int) -> int:
    """Most tokens whose memory a sweep with a gradient holds at once."""
    most = 0
    for group in passes_of(siblings, limit):
        if _splits(group, limit):
            most = max(most, len(group[0].tokens) + held_tokens(group[0].children, limit))
        else:
            most = max(most, sum(node.size for node in group))
    return most


def _splits(group: Sequence[Node], limit: int) -> bool:
    """Whether the root node of a subtree runs before those below it; only a group of one is ever too large."""
    return group[0].size > limit and bool(group[0].children)


def _subtrees(roots: Sequence[Node]) -> list[Node]:
    """All nodes, each before its children."""
    found: list[Node] = []
    work = list(reversed(roots))
    while work:
        node = work.pop()
        found.append(node)
        work += reversed(node.children)
    return found


class _Pass:
    """Some nodes that run together; `above` are the passes that hold their ancestors, the root's first."""

    def __init__(self, sweep: Sweep, nodes: Sequence[Node], above: Sequence[_Pass]) -> None:
        self._sweep = sweep
        self._decoder = sweep.decoder
        self._above = above
        self._nodes = nodes
        self._places: dict[Node, int] = {}
        self.length = 0
        for node in nodes:
            self._places[node] = self.length
            self.length += len(node.tokens)
        self._inputs: list[Tensor] = []  # of each layer
        self._memories: list[Memory] = []
        self._keys: list[Keys] = []
        self._views = self._lay_out()
        self._dlast: Tensor | None = None

    def forward(self, *, keep: bool) -> None:
        """Fills in the sweep's predictions of these nodes. `keep` what the backward needs."""
        tokens = [token for node in self._nodes for token in node.tokens]
        x = self._decoder.embed(self._tensor(tokens))
        for i, layer in enumerate(self._decoder.layers):
            if keep:
                self._inputs.append(x)
            x, memory = layer.forward(x, self._view(i))
            self._keys.append(memory.keys)
            if keep and not self._sweep.recompute:
                self._memories.append(memory)
        if len(x):
            self._predict(x, keep=keep)

    def backward(self) -> None:
        """Adds these nodes' share to the gradients of the adapter and of the keys above."""
        dx = self._dlast
        if dx is None:
            dx = self._inputs[-1][:0]
        for i in reversed(range(len(self._decoder.layers))):
            layer, x = self._decoder.layers[i], self._inputs.pop()
            if self._sweep.recompute:
                # The keys made first: those below have added to their gradients.
                memory = replace(layer.forward(x, self._view(i))[1], keys=self._keys[i])
            else:
                memory = self._memories.pop()
            # A missing gradient is that of the first layer's input, where the loop ends.
            dx = layer.backward(_given(dx), x, memory, self._view(i), first=i == 0)
            self._keys.pop()

    def _view(self, index: int) -> View:
        view = self._views[index == len(self._decoder.layers) - 1]
        stores = [one._keys[index] for one in self._above]
        return View(view.rows, view.row_angles, view.angles, view.blocks, stores)

    def _lay_out(self) -> tuple[View, View]:
        """For all layers but the last, and for the last, where only predicting tokens need a state."""
        positions = [node.start + i for node in self._nodes for i in range(len(node.tokens))]
        angles, scaled = self._decoder.angles(self._tensor(positions))
        masks = Masks(self._decoder.heads.group, self._decoder.dtype, self._decoder.device)
        whole: list[Block] = []
        few: list[Block] = []
        rows: list[int] = []
        for node in self._nodes:
            first, sources = self._places[node], self._sources(node)
            whole.append(Block(sources, masks.whole(first, len(node.tokens))))
            predicting = sorted(set(node.rows))
            if predicting:
                few.append(Block(sources, masks.some(len(rows), predicting)))
                rows += [first + row for row in predicting]
        chosen = self._tensor(rows)
        return (
            View(None, scaled, angles, whole, ()),
            View(chosen, scaled.of(chosen), angles, few, ()),
        )

    def _sources(self, node: Node) -> tuple[tuple[int, int, int], ...]:
        """Where the keys of the ancestors and of `node` itself lie: (pass, first, last), this pass being the last."""
        holders = [*self._above, self]
        found: list[tuple[int, int, int]] = []
        for one in (*node.ancestors, node):
            holder = next(i for i, candidate in enumerate(holders) if one in candidate._places)
            first = holders[holder]._places[one]
            last = first + len(one.tokens)
            joins = one is not node and found and found[-1][0] == holder and found[-1][2] == first
            if joins:
                first = found.pop()[1]
            found.append((holder, first, last))
        return tuple(found)

    def _predict(self, x: Tensor, *, keep: bool) -> None:
        """x [rows, hidden] after the last layer. The gradient is formed here, so the logits are never held at once."""
        decoder, sweep = self._decoder, self._sweep
        normed, inverse = decoder.norm.forward(x)
        entries = self._entries()
        dnormed = torch.zeros_like(normed, dtype=torch.float32) if keep else None
        at_once = max(1, LOGITS_AT_ONCE // decoder.head.shape[0])
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for low in range(0, entries.shape[1], at_once):
            rows, wanted, numbers = entries[:, low : low + at_once]
            logits = (normed[rows] @ decoder.head.T).float()
            top, likeliest = logits.max(-1, keepdim=True)
            picked = logits.gather(1, wanted[:, None]) - top
            sweep.predictions.correct[numbers] = likeliest[:, 0] == wanted
            chances = logits.sub_(top).exp_()  # in place: this is the largest tensor there is
            total = chances.sum(-1, keepdim=True)
            sweep.predictions.logprobs[numbers] = (picked - total.log())[:, 0]
            if keep:
                chances.div_(total).scatter_add_(1, wanted[:, None], torch.full_like(picked, -1.0))
                parts.append((rows, numbers, chances.to(x.dtype) @ decoder.head))
        if dnormed is None or sweep.coefficients is None:
            return
        for rows, numbers, gradient in parts:  # the loss's share of each is known only now
            dnormed.index_add_(0, rows, gradient * sweep.coefficients(numbers)[:, None])
        self._dlast = decoder.norm.backward(dnormed.to(x.dtype), x, inverse)

    def _entries(self) -> Tensor:
        """Row, wanted token and number of each prediction [3, K]."""
        rows: list[int] = []
        wanted: list[int] = []
        numbers: list[int] = []
        before = 0
        for node in self._nodes:
            predicting = {row: before + i for i, row in enumerate(sorted(set(node.rows)))}
            before += len(predicting)
            rows += [predicting[row] for row in node.rows]
            wanted += node.wanted
            numbers += node.targets
        return torch.tensor([rows, wanted, numbers], dtype=torch.int64, device=self._decoder.device)

    def _tensor(self, numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self._decoder.device)


def _given(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    return gradient
