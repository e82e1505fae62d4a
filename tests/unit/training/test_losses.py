from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import nn
from torch.nn import functional
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tailorbird.lm.adapter import save_adapter
from tailorbird.lm.loading import load_base
from tailorbird.lm.lora import adapter_state, all_linear, attach, lora_layers, lora_parameters
from tailorbird.training.batches import Example, collate
from tailorbird.training.losses import accumulate_gradients, evaluate, example_logprobs, target_logits

VOCAB = 97
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}


def some_examples(count: int = 7) -> list[Example]:
    """Conversations of one to three turns: unequal lengths, several trained spans, untrained tails."""
    source = random.Random(4)
    examples: list[Example] = []
    for line in range(1, count + 1):
        ids: list[int] = []
        positions: list[int] = []
        for _ in range(source.randint(1, 3)):
            ids += [source.randrange(VOCAB) for _ in range(source.randint(2, 12))]
            answer = [source.randrange(VOCAB) for _ in range(source.randint(1, 6))]
            positions += range(len(ids), len(ids) + len(answer))
            ids += answer
        ids += [source.randrange(VOCAB)] * source.randint(0, 2)
        examples.append(Example(line, tuple(ids), tuple(positions), (1.0,) * len(positions)))
    return examples


def adapted(folder: Path) -> PreTrainedModel:
    """The model with an adapter away from its start, so that A has a gradient too."""
    model = load_base(folder, dtype=torch.float32)
    attach(model, all_linear(model, rank=4, alpha=8), 1)
    torch.manual_seed(2)
    for layer in lora_layers(model).values():
        nn.init.normal_(layer.lora_b, std=0.1)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SHAPE)).save_pretrained(path)
    return path


def test_loss_and_gradients_equal_those_of_transformers_and_peft_one_example_at_a_time(folder: Path, tmp_path: Path):
    model, examples = adapted(folder), some_examples()
    save_adapter(
        tmp_path / "adapter",
        adapter_state(model),
        all_linear(load_base(folder, dtype=torch.float32), rank=4, alpha=8),
        "",
    )
    base = load_base(folder, dtype=torch.float32)
    peft = PeftModel.from_pretrained(base, str(tmp_path / "adapter"), is_trainable=True)

    total = sum(len(example.positions) for example in examples)
    loss = torch.zeros(())
    for example in examples:
        labels = [-100] * len(example.token_ids)
        for position in example.positions:
            labels[position] = example.token_ids[position]
        logits = peft(input_ids=torch.tensor([example.token_ids])).logits[0, :-1]
        loss = loss + functional.cross_entropy(logits, torch.tensor(labels[1:]), reduction="sum") / total
    loss.backward()

    score = accumulate_gradients(model, examples, token_limit=40)
    assert score.loss == pytest.approx(loss.item(), rel=1e-5)
    theirs = dict(peft.named_parameters())
    for name, layer in lora_layers(model).items():
        for side, mine in (("lora_A", layer.lora_a), ("lora_B", layer.lora_b)):
            reference = theirs[f"base_model.model.{name}.{side}.default.weight"].grad
            assert reference is not None
            assert mine.grad is not None
            assert (mine.grad - reference).norm() <= 1e-4 * reference.norm(), name


def test_how_a_batch_is_cut_does_not_change_its_gradient(folder: Path):
    gradients: list[torch.Tensor] = []
    for limit in (1, 40, 10_000):
        model = adapted(folder)
        accumulate_gradients(model, some_examples(), token_limit=limit)
        gradients.append(
            torch.cat([parameter.grad.flatten() for parameter in lora_parameters(model) if parameter.grad is not None])
        )
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(gradients[2], gradients[0], rtol=1e-4, atol=1e-7)


def test_a_token_counts_by_its_weight(folder: Path):
    model = adapted(folder)
    plain = Example(1, (5, 6, 7, 8), (2, 3), (1.0, 1.0))
    first, second = (-logprob for logprob in example_logprobs(model, plain))
    weighted = Example(1, (5, 6, 7, 8), (2, 3), (1.0, 0.25))
    score = evaluate(model, [weighted], token_limit=100)
    assert score.loss == pytest.approx((first + 0.25 * second) / 1.25, rel=1e-5)
    assert score.weight == 1.25


def test_accuracy_is_the_share_of_trained_tokens_the_model_would_have_chosen(folder: Path):
    model = load_base(folder, dtype=torch.float32)
    prompt = [5, 6, 7]
    best = int(model(torch.tensor([prompt])).logits[0, -1].argmax())
    right = Example(1, (*prompt, best), (3,), (1.0,))
    wrong = Example(2, (*prompt, (best + 1) % VOCAB), (3,), (1.0,))
    assert evaluate(model, [right, wrong, wrong, wrong], token_limit=100).accuracy == 0.25


def test_evaluation_gives_the_training_score_and_no_gradient(folder: Path):
    model = adapted(folder)
    score = evaluate(model, some_examples(), token_limit=60)
    assert all(parameter.grad is None for parameter in lora_parameters(model))
    assert score.loss == pytest.approx(accumulate_gradients(model, some_examples(), token_limit=60).loss, rel=1e-6)


def test_logprobs_are_of_the_trained_tokens_in_order(folder: Path):
    model, example = adapted(folder), some_examples()[0]
    logprobs = functional.log_softmax(model(torch.tensor([example.token_ids])).logits[0], dim=-1)
    expected = [logprobs[i - 1, example.token_ids[i]].item() for i in example.positions]
    assert example_logprobs(model, example) == pytest.approx(expected, rel=1e-5)
    assert math.isclose(-sum(expected), evaluate(model, [example], token_limit=100).nll, rel_tol=1e-5)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8, tie_word_embeddings=True)),
        lambda: Phi3ForCausalLM(Phi3Config(**SHAPE)),
        lambda: Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=8, final_logit_softcapping=0.02)),
        lambda: CohereForCausalLM(CohereConfig(**SHAPE, logit_scale=0.0625)),
    ],
    ids=["tied head", "fused projections", "soft-capped logits", "scaled logits"],
)
def test_logits_at_targets_are_those_of_the_whole_model(build: Any):
    torch.manual_seed(0)
    model = build().eval()
    examples = some_examples(3)
    batch = collate(examples, torch.device("cpu"))
    whole = model(input_ids=batch.input_ids).logits[batch.rows, batch.columns]
    torch.testing.assert_close(target_logits(model, batch), whole, rtol=1e-5, atol=1e-6)
    assert model.get_output_embeddings()(torch.zeros(2, 3, 32)).shape == (2, 3, VOCAB)  # the head is its old self again
