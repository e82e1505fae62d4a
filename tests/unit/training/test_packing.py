"""Documents side by side in one row of models outside the hand-written family, against one example at a time."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedModel,
    StableLmConfig,
    StableLmForCausalLM,
)

from tailorbird.lm.lora import all_linear, attach, lora_parameters
from tailorbird.training.batches import Example, Pair, collate, packs
from tailorbird.training.losses import accumulate_gradients, evaluate
from tailorbird.training.packing import reason_against_packs
from tailorbird.training.preferences import accumulate_pair_gradients, evaluate_pairs, pair_logprobs

VOCAB = 61
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
    "initializer_range": 0.3,
    "attn_implementation": "sdpa",
}
WIDE: dict[str, Any] = SHAPE | {"hidden_size": 32, "partial_rotary_factor": 0.5}
EAGER: dict[str, Any] = SHAPE | {"attn_implementation": "eager"}
PACKED: dict[str, Callable[[], PreTrainedModel]] = {
    "gpt-neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE)),
    "olmo2": lambda: Olmo2ForCausalLM(Olmo2Config(**SHAPE, num_key_value_heads=2)),
    "granite": lambda: GraniteForCausalLM(GraniteConfig(**SHAPE, num_key_value_heads=2, logits_scaling=3.0)),
    "cohere": lambda: CohereForCausalLM(CohereConfig(**SHAPE, num_key_value_heads=2)),
    "phi": lambda: PhiForCausalLM(PhiConfig(**WIDE)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=200)),
}


def made(build: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    """The frozen model with an adapter that is away from its start."""
    torch.manual_seed(3)
    model = build().eval().requires_grad_(False)
    attach(model, all_linear(model, rank=3, alpha=6), 1)
    for parameter in lora_parameters(model):
        nn.init.normal_(parameter, std=0.1)
    return model


def some_examples(count: int = 7) -> list[Example]:
    draw = random.Random(4)
    examples: list[Example] = []
    for line in range(1, count + 1):
        ids = tuple(draw.randrange(VOCAB) for _ in range(draw.randint(2, 30)))
        positions = tuple(sorted(draw.sample(range(1, len(ids)), draw.randint(1, min(5, len(ids) - 1)))))
        examples.append(Example(line, ids, positions, tuple(draw.choice((0.5, 1.0)) for _ in positions)))
    return examples


def some_pairs() -> list[Pair]:
    examples = some_examples(8)
    return [
        Pair(line, preferred, other, (-9.0, -9.5))
        for line, (preferred, other) in enumerate(zip(examples[::2], examples[1::2], strict=True), 1)
    ]


def gradients(model: PreTrainedModel, compute: Callable[[], Any]) -> tuple[Any, torch.Tensor]:
    for parameter in lora_parameters(model):
        parameter.grad = None
    found = compute()
    return found, torch.cat([p.grad.flatten() for p in lora_parameters(model) if p.grad is not None])


def plainly(model: PreTrainedModel, examples: list[Example]) -> float:
    """The loss and its gradients, one whole example after the other through the model as it is."""
    total = sum(sum(example.weights) for example in examples)
    loss = torch.zeros(())
    for example in examples:
        logits = model(input_ids=torch.tensor([example.token_ids])).logits[0, [i - 1 for i in example.positions]]
        wanted = torch.tensor([example.token_ids[i] for i in example.positions])
        each = functional.cross_entropy(logits, wanted, reduction="none") * torch.tensor(example.weights)
        loss = loss + each.sum() / total
    loss.backward()
    return loss.item()


@pytest.mark.parametrize("family", PACKED)
@pytest.mark.parametrize("limit", [1000, 40])
def test_packed_documents_have_the_loss_and_gradients_of_one_example_at_a_time(family: str, limit: int):
    model, examples = made(PACKED[family]), some_examples()
    assert reason_against_packs(model, longest=100) is None
    loss, expected = gradients(model, lambda: plainly(model, examples))
    score, found = gradients(model, lambda: accumulate_gradients(model, examples, token_limit=limit, packed=True))
    assert score.loss == pytest.approx(loss, rel=1e-5)
    assert float((found - expected).norm() / expected.norm()) < 1e-4
    assert evaluate(model, examples, token_limit=limit, packed=True).nll == pytest.approx(score.nll, rel=1e-6)


def test_packed_pairs_have_the_score_and_gradients_of_padded_ones():
    model, pairs = made(PACKED["gpt-neox"]), some_pairs()
    score, expected = gradients(model, lambda: accumulate_pair_gradients(model, pairs, beta=0.3, token_limit=1))
    packed, found = gradients(
        model, lambda: accumulate_pair_gradients(model, pairs, beta=0.3, token_limit=500, packed=True)
    )
    assert (packed.nll, packed.margin) == pytest.approx((score.nll, score.margin), rel=1e-4)
    assert (packed.right, packed.pairs, packed.weight, packed.correct) == (
        score.right,
        score.pairs,
        score.weight,
        score.correct,
    )
    assert float((found - expected).norm() / expected.norm()) < 1e-4
    again = evaluate_pairs(model, pairs, beta=0.3, token_limit=60, packed=True)
    assert again.margin == pytest.approx(score.margin, rel=1e-4)
    sums = [value for pair in pair_logprobs(model, pairs, token_limit=500, packed=True) for value in pair]
    apart = [value for pair in pair_logprobs(model, pairs, token_limit=1) for value in pair]
    assert sums == pytest.approx(apart, rel=1e-5)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: FalconForCausalLM(FalconConfig(**SHAPE)), "where a document ends"),
        (lambda: StableLmForCausalLM(StableLmConfig(**SHAPE, num_key_value_heads=2)), "where a document ends"),
        (
            lambda: BloomForCausalLM(BloomConfig(vocab_size=VOCAB, hidden_size=24, n_layer=2, n_head=4)),
            "where a document ends",
        ),
        (
            lambda: Gemma2ForCausalLM(Gemma2Config(**EAGER)),
            "where a document ends",
        ),
        (lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=99)), "window"),
    ],
    ids=["falcon", "stablelm", "bloom", "capped scores", "a short window"],
)
def test_a_model_that_cannot_keep_documents_apart_says_why(build: Callable[[], PreTrainedModel], reason: str):
    assert reason in (reason_against_packs(build().eval(), longest=100) or "")


def test_a_model_whose_documents_see_each_other_is_found_out_by_the_trial():
    model = made(PACKED["olmo2"])
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, nn.Module)
    embedding.register_forward_hook(lambda _module, _args, states: states.cumsum(1))  # carries a state along
    assert "trial" in (reason_against_packs(model, longest=100) or "")


def test_the_model_is_as_it_was_after_a_pack():
    model, examples = made(PACKED["granite"]), some_examples()
    ids = torch.tensor([examples[0].token_ids])
    before = model(ids).logits
    accumulate_gradients(model, examples, token_limit=99, packed=True)
    assert torch.equal(model(ids).logits, before)


def test_a_pack_is_one_row_without_padding():
    examples = some_examples()
    batch = collate(examples, torch.device("cpu"), packed=True)
    assert batch.input_ids.shape == (1, sum(example.length for example in examples))
    assert batch.documents == tuple(example.length for example in examples)
    groups = packs(examples, token_limit=40)
    assert sorted(example.line for group in groups for example in group) == [example.line for example in examples]
    assert all(sum(example.token_count for example in group) <= 40 for group in groups)
    assert len(groups) == -(-sum(example.token_count for example in examples) // 40)
    assert [len(group) for group in packs(examples, token_limit=1)] == [1] * len(examples)
