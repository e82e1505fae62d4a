"""What a run will take in memory, and how it is cut so that it fits, decided before its first step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from tailorbird.training.decoder.family import Decoder
from tailorbird.training.decoder.passes import held_tokens
from tailorbird.training.decoder.tree import Forest

T = TypeVar("T")

_USABLE = 0.9  # of what is free: the allocator does not give every byte back
_LEAST_LIMIT = 128
_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Passes of `limit` tokens hold `held` tokens' memory at most; `peak` is the whole process's, in bytes.

    `recompute`: layers are computed twice because nothing else fits. `fits` is False when that does not fit either.
    """

    limit: int
    held: int
    recompute: bool
    peak: int
    fits: bool


def plan_memory(
    decoder: Decoder, forests: Sequence[Forest], *, limit: int, available: int | None, resident: int
) -> MemoryPlan:
    """The largest passes up to `limit` tokens that fit for all `forests`, one of which is trained on at a time.

    `available` bytes are free beside the `resident` ones this process has already; None when nobody knows.
    """

    def plan(limit: int, *, recompute: bool) -> MemoryPlan:
        held = max((held_tokens(forest.roots, limit) for forest in forests), default=0)
        targets = max((forest.count for forest in forests), default=0)
        each = decoder.bytes_per_token_recomputed if recompute else decoder.bytes_per_token
        own = held * each + decoder.passing_bytes(min(held, max(limit, held // 2)), targets)
        return MemoryPlan(limit, held, recompute, resident + own, available is None or own <= _USABLE * available)

    chosen = plan(limit, recompute=False)
    while not chosen.fits and chosen.limit > _LEAST_LIMIT:
        chosen = plan(chosen.limit // 2, recompute=False)
    return chosen if chosen.fits else plan(chosen.limit, recompute=True)


def until_it_fits(compute: Callable[[], T], tighten: Callable[[], bool]) -> T:
    """What `compute` gives. When memory runs out it starts over, after `tighten` has made it need less; where that
    answers False, as nothing is left to save, the error goes on."""
    while True:
        try:
            return compute()
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error) or not tighten():
                raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def available_memory(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int | None:
    """Bytes this machine or container has left, whichever is less; None where it does not say."""
    found: list[int] = []
    if meminfo.is_file():
        found += [
            _kibibytes(line) for line in meminfo.read_text("ascii").splitlines() if line.startswith("MemAvailable")
        ]
    try:
        most = int((cgroup / "memory.max").read_text("ascii"))
        found.append(most - int((cgroup / "memory.current").read_text("ascii")))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        pass
    return min(found, default=None)


def resident_memory(status: Path = _STATUS) -> int:
    """Bytes of this process that are in memory; 0 where the system does not say."""
    if not status.is_file():
        return 0
    lines = status.read_text("utf-8").splitlines()
    return sum(_kibibytes(line) for line in lines if line.startswith("VmRSS"))


def _kibibytes(line: str) -> int:
    return int(line.split()[1]) * 1024
