from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.dataset.render import Renderer
from tailorbird.training import TrainingError
from tailorbird.training.batches import Example, collate, cut, epoch_order, load_examples, micro_batches


def example(length: int, line: int = 1) -> Example:
    return Example(line, tuple(range(1, length + 2)), (length,), (1.0,))


def test_an_epoch_visits_every_example_once_in_an_order_of_its_own():
    first, second = (epoch_order(50, seed=105, epoch=epoch) for epoch in (1, 2))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert first != list(range(50))
    assert epoch_order(50, seed=106, epoch=1) != first


def test_the_order_of_an_epoch_is_fixed_for_ever():
    assert epoch_order(8, seed=105, epoch=1) == [1, 0, 5, 4, 3, 2, 6, 7]


def test_the_last_batch_may_be_smaller_and_is_kept():
    assert cut([5, 3, 1, 0, 2, 4, 6], 3) == [[5, 3, 1], [0, 2, 4], [6]]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(1, 150))
def test_micro_batches_hold_every_example_once_within_the_limit(lengths: list[int], limit: int):
    examples = [example(length, line) for line, length in enumerate(lengths, 1)]
    groups = micro_batches(examples, token_limit=limit)
    assert sorted(e.line for group in groups for e in group) == list(range(1, len(lengths) + 1))
    for group in groups:
        assert len(group) == 1 or len(group) * max(e.length for e in group) <= limit


def test_unequal_lengths_are_kept_apart_where_padding_would_cost_more_than_a_pass():
    lengths = [300, 10, 290, 12, 11]
    groups = micro_batches([example(n) for n in lengths], token_limit=10_000)
    assert [[e.length for e in group] for group in groups] == [[300, 290], [12, 11, 10]]


def test_nearly_equal_lengths_share_a_pass():
    assert len(micro_batches([example(n) for n in (20, 21, 22, 23)], token_limit=10_000)) == 1


@given(st.lists(st.integers(1, 400), min_size=1, max_size=6), st.integers(100, 900))
def test_no_other_grouping_of_neighbours_costs_less(lengths: list[int], limit: int):
    def cost(groups: list[list[int]]) -> float:
        if any(len(group) > 1 and len(group) * max(group) > limit for group in groups):
            return float("inf")
        return sum(len(group) * max(group) + 64 for group in groups)

    ordered = sorted(lengths, reverse=True)
    best = min(
        cost([ordered[a:b] for a, b in itertools.pairwise((0, *cuts, len(ordered)))])
        for count in range(len(ordered))
        for cuts in itertools.combinations(range(1, len(ordered)), count)
    )
    found = micro_batches([example(n) for n in lengths], token_limit=limit)
    assert cost([[e.length for e in group] for group in found]) == best


def test_a_micro_batch_addresses_the_state_before_each_trained_token():
    examples = [Example(1, (9, 8, 7, 6, 5), (2, 3), (1.0, 1.0)), Example(2, (4, 3), (1,), (0.5,))]
    batch = collate(examples, torch.device("cpu"))
    assert batch.input_ids.tolist() == [[9, 8, 7], [4, 0, 0]]  # nothing after the last trained token's predecessor
    assert list(zip(batch.rows.tolist(), batch.columns.tolist(), batch.targets.tolist(), strict=True)) == [
        (0, 1, 7),
        (0, 2, 6),
        (1, 0, 3),
    ]
    assert batch.weights.tolist() == [1.0, 1.0, 0.5]


def write(path: Path, *conversations: list[tuple[str, str]]) -> Path:
    rows = [{"messages": [{"role": role, "content": text} for role, text in turns]} for turns in conversations]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


SHORT = [("user", "Hi"), ("assistant", "Hello")]


def test_only_the_answer_and_its_end_of_turn_are_trained(base_folder: Path, tmp_path: Path):
    renderer = Renderer.from_folder(base_folder)
    path = write(tmp_path / "rows.jsonl", *[SHORT] * 10)
    loaded = load_examples(str(path), renderer, 100, "training file")
    assert [e.line for e in loaded] == list(range(1, 11))
    trained = [loaded[0].token_ids[i] for i in loaded[0].positions]
    assert renderer.decode(trained, skip_special_tokens=False) == "Hello<|im_end|>"


def test_an_example_that_is_too_long_is_refused_with_its_line(base_folder: Path, tmp_path: Path):
    path = write(tmp_path / "rows.jsonl", SHORT, SHORT, [("user", "Hi"), ("assistant", "x" * 100)], *[SHORT] * 8)
    with pytest.raises(TrainingError, match=r"Line 3 of the validation file has \d+ tokens, more than the limit of 60"):
        load_examples(str(path), Renderer.from_folder(base_folder), 60, "validation file")


def test_a_line_that_is_no_record_is_refused(base_folder: Path, tmp_path: Path):
    path = write(tmp_path / "rows.jsonl", *[SHORT] * 11)
    path.write_text(path.read_text() + "{\n")
    with pytest.raises(TrainingError, match=r"The training file is not valid: .*12"):
        load_examples(str(path), Renderer.from_folder(base_folder), 60, "training file")
