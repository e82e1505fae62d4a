"""A frozen weight matrix, often several merged into one, with the LoRA pairs on parts of its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tailorbird.lm.lora import LoraLinear


@dataclass(frozen=True, slots=True)
class _Pair:
    """Outputs `low` to `high` of the layer's B are outputs `at` and on of the merged matrix."""

    layer: LoraLinear
    low: int
    high: int
    at: int

    @property
    def outputs(self) -> slice:
        return slice(self.at, self.at + self.high - self.low)


class Linear:
    """y = W x + b + the sum of its pairs. `forward` also returns what `backward` needs beside x and the gradient."""

    def __init__(self, weight: Tensor, bias: Tensor | None, pairs: Sequence[_Pair]) -> None:
        self._weight = weight  # [out, in]
        self._bias = bias
        self._pairs = list(pairs)
        self._a: Tensor | None = None  # [the pairs' ranks, in]
        self._b: list[Tensor] = []  # [high - low, rank] each, times the scaling

    @classmethod
    def merged(cls, modules: Sequence[nn.Module]) -> Linear:
        """One matrix over the outputs of all `modules`, whose own weights become views of it: memory holds it once."""
        stock = [module.base if isinstance(module, LoraLinear) else module for module in modules]
        parts = [part for part in stock if isinstance(part, nn.Linear)]
        assert len(parts) == len(modules)
        weight = parts[0].weight.detach()
        if len(parts) > 1:
            weight = _joined([part.weight.detach() for part in parts])
            for part, view in zip(parts, weight.split([part.out_features for part in parts]), strict=True):
                part.weight = nn.Parameter(view, requires_grad=False)
        biases = [cast("Tensor | None", part.bias) for part in parts]
        bias = None
        if any(one is not None for one in biases):
            filled = [
                weight.new_zeros(part.out_features) if one is None else one.detach()
                for part, one in zip(parts, biases, strict=True)
            ]
            bias = torch.cat(filled)
        pairs: list[_Pair] = []
        at = 0
        for module, part in zip(modules, parts, strict=True):
            if isinstance(module, LoraLinear):
                pairs.append(_Pair(module, 0, part.out_features, at))
            at += part.out_features
        return cls(weight, bias, pairs)

    def narrow(self, low: int, high: int) -> Linear:
        """Outputs `low` to `high` alone."""
        pairs: list[_Pair] = []
        for pair in self._pairs:
            first, last = max(low, pair.at), min(high, pair.at + pair.high - pair.low)
            if first < last:
                offset = pair.low - pair.at
                pairs.append(_Pair(pair.layer, first + offset, last + offset, first - low))
        return Linear(self._weight[low:high], None if self._bias is None else self._bias[low:high], pairs)

    @property
    def adapted(self) -> bool:
        return bool(self._pairs)

    @property
    def size(self) -> int:
        """Numbers in the frozen matrix."""
        return self._weight.numel()

    @property
    def outputs(self) -> int:
        return self._weight.shape[0]

    @property
    def rank(self) -> int:
        """Of all its pairs together."""
        return sum(pair.layer.lora_a.shape[0] for pair in self._pairs)

    @property
    def adapter_size(self) -> int:
        """Numbers in its pairs."""
        return sum(p.layer.lora_a.numel() + (p.high - p.low) * p.layer.lora_b.shape[1] for p in self._pairs)

    def refresh(self) -> None:
        """Takes over the adapter's values of this moment; needed after each change of them."""
        if self._pairs:
            kind = self._weight.dtype
            self._a = torch.cat([pair.layer.lora_a.detach() for pair in self._pairs]).to(kind)
            self._b = [
                (pair.layer.lora_b.detach()[pair.low : pair.high] * pair.layer.scaling).to(kind) for pair in self._pairs
            ]

    def forget(self) -> None:
        """Lets go of those values."""
        self._a = None
        self._b = []

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x [T, in] to y [T, out] and the pairs' inner values [T, ranks]."""
        y = functional.linear(x, self._weight, self._bias)
        if self._a is None:
            return y, None
        inner = functional.linear(x, self._a)
        at = 0
        for pair, b in zip(self._pairs, self._b, strict=True):
            y[:, pair.outputs].addmm_(inner[:, at : at + b.shape[1]], b.T)
            at += b.shape[1]
        return y, inner

    def backward(self, dy: Tensor, x: Tensor, inner: Tensor | None, *, wants_dx: bool = True) -> Tensor | None:
        """Adds the pairs' gradients to their `grad` and returns that of x [T, in]."""
        dx = dy @ self._weight if wants_dx else None
        if self._a is None or inner is None:
            return dx
        d_inner = torch.empty_like(inner)
        at = 0
        for pair, b in zip(self._pairs, self._b, strict=True):
            columns = slice(at, at + b.shape[1])
            outputs = dy[:, pair.outputs]
            torch.mm(outputs, b, out=d_inner[:, columns])
            gradient = outputs.T @ inner[:, columns]
            _grad(pair.layer.lora_b)[pair.low : pair.high].add_(gradient, alpha=pair.layer.scaling)
            at += b.shape[1]
        da = d_inner.T @ x
        at = 0
        for pair in self._pairs:
            rank = pair.layer.lora_a.shape[0]
            _grad(pair.layer.lora_a).add_(da[at : at + rank])
            at += rank
        return dx if dx is None else dx.addmm_(d_inner, self._a)


def _joined(weights: Sequence[Tensor]) -> Tensor:
    """One matrix of all rows: the one these are views of, where another run on the same base has merged them before."""
    whole = weights[0].untyped_storage()
    starts = accumulate((weight.numel() for weight in weights), initial=0)
    if all(
        weight.untyped_storage().data_ptr() == whole.data_ptr() and weight.storage_offset() == start
        for weight, start in zip(weights, starts, strict=False)
    ) and whole.nbytes() == sum(weight.nbytes for weight in weights):
        return weights[0].as_strided((sum(len(weight) for weight in weights), weights[0].shape[1]), weights[0].stride())
    return torch.cat(list(weights))


def _grad(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
