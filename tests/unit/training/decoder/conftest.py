"""Tiny models of each family, and the plain computation every result is compared with: PEFT, one example at a time."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tailorbird.lm.loading import load_base
from tailorbird.lm.lora import all_linear, attach, lora_layers
from tailorbird.training.batches import Example

VOCAB = 61
RANK = 3
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
    "initializer_range": 0.3,
}
# Heads as wide as those of published models, and weights as small: where rounding is looked at, both matter.
WIDE: dict[str, Any] = SHAPE | {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "head_dim": 64,
    "initializer_range": 0.02,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
BUILDS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=True)),
    "llama with biases": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True)),
    "llama 3": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, head_dim=8, rope_parameters=LLAMA3)),
    "yarn": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, rope_parameters=YARN)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=256)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**SHAPE, head_dim=8)),
    "phi3": lambda: Phi3ForCausalLM(Phi3Config(**SHAPE)),
    "wide llama": lambda: LlamaForCausalLM(LlamaConfig(**WIDE)),
    "wide qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**WIDE)),
    "wide gemma": lambda: GemmaForCausalLM(GemmaConfig(**WIDE)),
}


@dataclass(frozen=True)
class Reference:
    """A base folder, and the PEFT model over it whose adapter `tuned` copies."""

    folder: Path
    peft: nn.Module

    def tuned(self, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
        """Our model with the same base and the same adapter."""
        model = load_base(self.folder, dtype=dtype)
        attach(model, all_linear(model, rank=RANK, alpha=2 * RANK), 0)
        stock = dict(self.peft.named_parameters())
        with torch.no_grad():
            for name, layer in lora_layers(model).items():
                layer.lora_a.copy_(stock[f"base_model.model.{name}.lora_A.default.weight"])
                layer.lora_b.copy_(stock[f"base_model.model.{name}.lora_B.default.weight"])
        return model

    def gradients(self, examples: list[Example]) -> tuple[float, dict[str, torch.Tensor]]:
        """The mean loss over the trained tokens of all `examples`, and its gradients by PEFT's names."""
        self.peft.zero_grad()
        total = sum(weight for example in examples for weight in example.weights)
        loss = 0.0
        for example in examples:
            logits = self.peft(input_ids=torch.tensor([example.token_ids])).logits[0]
            targets = torch.tensor([example.token_ids[i] for i in example.positions])
            each = functional.cross_entropy(logits[[i - 1 for i in example.positions]], targets, reduction="none")
            part = (each * torch.tensor(example.weights)).sum() / total
            part.backward()
            loss += part.item()
        found = {name: p.grad.clone() for name, p in self.peft.named_parameters() if p.grad is not None}
        return loss, found


def largest_difference(model: PreTrainedModel, expected: dict[str, torch.Tensor]) -> float:
    """Of all adapter gradients, the largest relative one."""
    worst = 0.0
    # Where a gradient is nothing but the rounding of larger numbers, as behind a single token, none can be compared.
    least = 1e-3 + 1e-2 * max(float(gradient.norm()) for gradient in expected.values())
    for name, layer in lora_layers(model).items():
        for side, parameter in (("A", layer.lora_a), ("B", layer.lora_b)):
            reference = expected[f"base_model.model.{name}.lora_{side}.default.weight"]
            assert parameter.grad is not None
            worst = max(worst, float((parameter.grad - reference).norm()) / max(float(reference.norm()), least))
    return worst


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Reference]:
    """The reference of a family, made once."""
    made: dict[str, Reference] = {}

    def make(family: str) -> Reference:
        if family not in made:
            torch.manual_seed(len(made))
            model = BUILDS[family]()
            for name, parameter in model.named_parameters():
                if "norm" in name or "bias" in name:  # at their start they are all ones or zeros
                    parameter.data += 0.2 * torch.randn_like(parameter)
            folder = tmp_path_factory.mktemp("base")
            model.save_pretrained(folder)
            base = load_base(folder, dtype=torch.float32)
            targets = list(all_linear(base, rank=RANK, alpha=2 * RANK).target_modules)
            config = LoraConfig(r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, target_modules=targets)
            peft = get_peft_model(base, config)
            for name, parameter in peft.named_parameters():
                if "lora_B" in name:  # away from its start, so that A has a gradient too
                    nn.init.normal_(parameter, std=0.1)
            made[family] = Reference(folder, peft)
        return made[family]

    return make


def conversations(count: int, *, shared: int, seed: int = 5) -> list[Example]:
    """Examples of one to three turns; `shared` first tokens are those of one of two system prompts."""
    draw = random.Random(seed)
    prompts = [[draw.randrange(VOCAB) for _ in range(shared)] for _ in range(2)]
    examples: list[Example] = []
    for line in range(1, count + 1):
        ids = list(draw.choice(prompts))
        positions: list[int] = []
        for _ in range(draw.randint(1, 3)):
            ids += [draw.randrange(VOCAB) for _ in range(draw.randint(2, 12))]
            answer = [draw.randrange(VOCAB) for _ in range(draw.randint(1, 6))]
            positions += range(len(ids), len(ids) + len(answer))
            ids += answer
        weights = tuple(draw.choice((0.5, 1.0)) for _ in positions)
        ids += [3] * draw.randint(0, 2)
        examples.append(Example(line, tuple(ids), tuple(positions), weights))
    return examples


@pytest.fixture
def make_conversations() -> Callable[..., list[Example]]:
    return conversations


@pytest.fixture
def difference() -> Callable[[PreTrainedModel, dict[str, torch.Tensor]], float]:
    return largest_difference
