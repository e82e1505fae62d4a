"""Muon for the matrices inside the layers, Adam for embeddings and norms."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import Executor
from typing import Any

import torch
from torch import Tensor

# Coefficients of the quintic Newton-Schulz iteration, from Keller Jordan's Muon (2024).
QUINTIC = (3.4445, -4.7750, 2.0315)
PIECE = 6
"""Matrices of one shape made orthogonal together, as one piece of work for one thread."""


def orthogonal(stack: Tensor, steps: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrices, about, of a (count, out, in) stack; bfloat16 inside."""
    a, b, c = QUINTIC
    flip = stack.shape[1] > stack.shape[2]
    x = (stack.transpose(1, 2) if flip else stack).bfloat16()
    x = x / (x.float().norm(dim=(1, 2), keepdim=True).bfloat16() + 1e-7)
    for _ in range(steps):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * (square @ square)) @ x
    return (x.transpose(1, 2) if flip else x).float()


class Optimizer:
    """Both optimizers over one dict of weights; ``step(scale)`` scales all learning rates."""

    def __init__(
        self,
        weights: dict[str, Tensor],
        matrix_rate: float = 0.02,
        other_rate: float = 0.003,
        momentum: float = 0.95,
        decay: float = 0.02,
    ) -> None:
        self.matrix_rate = matrix_rate
        self.momentum = momentum
        self.decay = decay
        groups: defaultdict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        others: list[Tensor] = []
        for name, value in weights.items():
            if value.ndim == 2 and "embed" not in name:
                groups[tuple(value.shape)].append(value)
            else:
                others.append(value)
        self.groups = list(groups.values())
        self.speeds = [torch.zeros(len(group), *group[0].shape) for group in self.groups]
        self.adam = torch.optim.AdamW(others, lr=other_rate, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0)
        self.other_rate = other_rate

    @torch.no_grad()
    def step(self, scale: float, pool: Executor) -> None:
        """One update from the gradients in ``.grad``, which are cleared; ``pool`` shares out the heavy part."""
        aheads: list[Tensor] = []
        for group, speed in zip(self.groups, self.speeds, strict=True):
            gradient = torch.stack([value.grad for value in group if value.grad is not None])
            speed.lerp_(gradient, 1 - self.momentum)
            aheads.append(gradient.lerp_(speed, self.momentum))
        pieces = [piece for ahead in aheads for piece in ahead.split(PIECE)]
        updates = iter(pool.map(orthogonal, pieces))
        for group, ahead in zip(self.groups, aheads, strict=True):
            rows, columns = group[0].shape
            rate = self.matrix_rate * scale
            update = torch.cat([next(updates) for _ in ahead.split(PIECE)]) * (rate * max(1.0, rows / columns) ** 0.5)
            for value, change in zip(group, update, strict=True):
                value.mul_(1 - rate * self.decay).sub_(change)
                value.grad = None
        for settings in self.adam.param_groups:
            settings["lr"] = self.other_rate * scale
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """What resuming needs."""
        return {"speeds": self.speeds, "adam": self.adam.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave."""
        self.speeds = state["speeds"]
        self.adam.load_state_dict(state["adam"])
