"""What the training steps of a process came to: examples and tokens a second, and the share of the machine's limit."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

_SIDE = 1024  # rows and columns of the product that is timed; on a CPU larger ones are no faster
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
    cuts: int = 0
    """How often memory ran out and the work was cut smaller."""

    def beside(self, other: Work) -> Work:
        """Of two processes at once: the time is that of the slower one."""
        return Work(
            examples=self.examples + other.examples,
            targets=self.targets + other.targets,
            given_tokens=self.given_tokens + other.given_tokens,
            tokens=self.tokens + other.tokens,
            operations=self.operations + other.operations,
            seconds=max(self.seconds, other.seconds),
            cuts=self.cuts + other.cuts,
        )


def notes_on(work: Work, dtype: torch.dtype, device: torch.device, processes: int = 1) -> dict[str, float]:
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
        notes["fraction_of_limit"] = work.operations / work.seconds / (processes * product_speed(dtype, device))
    if work.cuts:
        notes["memory_cuts"] = work.cuts
    return {name: float(f"{value:.4g}") for name, value in notes.items()}


def product_speed(dtype: torch.dtype, device: torch.device) -> float:
    """Floating-point operations a second of a large matrix product, here and now; the best of four."""
    side = _SIDE if device.type == "cpu" else 8 * _SIDE
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds: list[float] = []
    for _ in range(4):
        _wait_for(device)
        began = time.perf_counter()
        torch.mm(left, right)
        _wait_for(device)
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / min(seconds)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
