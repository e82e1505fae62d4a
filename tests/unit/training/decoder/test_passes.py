"""The exactness gate: forests against transformers and PEFT in float32, one example at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from tailorbird.lm.lora import lora_parameters
from tailorbird.training.batches import Example
from tailorbird.training.decoder.family import Decoder
from tailorbird.training.decoder.passes import Predictions, Sweep, held_tokens, passes_of
from tailorbird.training.decoder.tree import grow
from tailorbird.training.losses import accumulate_gradients

MakeReference = Callable[[str], Any]
MakeConversations = Callable[..., list[Example]]
Difference = Callable[[PreTrainedModel, dict[str, torch.Tensor]], float]

FAMILIES = ("llama", "llama with biases", "llama 3", "yarn", "mistral", "qwen2", "qwen3", "gemma", "phi3")


def sweep(
    model: PreTrainedModel, examples: list[Example], *, limit: int, least: int = 4, recompute: bool = False
) -> float:
    """The mean loss; its gradients are in the model's adapter afterwards."""
    decoder = Decoder.of(model, longest=256)
    assert decoder is not None
    forest = grow(examples, min_shared=least)
    shares = torch.zeros(forest.count, dtype=torch.float64)
    shares.index_add_(0, torch.from_numpy(forest.target), torch.from_numpy(forest.weight / forest.weight.sum()))
    known = Predictions.of(forest.count, decoder.device)
    for parameter in lora_parameters(model):
        parameter.grad = None
    Sweep(decoder, forest, limit, lambda numbers: shares[numbers].float(), recompute, known).run()
    return -float(known.logprobs.double() @ shares)


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_peft(
    family: str, reference: MakeReference, make_conversations: MakeConversations, difference: Difference
):
    stock, examples = reference(family), make_conversations(6, shared=20)
    loss, gradients = stock.gradients(examples)
    model = stock.tuned()
    for limit in (10_000, 50):
        assert sweep(model, examples, limit=limit) == pytest.approx(loss, rel=1e-5)
        assert difference(model, gradients) < 1e-4


@st.composite
def trees(draw: st.DrawFn) -> list[Example]:
    """Examples that share beginnings at several depths, trained tokens among them, some of them equal."""
    beginnings: list[list[int]] = [[]]
    for _ in range(draw(st.integers(0, 4))):
        before = draw(st.sampled_from(beginnings))
        beginnings.append([*before, *draw(st.lists(st.integers(0, 60), min_size=1, max_size=9))])
    examples: list[Example] = []
    for line in range(1, draw(st.integers(1, 6)) + 1):
        end = draw(st.lists(st.integers(0, 2), min_size=2, max_size=8))
        ids = [*draw(st.sampled_from(beginnings)), *end]
        positions = sorted(draw(st.sets(st.integers(1, len(ids) - 1), min_size=1, max_size=6)))
        weights = draw(st.lists(st.sampled_from((0.25, 1.0, 2.0)), min_size=len(positions), max_size=len(positions)))
        examples.append(Example(line, tuple(ids), tuple(positions), tuple(weights)))
    return examples


def compare(
    family: str, examples: list[Example], limit: int, least: int, reference: MakeReference, difference: Difference
) -> None:
    stock = reference(family)
    loss, gradients = stock.gradients(examples)
    model = stock.tuned()
    assert sweep(model, examples, limit=limit, least=least) == pytest.approx(loss, rel=1e-5)
    assert difference(model, gradients) < 1e-4


@settings(
    deadline=None, max_examples=12, suppress_health_check=(HealthCheck.function_scoped_fixture, HealthCheck.too_slow)
)
@given(examples=trees(), limit=st.sampled_from((1, 8, 20, 1000)), least=st.sampled_from((1, 3, 1000)))
def test_any_tree_gives_the_loss_and_gradients_of_peft(
    examples: list[Example], limit: int, least: int, reference: MakeReference, difference: Difference
):
    compare("llama", examples, limit, least, reference, difference)


@pytest.mark.slow
@settings(
    deadline=None, max_examples=400, suppress_health_check=(HealthCheck.function_scoped_fixture, HealthCheck.too_slow)
)
@given(
    examples=trees(),
    limit=st.sampled_from((1, 8, 20, 1000)),
    least=st.sampled_from((1, 3, 1000)),
    family=st.sampled_from(FAMILIES),
)
def test_any_tree_in_any_family_gives_the_loss_and_gradients_of_peft(
    examples: list[Example], limit: int, least: int, family: str, reference: MakeReference, difference: Difference
):
    compare(family, examples, limit, least, reference, difference)


def rounding(stock: Any, make_conversations: MakeConversations) -> tuple[float, float]:
    """Mean relative distance of the gradients in bfloat16 from those in float32: ours, and those of transformers."""

    def gradients(compute: Callable[[PreTrainedModel], object], dtype: torch.dtype) -> torch.Tensor:
        model = stock.tuned(torch.bfloat16).to(dtype)
        for parameter in lora_parameters(model):
            parameter.data = parameter.data.float()
        compute(model)
        return torch.cat([p.grad.flatten() for p in lora_parameters(model) if p.grad is not None])

    ours, theirs = 0.0, 0.0
    for seed in range(4):
        examples = make_conversations(6, shared=20, seed=seed)

        def plainly(model: PreTrainedModel, examples: list[Example] = examples) -> object:
            return accumulate_gradients(model, examples, token_limit=1)

        def shared(model: PreTrainedModel, examples: list[Example] = examples) -> object:
            return sweep(model, examples, limit=10_000)

        exact = gradients(plainly, torch.float32)
        theirs += float((gradients(plainly, torch.bfloat16) - exact).norm() / exact.norm()) / 4
        ours += float((gradients(shared, torch.bfloat16) - exact).norm() / exact.norm()) / 4
    return ours, theirs


@pytest.mark.parametrize("family", ["wide llama", "wide qwen3", "wide gemma"])
def test_in_bfloat16_the_gradients_are_within_two_hundredths_and_as_near_as_those_of_transformers(
    family: str, reference: MakeReference, make_conversations: MakeConversations
):
    ours, theirs = rounding(reference(family), make_conversations)
    assert 0 < ours < 2e-2
    assert ours < 1.2 * theirs


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma", "phi3"])
def test_where_bfloat16_is_rough_it_is_no_rougher_than_in_transformers(
    family: str, reference: MakeReference, make_conversations: MakeConversations
):
    ours, theirs = rounding(reference(family), make_conversations)
    assert 0 < ours < 1.4 * theirs


def test_a_node_longer_than_a_stretch_of_attention_is_exact(
    reference: MakeReference, make_conversations: MakeConversations, difference: Difference
):
    stock, examples = reference("qwen3"), make_conversations(2, shared=230)
    draws = [*examples, Example(9, (*examples[0].token_ids, 5, 6, 7), (5, 240, len(examples[0].token_ids)), (1.0,) * 3)]
    loss, gradients = stock.gradients(draws)
    model = stock.tuned()
    assert sweep(model, draws, limit=10_000, least=10_000) == pytest.approx(loss, rel=1e-5)
    assert difference(model, gradients) < 1e-4


def test_computing_a_layer_twice_changes_no_bit(reference: MakeReference, make_conversations: MakeConversations):
    model, examples = reference("qwen3").tuned(), make_conversations(6, shared=20)
    gradients: list[list[torch.Tensor]] = []
    for recompute in (False, True):
        sweep(model, examples, limit=50, recompute=recompute)
        gradients.append([p.grad.clone() for p in lora_parameters(model) if p.grad is not None])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_passes_keep_to_their_limit_where_nodes_allow_it(make_conversations: MakeConversations):
    forest = grow(make_conversations(30, shared=20), min_shared=4)
    (large, *_), limit = sorted(forest.roots, key=lambda node: -node.size), 60
    assert large.size > limit
    groups = passes_of(large.children, limit)
    assert [node for group in groups for node in group] == large.children
    assert all(sum(node.size for node in group) <= limit for group in groups)
    longest = max(sum(node.size for node in group) for group in groups)
    assert held_tokens([large], limit) == len(large.tokens) + longest
    assert held_tokens([large], 10_000) == large.size
