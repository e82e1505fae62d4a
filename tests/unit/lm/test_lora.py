from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM

from tailorbird.lm.loading import load_base
from tailorbird.lm.lora import (
    LoraError,
    LoraLinear,
    LoraSpec,
    adapter_state,
    all_linear,
    attach,
    find_linear_targets,
    load_adapter_state,
    lora_parameters,
)

PROMPT = torch.tensor([[5, 17, 3, 80, 41, 2]])
LLAMA_TARGETS = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")


def adapted(folder: Path, *, seed: int = 1, dtype: torch.dtype = torch.float32):
    model = load_base(folder, dtype=dtype)
    attach(model, all_linear(model, rank=4, alpha=8), seed)
    return model


def test_all_linear_layers_but_the_head_are_targets(llama_folder: Path):
    model = load_base(llama_folder, dtype=torch.float32)
    names = find_linear_targets(model)
    assert len(names) == 2 * 7
    assert "lm_head" not in names
    assert all_linear(model, rank=4, alpha=8) == LoraSpec(4, 8, LLAMA_TARGETS)


def test_a_fresh_adapter_changes_nothing(llama_folder: Path):
    plain = load_base(llama_folder, dtype=torch.float32)(PROMPT).logits
    assert torch.equal(adapted(llama_folder)(PROMPT).logits, plain)


def test_start_values_depend_on_the_seed_alone(llama_folder: Path):
    first, same, other = (adapter_state(adapted(llama_folder, seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name][0], same[name][0]) for name in first)
    assert not any(torch.equal(first[name][0], other[name][0]) for name in first)
    assert all(not b.any() for _, b in first.values())


def test_a_layer_adds_alpha_over_rank_times_b_a_x():
    base = nn.Linear(6, 5)
    layer = LoraLinear(base, LoraSpec(2, 3, ("q_proj",)), torch.Generator().manual_seed(0))
    nn.init.normal_(layer.lora_b)
    x = torch.randn(4, 6)
    expected = base(x) + 1.5 * x @ layer.lora_a.T @ layer.lora_b.T
    torch.testing.assert_close(layer(x), expected)


def test_only_the_adapter_gets_a_gradient(llama_folder: Path):
    model = adapted(llama_folder)
    model(PROMPT).logits.sum().backward()
    trained = {id(parameter) for parameter in lora_parameters(model)}
    assert len(trained) == 2 * 2 * 7
    assert {id(parameter) for parameter in model.parameters() if parameter.grad is not None} == trained


def test_the_adapter_of_a_bfloat16_model_is_held_in_float32(llama_folder: Path):
    model = adapted(llama_folder, dtype=torch.bfloat16)
    assert model(PROMPT).logits.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in lora_parameters(model)} == {torch.float32}


def test_a_layer_that_cannot_be_adapted_is_refused_by_name():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2))
    with pytest.raises(LoraError, match=r"transformer\.h\.0\.attn\.c_attn: a Conv1D cannot carry"):
        find_linear_targets(model)


def test_fused_experts_are_refused_by_name():
    config = MixtralConfig(
        vocab_size=20,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=2,
    )
    with pytest.raises(LoraError, match=r"model\.layers\.0\.mlp"):
        find_linear_targets(MixtralForCausalLM(config))


def test_an_unknown_target_and_a_rank_of_zero_are_refused(llama_folder: Path):
    model = load_base(llama_folder, dtype=torch.float32)
    with pytest.raises(LoraError, match="no linear layer named c_attn"):
        attach(model, LoraSpec(4, 8, ("q_proj", "c_attn")), 0)
    with pytest.raises(LoraError, match="at least 1, not 0"):
        attach(model, LoraSpec(0, 8, ("q_proj",)), 0)


def test_state_moves_from_one_model_to_another(llama_folder: Path):
    source, target = adapted(llama_folder, seed=1), adapted(llama_folder, seed=2)
    for parameter in lora_parameters(source):
        nn.init.normal_(parameter, std=0.1)
    load_adapter_state(target, adapter_state(source))
    assert torch.equal(source(PROMPT).logits, target(PROMPT).logits)


def test_state_that_does_not_fit_is_refused_and_changes_nothing(llama_folder: Path):
    model = adapted(llama_folder, seed=1)
    before = adapter_state(model)
    name = "model.layers.1.mlp.up_proj"
    other = adapter_state(adapted(llama_folder, seed=2))
    a, b = other[name]
    misfits = {
        r"up_proj: a tensor of shape \[4, 63\] does not fit \[4, 64\]": other | {name: (a[:, 1:], b)},
        r"up_proj: the adapter holds no tensors": {key: pair for key, pair in other.items() if key != name},
        r"model\.layers\.7\.x: the model has no adapted layer": other | {"model.layers.7.x": (a, b)},
    }
    for reason, state in misfits.items():
        with pytest.raises(LoraError, match=reason):
            load_adapter_state(model, state)
    after = adapter_state(model)
    assert all(torch.equal(before[key][0], after[key][0]) for key in before)
