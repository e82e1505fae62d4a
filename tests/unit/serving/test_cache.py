from __future__ import annotations

import torch

from tailorbird.serving.cache import BLOCK, BlockCache, Table


def make_cache(max_blocks: int = 1000) -> BlockCache:
    return BlockCache(
        layers=2, heads=1, features=4, max_blocks=max_blocks, dtype=torch.float32, device=torch.device("cpu")
    )


def fill(cache: BlockCache, table: Table, length: int, value: float) -> None:
    slots = torch.tensor([table.blocks[i // BLOCK] * BLOCK + i % BLOCK for i in range(length)])
    rows = torch.full((length, 1, 4), value)
    for layer in range(2):
        cache.write(layer, slots, rows, -rows)


def read(cache: BlockCache, table: Table, length: int) -> torch.Tensor:
    keys, values = cache.gather(1, torch.tensor([table.blocks]))
    assert torch.equal(values, -keys)
    return keys[0, 0, :length, 0]


def test_what_was_written_is_read_back_after_the_pool_has_grown() -> None:
    cache = make_cache()
    first, second = Table(), Table()
    assert cache.reserve(first, 40)
    fill(cache, first, 40, 7.0)
    assert cache.reserve(second, 500 * BLOCK)
    assert read(cache, first, 40).tolist() == [7.0] * 40


def test_a_full_pool_refuses_and_changes_nothing() -> None:
    cache = make_cache(max_blocks=2)
    table = Table()
    assert cache.reserve(table, BLOCK)
    assert not cache.reserve(table, 3 * BLOCK)
    assert len(table.blocks) == 1
    assert cache.used_blocks == 1
    assert cache.reserve(table, 2 * BLOCK)


def test_a_fork_shares_full_blocks_and_owns_its_last_one() -> None:
    cache = make_cache()
    table = Table()
    cache.reserve(table, BLOCK + 5)
    fill(cache, table, BLOCK + 5, 3.0)
    twin = cache.fork(table, BLOCK + 5)
    assert twin is not None
    assert twin.blocks[0] == table.blocks[0]
    assert twin.blocks[1] != table.blocks[1]
    assert cache.used_blocks == 3
    assert torch.equal(read(cache, twin, BLOCK + 5), read(cache, table, BLOCK + 5))
    cache.release(table)
    assert cache.used_blocks == 2
    assert read(cache, twin, BLOCK + 5).tolist() == [3.0] * (BLOCK + 5)


def test_a_fork_without_room_leaves_nothing_behind() -> None:
    cache = make_cache(max_blocks=2)
    table = Table()
    cache.reserve(table, BLOCK + 1)
    assert cache.fork(table, BLOCK + 1) is None
    cache.release(table)
    assert cache.used_blocks == 0


def test_a_pool_that_grew_is_given_back_when_nobody_holds_a_block() -> None:
    cache = make_cache()
    table = Table()
    cache.reserve(table, 200 * BLOCK)
    assert cache._pool.numel() > 0
    cache.release(table)
    assert cache._pool.numel() == 0
    assert cache.reserve(table, 10)
