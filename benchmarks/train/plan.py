"""What the training comparison measures by default, in this order, and the options each peer is tried with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Options = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One table: a shape, a workload and an optimizer batch, or for validation the number of rows in the set."""

    shape: str
    workload: str
    batch: int
    kind: str = "train"
    sweep: str = "all"
    """`all` options; or `carried`: the fastest ones of the sweep on an earlier case of the shape."""
    share: int | None = None
    """Rows of a sweep's batch, where a whole one would take too long. No figure of a table comes from such a sweep."""
    rounds: int = 5
    stock: bool = False
    """With a row for this trainer's path without shared prefixes."""

    @property
    def name(self) -> str:
        if self.kind == "validation":
            return f"{self.shape}, {self.workload}, validation of {self.batch} rows"
        return f"{self.shape}, {self.workload}, batch {self.batch}"


# Short ones first: what is cut off when time is up is the least telling.
PLAN = (
    Case("smollm2-135m", "P=0 one turn", 8, stock=True),
    Case("smollm2-135m", "P=384 one turn", 8, stock=True),
    Case("smollm2-135m", "P=1024 one turn", 32, kind="validation", share=8),
    Case("smollm2-135m", "P=1024 one turn", 32, sweep="carried", share=4),
    Case("qwen2.5-0.5b", "P=384 one turn", 8, sweep="carried"),
    Case("smollm2-135m", "P=384", 8, sweep="carried"),
)

TRL, LLAMAFACTORY, TORCHTUNE = "TRL tuned", "LLaMA-Factory", "torchtune"
_MICRO, _SAVED = "per_device_train_batch_size", {"gradient_checkpointing": False}
# Padding-free is packing within a micro-batch: packs over whole files would mix the optimizer batches.
SWEEP: tuple[tuple[str, Options], ...] = (
    (TRL, {**_SAVED, _MICRO: 1}),
    (TRL, {**_SAVED, _MICRO: 2, "sort": True}),
    (TRL, {**_SAVED, _MICRO: 4, "sort": True}),
    (TRL, {**_SAVED, _MICRO: 8}),
    (TRL, {**_SAVED, _MICRO: 4, "sort": True, "padding_free": True, "max_length": None}),
    (TRL, {**_SAVED, _MICRO: 1, "bf16": False, "adapters": "bfloat16"}),
    (LLAMAFACTORY, {"disable_gradient_checkpointing": True, _MICRO: 1}),
    (LLAMAFACTORY, {"disable_gradient_checkpointing": True, _MICRO: 2, "sort": True}),
    (LLAMAFACTORY, {"disable_gradient_checkpointing": True, _MICRO: 4, "sort": True}),
    (TORCHTUNE, {"enable_activation_checkpointing": False, "batch_size": 1}),
    (TORCHTUNE, {"enable_activation_checkpointing": False, "batch_size": 2, "sort": True}),
)
VALIDATION_SWEEP: tuple[tuple[str, Options], ...] = (
    (TRL, {"per_device_eval_batch_size": 1}),
    (TRL, {"per_device_eval_batch_size": 4, "sort": True}),
    (TRL, {"per_device_eval_batch_size": 8, "sort": True}),
)


def fits(options: Options, rows: int) -> bool:
    """Whether a batch of `rows` can be cut as the options say."""
    return rows % options.get(_MICRO, options.get("batch_size", 1)) == 0


def carried(earlier: list[dict[str, Any]]) -> tuple[tuple[str, Options], ...]:
    """The two fastest of TRL's and the fastest of every other peer's, from an earlier sweep; all without one."""
    measured = sorted((one for one in earlier if "seconds" in one), key=lambda one: one["seconds"])
    if not measured:
        return SWEEP
    found: list[tuple[str, Options]] = []
    for peer, count in ((TRL, 2), (LLAMAFACTORY, 1), (TORCHTUNE, 1)):
        # A peer that never ran is tried again: its row has to say why.
        ranked = [one["options"] for one in measured if one["peer"] == peer]
        ranked = ranked or [options for name, options in SWEEP if name == peer]
        found += [(peer, options) for options in ranked[:count]]
    return tuple(found)
