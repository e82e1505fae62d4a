"""Batches computed by several processes: here threads, which talk as processes do, each with a model of its own."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tailorbird.lm.loading import load_base
from tailorbird.lm.lora import all_linear, attach, lora_parameters
from tailorbird.training.batches import Example, Pair
from tailorbird.training.decoder.family import Decoder
from tailorbird.training.ranks import Ranks
from tailorbird.training.shared import Shared
from tailorbird.training.split import Split, cut_evenly, dismiss, serve
from tailorbird.training.stock import Stock

VOCAB = 61


class Table:
    """Where threads lay down what they have for each other."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=300)
        self.things: list[Any] = [None] * size


class ThreadRanks(Ranks):
    """The calls of `Ranks` among threads of one process."""

    table: Table

    @staticmethod
    def seated(size: int) -> list[ThreadRanks]:
        table = Table(size)
        found = [ThreadRanks(rank, size) for rank in range(size)]
        for ranks in found:
            object.__setattr__(ranks, "table", table)
        return found

    def _exchanged(self, value: Any) -> list[Any]:
        self.table.things[self.rank] = value
        self.table.barrier.wait()
        found = list(self.table.things)
        self.table.barrier.wait()
        return found

    def deal(self, hands: Sequence[Any] | None) -> Any:
        return self._exchanged(hands)[0][self.rank]

    def collect(self, value: Any) -> list[Any]:
        found = self._exchanged(value)
        return found if self.first else []

    def add_up(self, numbers: Tensor) -> None:
        found = self._exchanged(numbers.clone())
        if self.first:
            numbers.copy_(torch.stack(found).sum(0))

    def copy(self, numbers: Tensor) -> None:
        numbers.copy_(self._exchanged(numbers)[0])


def made(llama_folder: Path, *, seed: int, stock: bool) -> tuple[Shared | Stock, list[nn.Parameter]]:
    model: PreTrainedModel = load_base(llama_folder, dtype=torch.float32)
    attach(model, all_linear(model, rank=3, alpha=6), seed)
    parameters = lora_parameters(model)
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        nn.init.normal_(parameter, std=0.1, generator=generator)
    if stock:
        return Stock(model, parameters, limit=50, packed=True), parameters
    decoder = Decoder.of(model, longest=200)
    assert decoder is not None
    return Shared(decoder, parameters, limit=1000), parameters


def some_examples(count: int) -> list[Example]:
    draw = random.Random(7)
    prompts = [tuple(draw.randrange(VOCAB) for _ in range(length)) for length in (40, 25)]
    examples: list[Example] = []
    for line in range(1, count + 1):
        ids = (*draw.choice(prompts), *(draw.randrange(VOCAB) for _ in range(draw.randint(4, 30))))
        positions = tuple(range(len(ids) - draw.randint(1, 4), len(ids)))
        examples.append(Example(line, ids, positions, tuple(draw.choice((0.5, 1.0)) for _ in positions)))
    return examples


def some_pairs(count: int) -> list[Pair]:
    sides = some_examples(2 * count)
    return [
        Pair(line, preferred, other, (-9.0, -8.0))
        for line, (preferred, other) in enumerate(zip(sides[::2], sides[1::2], strict=True), 1)
    ]


def together(llama_folder: Path, size: int, *, stock: bool, work: Callable[[Split, list[nn.Parameter]], Any]) -> Any:
    """What `work` gives in the first of `size` processes; the others begin with other adapters."""
    first, *others = ThreadRanks.seated(size)
    threads: list[threading.Thread] = []
    for ranks in others:
        own, parameters = made(llama_folder, seed=90 + ranks.rank, stock=stock)
        threads.append(threading.Thread(target=serve, args=(own, parameters, ranks)))
    for thread in threads:
        thread.start()
    own, parameters = made(llama_folder, seed=1, stock=stock)
    try:
        return work(Split(own, parameters, first), parameters)
    finally:
        dismiss(first)
        for thread in threads:
            thread.join(300)
            assert not thread.is_alive()


def gradient(parameters: list[nn.Parameter]) -> Tensor:
    return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])


@pytest.mark.parametrize("stock", [False, True], ids=["trees", "packs"])
@pytest.mark.parametrize(("size", "count"), [(2, 7), (3, 8), (3, 1)])
def test_loss_and_gradient_are_those_of_one_process(llama_folder: Path, size: int, count: int, stock: bool):
    examples = some_examples(count)
    alone, known = made(llama_folder, seed=1, stock=stock)
    expected = alone.accumulate(examples)
    before = gradient(known)

    def work(split: Split, parameters: list[nn.Parameter]) -> tuple[Any, ...]:
        score = split.accumulate(examples)
        return score, gradient(parameters), split.evaluate(examples)

    score, found, evaluated = together(llama_folder, size, stock=stock, work=work)
    assert score.nll == pytest.approx(expected.nll, rel=1e-6)
    assert (score.weight, score.correct) == pytest.approx((expected.weight, expected.correct))
    assert evaluated.nll == pytest.approx(expected.nll, rel=1e-6)
    assert float((found - before).norm() / before.norm()) < 1e-5


@pytest.mark.parametrize("stock", [False, True], ids=["trees", "packs"])
def test_pairs_have_the_loss_gradient_and_reference_of_one_process(llama_folder: Path, stock: bool):
    pairs = some_pairs(5)
    alone, known = made(llama_folder, seed=1, stock=stock)
    expected, sums = alone.accumulate_pairs(pairs, beta=0.3), alone.logprobs(pairs)
    before = gradient(known)

    def work(split: Split, parameters: list[nn.Parameter]) -> tuple[Any, ...]:
        score = split.accumulate_pairs(pairs, beta=0.3)
        found = gradient(parameters)
        return score, found, split.evaluate_pairs(pairs, beta=0.3), split.logprobs(pairs)

    score, found, evaluated, logprobs = together(llama_folder, 2, stock=stock, work=work)
    for one in (score, evaluated):
        assert (one.nll, one.margin, one.weight) == pytest.approx(
            (expected.nll, expected.margin, expected.weight), rel=1e-5
        )
        assert (one.pairs, one.right) == (expected.pairs, expected.right)
    assert float((found - before).norm() / before.norm()) < 1e-5
    assert [v for pair in logprobs for v in pair] == pytest.approx([v for pair in sums for v in pair], rel=1e-5)


def test_each_step_of_the_optimizer_reaches_the_others(llama_folder: Path):
    examples = some_examples(6)

    def train(trained: Any, parameters: list[nn.Parameter]) -> list[float]:
        losses: list[float] = []
        optimizer = torch.optim.AdamW(parameters, lr=0.01)
        for _ in range(4):
            losses.append(trained.accumulate(examples).loss)
            optimizer.step()
            losses.append(trained.evaluate(examples[:4]).loss)
        return losses

    found = together(llama_folder, 2, stock=False, work=train)
    assert found == pytest.approx(train(*made(llama_folder, seed=1, stock=False)), rel=1e-6)
    assert found[-2] < found[0]


def test_the_work_of_all_is_counted_and_cut_alike(llama_folder: Path):
    examples = some_examples(7)

    def work(split: Split, _: list[nn.Parameter]) -> Any:
        split.cut()
        split.accumulate(examples)
        return split.work()

    counted = together(llama_folder, 2, stock=True, work=work)
    assert counted.examples == 7
    assert counted.tokens == sum(example.length for example in examples)
    assert counted.targets == sum(len(example.positions) for example in examples)


def test_parts_hold_every_sample_once_and_cost_about_the_same():
    examples = some_examples(40)
    parts = cut_evenly(examples, 4)
    assert sorted(example.line for part in parts for example in part) == list(range(1, 41))
    sizes = [len(part) for part in parts]
    assert min(sizes) >= 6
    assert [len(part) for part in cut_evenly(examples[:1], 3)].count(0) == 2
    beginnings = [{example.token_ids[:20] for example in part} for part in parts]
    assert sum(len(found) for found in beginnings) <= 5  # neighbours begin alike
