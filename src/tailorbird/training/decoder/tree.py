"""The prefix tree of a batch: what several examples begin with stands in it once.

Each token of the tree is computed once, whatever number of examples runs through it. That is exact: a causal model's
states at a token depend on the tokens before it alone, and the loss of a shared trained token counts with the sum of
the examples' weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tailorbird.training.batches import Example

# A shorter common beginning is computed once an example: a node of its own costs more (one more attention block in
# every layer) than a few rows in products of hundreds of rows.
_MIN_SHARED = 16


@dataclass(eq=False, slots=True)
class Node:
    """A run of tokens that the same examples share, at positions `start` and on.

    `rows[i]` is the token of this node, counted from its first, whose state predicts the token `wanted[i]`, and
    `targets[i]` is that prediction's number in the whole tree. `size` counts the tokens of the node and all below it.
    """

    tokens: tuple[int, ...]
    start: int
    parent: Node | None
    children: list[Node] = field(default_factory=list["Node"])
    rows: list[int] = field(default_factory=list[int])
    wanted: list[int] = field(default_factory=list[int])
    targets: list[int] = field(default_factory=list[int])
    size: int = 0

    @property
    def ancestors(self) -> list[Node]:
        """From the root down to the parent."""
        found: list[Node] = []
        node = self.parent
        while node is not None:
            found.append(node)
            node = node.parent
        return found[::-1]


@dataclass(frozen=True, slots=True)
class Forest:
    """The trees of some examples. Its `count` predictions are the distinct ones: (state, token) pairs.

    Trained token i of all examples (N of them, example by example) is prediction `target[i]` of example `owner[i]` and
    counts with `weight[i]`.
    """

    roots: list[Node]
    count: int
    target: NDArray[np.int64]  # [N]
    owner: NDArray[np.int64]  # [N]
    weight: NDArray[np.float64]  # [N]
    given_tokens: int

    @property
    def tokens(self) -> int:
        """Tokens that are computed; `given_tokens` would be without any sharing."""
        return sum(root.size for root in self.roots)


def grow(examples: Sequence[Example], *, min_shared: int = _MIN_SHARED) -> Forest:
    """The forest of `examples`; beginnings of fewer than `min_shared` common tokens are not shared."""
    inputs = [example.token_ids[: example.length] for example in examples]
    roots, ends = _branch(inputs, min_shared)
    ids: dict[tuple[int, int, int], int] = {}  # (node, row, token) to the number of the prediction
    target: list[int] = []
    for example, end in zip(examples, ends, strict=True):
        path = [*end.ancestors, end]
        here = 0
        for position in example.positions:
            row = position - 1
            while row >= path[here].start + len(path[here].tokens):
                here += 1
            node, token = path[here], example.token_ids[position]
            key = (id(node), row, token)
            if key not in ids:
                ids[key] = len(ids)
                node.rows.append(row - node.start)
                node.wanted.append(token)
                node.targets.append(ids[key])
            target.append(ids[key])
    return Forest(
        roots=roots,
        count=len(ids),
        target=np.asarray(target, dtype=np.int64),
        owner=np.repeat(np.arange(len(examples)), [len(example.positions) for example in examples]),
        weight=np.asarray([weight for example in examples for weight in example.weights], dtype=np.float64),
        given_tokens=sum(example.length for example in examples),
    )


def _branch(inputs: Sequence[tuple[int, ...]], min_shared: int) -> tuple[list[Node], list[Node]]:
    """The roots, and the node in which each of `inputs` ends."""
    order = sorted(range(len(inputs)), key=lambda i: (inputs[i], i))
    ordered = [inputs[i] for i in order]
    shared = _common_lengths(ordered)
    roots: list[Node] = []
    made: list[Node] = []
    ends: dict[int, Node] = {}
    work: list[tuple[int, int, int, Node | None]] = [(0, len(inputs), 0, None)]
    while work:
        low, high, depth, parent = work.pop()  # ordered[low:high] agree in their first `depth` tokens, `parent` and up
        last = len(ordered[high - 1])
        common = int(shared[low : high - 1].min()) if high - low > 1 else last
        first = low
        if common == last or common - depth >= min_shared:
            node = Node(ordered[low][depth:common], depth, parent)
            made.append(node)
            (roots if parent is None else parent.children).append(node)
            while first < high and len(ordered[first]) == common:
                ends[order[first]] = node
                first += 1
            parent, depth = node, common
        cuts = [first, *(i + 1 for i in range(first, high - 1) if shared[i] == common), high]
        work += [(a, b, depth, parent) for a, b in zip(cuts[-2::-1], cuts[:0:-1], strict=True) if b > a]
    for node in reversed(made):
        node.size = len(node.tokens) + sum(child.size for child in node.children)
    return roots, [ends[i] for i in range(len(inputs))]


def _common_lengths(ordered: Sequence[tuple[int, ...]]) -> NDArray[np.int64]:
    """How many first tokens each of `ordered` has in common with the next one."""
    lengths = np.zeros(max(0, len(ordered) - 1), dtype=np.int64)
    arrays = [np.asarray(tokens, dtype=np.int64) for tokens in ordered]
    for i in range(len(lengths)):
        left, right = arrays[i], arrays[i + 1]
        both = min(len(left), len(right))
        differ = left[:both] != right[:both]
        lengths[i] = int(differ.argmax()) if differ.any() else both
    return lengths
