from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird.training.batches import Example
from tailorbird.training.decoder.tree import Forest, Node, grow


@st.composite
def examples(draw: st.DrawFn) -> Example:
    """Of two tokens only, so that beginnings are often alike."""
    ids = draw(st.lists(st.integers(0, 1), min_size=2, max_size=12))
    positions = sorted(draw(st.sets(st.integers(1, len(ids) - 1), min_size=1)))
    return Example(1, tuple(ids), tuple(positions), tuple(float(1 + i) for i in range(len(positions))))


def nodes_of(forest: Forest) -> list[Node]:
    found, work = list[Node](), list(forest.roots)
    while work:
        found.append(work.pop())
        work += found[-1].children
    return found


def history(node: Node, row: int) -> tuple[int, ...]:
    """All tokens from the first one to `row` of the node."""
    return tuple(token for one in node.ancestors for token in one.tokens) + node.tokens[: row + 1]


@settings(deadline=None, max_examples=200)
@given(st.lists(examples(), min_size=1, max_size=8), st.integers(1, 6))
def test_every_prediction_stands_behind_the_tokens_it_stands_behind_in_its_example(batch: list[Example], least: int):
    forest = grow(batch, min_shared=least)
    predictions = {
        number: (history(node, row), wanted)
        for node in nodes_of(forest)
        for row, wanted, number in zip(node.rows, node.wanted, node.targets, strict=True)
    }
    assert sorted(predictions) == list(range(forest.count))
    given = iter(zip(forest.target, forest.owner, forest.weight, strict=True))
    for index, example in enumerate(batch):
        for position, weight in zip(example.positions, example.weights, strict=True):
            number, owner, counted = next(given)
            assert predictions[number] == (example.token_ids[:position], example.token_ids[position])
            assert (owner, counted) == (index, weight)
    assert next(given, None) is None


@settings(deadline=None, max_examples=100)
@given(st.lists(examples(), min_size=1, max_size=8))
def test_with_a_least_of_one_no_token_is_computed_twice(batch: list[Example]):
    forest = grow(batch, min_shared=1)
    beginnings = {example.token_ids[:end] for example in batch for end in range(1, example.length + 1)}
    assert forest.tokens == len(beginnings)
    assert forest.given_tokens == sum(example.length for example in batch)
    assert all(node.start == sum(len(one.tokens) for one in node.ancestors) for node in nodes_of(forest))


def test_a_short_common_beginning_is_not_a_node_of_its_own():
    batch = [Example(i, (7, 8, 9, i, i), (4,), (1.0,)) for i in range(3)]
    assert [len(root.tokens) for root in grow(batch, min_shared=4).roots] == [4, 4, 4]
    (root,) = grow(batch, min_shared=3).roots
    assert (root.tokens, root.size, len(root.children)) == ((7, 8, 9), 6, 3)


def test_equal_examples_are_computed_once_and_count_twice():
    batch = [Example(i, (7, 8, 9), (2,), (weight,)) for i, weight in ((1, 1.0), (2, 0.5))]
    forest = grow(batch)
    assert (forest.tokens, forest.count, forest.weight.tolist()) == (2, 1, [1.0, 0.5])


@pytest.mark.parametrize("least", [1, 16])
def test_thousands_of_nested_beginnings_need_no_deep_recursion(least: int):
    ids = tuple(range(3000))
    forest = grow([Example(i, ids[: i + 2], (i + 1,), (1.0,)) for i in range(0, 2998, 17)], min_shared=least)
    assert forest.tokens in (2993, 2994)  # the first of them alone has one token
