"""What the training steps of a process came to: examples and tokens a second, and the share of the machine's limit."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

_SIDE = 1024  # rows and columns of the product that is timed; larger ones are no faster
_WORTH_TIMING = 10.0  # seconds of training; the share of a shorter run says nothing


@dataclass(slots=True)
class Work:
    """Sums over training steps. `operations` are those the steps need, each token's once, whatever was done."""

    examples: int = 0
    targets: int = 0
    given_tokens: int = 0
    tokens: int = 0
    operations: float = 0.0
    seconds: float = 0.0


def notes_on(work: Work, dtype: torch.dtype) -> dict[str, float]:
    """Four figures that are never mixed: what a customer buys, tokens given, tokens computed, and the share.

    Empty where no step was taken. The share of the limit stands beside them after enough work to tell.
    """
    if not work.seconds:
        return {}
    notes = {
        "examples_per_second": work.examples / work.seconds,
        "target_tokens_per_second": work.targets / work.seconds,
        "given_tokens_per_second": work.given_tokens / work.seconds,
        "computed_tokens_per_second": work.tokens / work.seconds,
    }
    if work.seconds >= _WORTH_TIMING:
        notes["fraction_of_limit"] = work.operations / work.seconds / product_speed(dtype)
    return {name: float(f"{value:.4g}") for name, value in notes.items()}


def product_speed(dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product, here and now; the best of four."""
    left, right = (torch.randn(_SIDE, _SIDE).to(dtype) for _ in range(2))
    seconds: list[float] = []
    for _ in range(4):
        began = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - began)
    return 2 * _SIDE**3 / min(seconds)
