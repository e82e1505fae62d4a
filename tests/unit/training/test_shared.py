from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from tailorbird.lm.loading import load_base
from tailorbird.lm.lora import all_linear, attach, lora_parameters
from tailorbird.training.batches import Example, Pair
from tailorbird.training.decoder.family import Decoder
from tailorbird.training.decoder.passes import Sweep
from tailorbird.training.losses import accumulate_gradients, evaluate
from tailorbird.training.preferences import accumulate_pair_gradients, evaluate_pairs, pair_logprobs
from tailorbird.training.shared import Shared

VOCAB = 61


@pytest.fixture
def model(llama_folder: Path) -> PreTrainedModel:
    model = load_base(llama_folder, dtype=torch.float32)
    attach(model, all_linear(model, rank=3, alpha=6), 1)
    torch.manual_seed(2)
    for parameter in lora_parameters(model):
        nn.init.normal_(parameter, std=0.1)
    return model


def shared(model: PreTrainedModel, limit: int) -> Shared:
    decoder = Decoder.of(model, longest=200)
    assert decoder is not None
    return Shared(decoder, lora_parameters(model), limit=limit)


def tokens(draw: random.Random, count: int) -> tuple[int, ...]:
    return tuple(draw.randrange(VOCAB) for _ in range(count))


def some_examples(count: int = 6) -> list[Example]:
    draw = random.Random(7)
    prompt = tokens(draw, 20)
    examples: list[Example] = []
    for line in range(1, count + 1):
        ids = (*prompt, *tokens(draw, draw.randint(4, 15)))
        positions = tuple(range(len(ids) - draw.randint(1, 4), len(ids)))
        examples.append(Example(line, ids, positions, tuple(draw.choice((0.5, 1.0)) for _ in positions)))
    return examples


def some_pairs(count: int = 5) -> list[Pair]:
    draw = random.Random(8)
    prompts = [tokens(draw, 20), tokens(draw, 18)]
    pairs: list[Pair] = []
    for line in range(1, count + 1):
        asked = (*draw.choice(prompts), *tokens(draw, 17))
        sides: list[Example] = []
        for _ in range(2):
            ids = (*asked, *tokens(draw, draw.randint(2, 9)))
            positions = tuple(range(len(asked), len(ids)))
            sides.append(Example(line, ids, positions, (1.0,) * len(positions)))
        pairs.append(Pair(line, sides[0], sides[1], reference=(-20.0 - line, -21.0)))
    return pairs


def gradients(model: PreTrainedModel, compute: Callable[[], Any]) -> tuple[Any, torch.Tensor]:
    for parameter in lora_parameters(model):
        parameter.grad = None
    result = compute()
    return result, torch.cat([p.grad.flatten() for p in lora_parameters(model) if p.grad is not None])


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert (found - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("limit", [1000, 40, 1])
def test_a_batch_has_the_score_and_gradient_of_the_stock_path(model: PreTrainedModel, limit: int):
    examples = some_examples()
    score, gradient = gradients(model, lambda: accumulate_gradients(model, examples, token_limit=200))
    trained = shared(model, limit)
    found, ours = gradients(model, lambda: trained.accumulate(examples))
    assert (found.loss, found.accuracy) == pytest.approx((score.loss, score.accuracy), rel=1e-5)
    assert found.weight == score.weight
    assert_close(ours, gradient)


def test_a_set_has_the_score_of_the_stock_path_and_leaves_gradients_alone(model: PreTrainedModel):
    examples, trained = some_examples(), shared(model, 40)
    _, before = gradients(model, lambda: trained.accumulate(examples[:2]))
    found = trained.evaluate(examples)
    assert found.loss == pytest.approx(evaluate(model, examples, token_limit=200).loss, rel=1e-5)
    assert torch.equal(torch.cat([p.grad.flatten() for p in lora_parameters(model) if p.grad is not None]), before)


@pytest.mark.parametrize("limit", [1000, 60, 1])
def test_pairs_have_the_score_and_gradient_of_the_stock_path(model: PreTrainedModel, limit: int):
    pairs, trained = some_pairs(), shared(model, limit)
    score, gradient = gradients(model, lambda: accumulate_pair_gradients(model, pairs, beta=0.3, token_limit=300))
    found, ours = gradients(model, lambda: trained.accumulate_pairs(pairs, beta=0.3))
    for one, other in ((found, score), (trained.evaluate_pairs(pairs, beta=0.3), score)):
        assert (one.nll, one.margin) == pytest.approx((other.nll, other.margin), rel=1e-4)
        assert (one.right, one.pairs, one.weight) == (other.right, other.pairs, other.weight)
        assert one.correct == pytest.approx(other.correct)
    assert score.nll == pytest.approx(evaluate_pairs(model, pairs, beta=0.3, token_limit=300).nll, rel=1e-5)
    assert_close(ours, gradient)


def test_the_reference_of_pairs_is_that_of_the_stock_path(model: PreTrainedModel):
    found = shared(model, 40).logprobs(some_pairs())
    expected = pair_logprobs(model, some_pairs(), token_limit=100)
    assert [value for pair in found for value in pair] == pytest.approx(
        [v for pair in expected for v in pair], rel=1e-5
    )


def test_what_was_computed_is_counted(model: PreTrainedModel):
    trained = shared(model, 1000)
    examples = some_examples()
    trained.accumulate(examples)
    work = trained.work
    assert (work.examples, work.targets) == (6, sum(len(example.positions) for example in examples))
    assert work.given_tokens == sum(example.length for example in examples)
    assert work.tokens == work.given_tokens - 5 * 20  # the prompt's tokens are computed once
    frozen = 2 * (24 * 24 * 2 + 24 * 12 * 2 + 3 * 24 * 40)
    assert work.operations > 4 * frozen * work.tokens
    assert work.seconds > 0
    trained.accumulate_pairs(some_pairs(), beta=0.1)
    assert work.examples == 6 + 5


class Scarce:
    """Runs out of memory in the middle of the first passes, as many as told."""

    def __init__(self, failures: int) -> None:
        self.left = failures
        self.limits: list[tuple[int, bool]] = []
        self._run = Sweep.run

    def __call__(self, sweep: Sweep) -> None:
        self.limits.append((sweep.limit, sweep.recompute))
        self._run(sweep)
        if self.left:
            self.left -= 1
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")


def test_without_memory_a_batch_starts_over_in_smaller_passes_with_the_same_gradient(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
):
    examples, trained = some_examples(), shared(model, 64)
    _, expected = gradients(model, lambda: trained.accumulate(examples))
    scarce = Scarce(3)
    monkeypatch.setattr(Sweep, "run", lambda sweep: scarce(sweep))
    _, found = gradients(model, lambda: trained.accumulate(examples))
    assert scarce.limits == [(64, False), (32, False), (16, False), (16, True)]
    assert_close(found, expected)
    trained.evaluate(examples)
    assert scarce.limits[-1] == (16, True)  # what did not fit once is not tried again


def test_when_nothing_smaller_is_left_the_failure_is_told(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch):
    scarce = Scarce(99)
    monkeypatch.setattr(Sweep, "run", lambda sweep: scarce(sweep))
    with pytest.raises(RuntimeError, match="can't allocate"):
        shared(model, 32).accumulate(some_examples())
    assert len(scarce.limits) == 3


def test_another_failure_is_not_taken_for_a_lack_of_memory(model: PreTrainedModel):
    broken = replace(some_examples()[0], token_ids=(VOCAB,) * 30)
    with pytest.raises(IndexError):
        shared(model, 32).accumulate([broken])
