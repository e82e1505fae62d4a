"""LoRA: a frozen linear layer plus a trained low-rank detour, and the walk that puts one on every linear layer.

                 x  [.., in]
                 |------------------.
                 v                  v
          W  [out, in]         A  [r, in]        A starts uniform, B starts at zero: the model starts unchanged.
          frozen, model dtype       |  [.., r]    A and B are held in float32 (an update of 1e-4 would be lost in
                 |                  v            bfloat16) and cast to x's dtype for the two small products.
                 |             B  [out, r]
                 v                  |
                (+)<-- x alpha/r ---'
                 |
                 y  [.., out]  =  W x + (alpha / r) B A x

Source: Hu et al., https://arxiv.org/abs/2106.09685; start values as PEFT's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LoraPair = tuple[Tensor, Tensor]
"""(A [r, in], B [out, r]) of one linear layer; the scaling alpha/r is not folded in."""


class LoraError(Exception):
    """This model, these targets or these tensors do not go together; the message names the module."""


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """Shape of an adapter. `target_modules` are last parts of module names ("q_proj"), as PEFT matches them."""

    rank: int
    alpha: int
    target_modules: tuple[str, ...]

    @property
    def scaling(self) -> float:
        return self.alpha / self.rank


class LoraLinear(nn.Module):
    """y = base(x) + scaling * B(A(x)); no dropout, so equal prefixes give equal hidden states."""

    def __init__(self, base: nn.Linear, spec: LoraSpec, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.scaling = spec.scaling
        bound = 1 / math.sqrt(base.in_features)  # kaiming_uniform_(a=sqrt(5)) for a fan-in of in_features
        start = torch.empty(spec.rank, base.in_features, dtype=torch.float32).uniform_(
            -bound, bound, generator=generator
        )
        device = base.weight.device
        self.lora_a = nn.Parameter(start.to(device))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, spec.rank, dtype=torch.float32, device=device))

    def forward(self, x: Tensor) -> Tensor:
        down = functional.linear(x, self.lora_a.to(x.dtype))  # [.., r]
        # Scaling the [.., r] product instead of the [.., out] one is the cheap side of the same sum.
        return self.base(x) + functional.linear(down * self.scaling, self.lora_b.to(x.dtype))


def find_linear_targets(model: PreTrainedModel) -> list[str]:
    """Full names of all linear layers but the output head, in model order.

    Raises LoraError naming the first weight matrix that is no nn.Linear or embedding (GPT-2's Conv1D, fused experts):
    an adapter that silently left it out would not be the all-linear adapter that was asked for.
    """
    head = model.get_output_embeddings()
    names: list[str] = []
    for name, module in model.named_modules():
        if module is head or isinstance(module, nn.Embedding):
            continue
        if isinstance(module, nn.Linear):
            names.append(name)
        elif any(parameter.ndim >= 2 for parameter in module.parameters(recurse=False)):
            raise LoraError(f"{name}: a {type(module).__name__} cannot carry a LoRA adapter")
    if not names:
        raise LoraError(f"{type(model).__name__} has no linear layer to adapt")
    return names


def all_linear(model: PreTrainedModel, *, rank: int, alpha: int) -> LoraSpec:
    """The spec that adapts every linear layer of `model`."""
    suffixes = {name.rpartition(".")[2] for name in find_linear_targets(model)}
    return LoraSpec(rank, alpha, tuple(sorted(suffixes)))


def attach(model: PreTrainedModel, spec: LoraSpec, seed: int) -> dict[str, LoraLinear]:
    """Replaces the targeted linear layers of `model` in place; returns them by their full names.

    The start values depend on seed, spec and architecture alone. Raises LoraError when a target matches no layer.
    """
    if spec.rank < 1:
        raise LoraError(f"a LoRA rank must be at least 1, not {spec.rank}")
    names = [name for name in find_linear_targets(model) if name.rpartition(".")[2] in spec.target_modules]
    unmatched = sorted(set(spec.target_modules) - {name.rpartition(".")[2] for name in names})
    if unmatched:
        raise LoraError(f"{type(model).__name__} has no linear layer named {', '.join(unmatched)}")
    generator = torch.Generator().manual_seed(seed)
    layers: dict[str, LoraLinear] = {}
    for name in names:
        parent, _, child = name.rpartition(".")
        layer = LoraLinear(cast(nn.Linear, model.get_submodule(name)), spec, generator)
        setattr(model.get_submodule(parent), child, layer)
        layers[name] = layer
    return layers


def lora_layers(model: nn.Module) -> dict[str, LoraLinear]:
    """The adapted layers by their full names, in model order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}


def lora_parameters(model: nn.Module) -> list[nn.Parameter]:
    """A and B of every adapted layer, in model order: what an optimizer trains."""
    return [parameter for layer in lora_layers(model).values() for parameter in (layer.lora_a, layer.lora_b)]


def adapter_state(model: nn.Module) -> dict[str, LoraPair]:
    """Copies of all pairs on the CPU in float32, by full module name."""
    return {
        name: (layer.lora_a.detach().cpu().clone(), layer.lora_b.detach().cpu().clone())
        for name, layer in lora_layers(model).items()
    }


@torch.no_grad()
def load_adapter_state(model: nn.Module, state: dict[str, LoraPair]) -> None:
    """Puts `state` into the adapted layers of `model`; changes nothing when it raises LoraError.

    Raises LoraError naming the module that is unknown, missing or of another shape.
    """
    layers = lora_layers(model)
    for name in state.keys() - layers.keys():
        raise LoraError(f"{name}: the model has no adapted layer of this name")
    for name, layer in layers.items():
        if name not in state:
            raise LoraError(f"{name}: the adapter holds no tensors for this layer")
        for own, given in zip((layer.lora_a, layer.lora_b), state[name], strict=True):
            if own.shape != given.shape:
                raise LoraError(f"{name}: a tensor of shape {list(given.shape)} does not fit {list(own.shape)}")
    for name, layer in layers.items():
        layer.lora_a.copy_(state[name][0])
        layer.lora_b.copy_(state[name][1])
