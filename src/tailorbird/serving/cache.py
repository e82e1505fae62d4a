"""Keys and values of running sequences, in blocks that are handed out on demand.

    pool   [layer, k|v, head, block, position in block, feature]
    table  sequence -> its blocks, in order; a block may be shared by several tables

Memory follows what is used: the pool starts empty, doubles when it runs out, and is given back when
nobody holds a block.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

BLOCK = 32  # positions; the waste per sequence is half a block, the copy of a gather stays in long runs
_FIRST_BLOCKS = 64


@dataclass(slots=True, eq=False)
class Table:
    """The blocks of one sequence. Shared blocks are full ones: nobody writes to them again."""

    blocks: list[int] = field(default_factory=list[int])


class BlockCache:
    """A pool of at most `max_blocks` blocks for `layers` layers. Owned by the engine's thread."""

    def __init__(
        self, *, layers: int, heads: int, features: int, max_blocks: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.max_blocks = max_blocks
        self._heads = heads
        self._features = features
        # Zeros, not empty: masked positions are multiplied by 0, and 0 x NaN would be NaN.
        self._pool = torch.zeros((layers, 2, heads, 0, BLOCK, features), dtype=dtype, device=device)
        self._free: list[int] = []
        self._holders: list[int] = []

    @property
    def used_blocks(self) -> int:
        return len(self._holders) - len(self._free)

    def reserve(self, table: Table, length: int) -> bool:
        """Makes room for `length` positions in all; False, with nothing changed, when the pool cannot hold them."""
        needed = -(-length // BLOCK) - len(table.blocks)
        if needed > len(self._free):
            self._grow(needed - len(self._free))
        if needed > len(self._free):
            return False
        for _ in range(needed):
            block = self._free.pop()
            self._holders[block] = 1
            table.blocks.append(block)
        return True

    def fork(self, table: Table, length: int) -> Table | None:
        """A second table over the same first `length` positions: full blocks are shared, a part-filled one copied."""
        full, rest = divmod(length, BLOCK)
        twin = Table(list(table.blocks[:full]))
        for block in twin.blocks:
            self._holders[block] += 1
        if rest:
            if not self.reserve(twin, length):
                self.release(twin)
                return None
            self._pool[:, :, :, twin.blocks[full]] = self._pool[:, :, :, table.blocks[full]]
        return twin

    def release(self, table: Table) -> None:
        for block in table.blocks:
            self._holders[block] -= 1
            if self._holders[block] == 0:
                self._free.append(block)
        table.blocks.clear()
        if self.used_blocks == 0 and len(self._holders) > _FIRST_BLOCKS:
            self._pool = self._pool[:, :, :, :0].clone()
            self._free, self._holders = [], []

    def write(self, layer: int, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Stores keys and values [tokens, heads, features] at `slots` [tokens] (block x BLOCK + offset)."""
        flat = self._pool[layer].view(2, self._heads, -1, self._features)
        flat[0].index_copy_(1, slots, keys.transpose(0, 1))
        flat[1].index_copy_(1, slots, values.transpose(0, 1))

    def gather(self, layer: int, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [rows, heads, positions, features] of `blocks` [rows, blocks per row]."""
        rows, width = blocks.shape
        flat = blocks.reshape(-1)
        keys, values = (
            side.index_select(1, flat).view(self._heads, rows, width * BLOCK, self._features).transpose(0, 1)
            for side in self._pool[layer]
        )
        return keys, values

    def _grow(self, missing: int) -> None:
        have = len(self._holders)
        more = min(max(missing, have, _FIRST_BLOCKS), self.max_blocks - have)
        if more <= 0:
            return
        fresh = self._pool.new_zeros((*self._pool.shape[:3], more, *self._pool.shape[4:]))
        self._pool = torch.cat((self._pool, fresh), dim=3)
        self._holders.extend([0] * more)
        self._free.extend(range(have + more - 1, have - 1, -1))
