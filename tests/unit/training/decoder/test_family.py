from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
)

from tailorbird.lm.lora import LoraLinear, LoraSpec, attach, lora_parameters
from tailorbird.training.batches import Example
from tailorbird.training.decoder.family import Decoder
from tailorbird.training.decoder.passes import Predictions, Sweep
from tailorbird.training.decoder.tree import grow

SHAPE: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}


@pytest.mark.parametrize(
    "build",
    [
        lambda: CohereForCausalLM(CohereConfig(**SHAPE)),
        lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=99)),
        lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, hidden_act="relu")),
        lambda: LlamaForCausalLM(
            LlamaConfig(**SHAPE, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0})
        ),
        lambda: Phi3ForCausalLM(
            Phi3Config(
                **SHAPE, rope_parameters={"rope_theta": 1e4, "partial_rotary_factor": 0.5, "rope_type": "default"}
            )
        ),
    ],
    ids=["another family", "a window shorter than an example", "another activation", "angles by length", "half turned"],
)
def test_a_model_that_would_not_be_computed_exactly_is_left_to_the_stock_code(build: Callable[[], PreTrainedModel]):
    assert Decoder.of(build().eval(), longest=100) is None


def test_a_window_as_long_as_the_longest_example_hides_nothing():
    model = MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=100)).eval()
    assert Decoder.of(model, longest=100) is not None


def test_the_stock_model_goes_on_working_on_the_same_weights():
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE)).eval().requires_grad_(False)
    attach(model, LoraSpec(2, 4, ("q_proj", "up_proj")), 0)
    ids = torch.tensor([[3, 4, 5]])
    before = model(ids).logits
    assert Decoder.of(model, longest=100) is not None
    assert torch.equal(model(ids).logits, before)
    q, k = (model.get_submodule(f"model.layers.0.self_attn.{name}_proj") for name in "qk")
    assert isinstance(q, LoraLinear)
    assert isinstance(k, nn.Linear)
    assert q.base.weight.untyped_storage().data_ptr() == k.weight.untyped_storage().data_ptr()  # memory holds it once


@pytest.mark.parametrize("targets", [("q_proj",), ("down_proj",), ("k_proj", "gate_proj"), ("o_proj", "v_proj")])
def test_an_adapter_on_some_linears_has_the_gradients_of_autograd(targets: tuple[str, ...]):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, initializer_range=0.3)).eval().requires_grad_(False)
    attach(model, LoraSpec(2, 4, targets), 0)
    for parameter in lora_parameters(model):
        torch.nn.init.normal_(parameter, std=0.3)
    ids = tuple(range(3, 23))
    loss = model(torch.tensor([ids]), labels=torch.tensor([ids])).loss
    loss.backward()
    expected = [parameter.grad for parameter in lora_parameters(model)]
    for parameter in lora_parameters(model):
        parameter.grad = None
    decoder = Decoder.of(model, longest=100)
    assert decoder is not None
    forest = grow([Example(1, ids, tuple(range(1, 20)), (1.0,) * 19)])
    known = Predictions.of(forest.count, decoder.device)
    Sweep(decoder, forest, 100, lambda numbers: torch.full((len(numbers),), 1 / 19), False, known).run()
    for parameter, gradient in zip(lora_parameters(model), expected, strict=True):
        assert parameter.grad is not None
        assert gradient is not None
        assert (parameter.grad - gradient).norm() <= 1e-4 * gradient.norm()
