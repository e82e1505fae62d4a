"""When a run with patience ends: the epoch whose loss on the validation file was lowest, and how long ago that was."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tailorbird.protocol.training import Step


@dataclass(frozen=True, slots=True)
class Best:
    """`since` epochs have ended after the one with this step and loss, none of them with a lower loss."""

    step: int
    loss: float
    since: int


def best_epoch(steps: Iterable[Step], until: int) -> Best | None:
    """Of the epochs that ended by step `until`; None before the first one, or without a validation file.

    Later steps may stand in the event log of a resumed run and are not looked at: what they lead to comes with them.
    """
    best: Best | None = None
    for step in sorted((step for step in steps if step.step <= until), key=lambda step: step.step):
        loss = step.metrics.full_valid_loss
        if loss is None:
            continue
        if best is None or math.isnan(best.loss) or loss < best.loss:
            best = Best(step.step, loss, 0)
        else:
            best = Best(best.step, best.loss, best.since + 1)
    return best
