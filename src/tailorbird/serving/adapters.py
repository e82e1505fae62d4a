"""The loaded adapters by name, and the sum a step adds to a linear layer for rows of different adapters.

    y[rows of adapter i] += (x[rows of adapter i] @ A_i) @ B_i        A_i [in, r]  B_i [r, out], scaling merged into B_i

Layers that read the same input are fused by the forward (q|k|v, gate|up); so are their adapters, A side by side and B
block by block, which makes it two products per fused layer, however many adapters are in the batch.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from tailorbird.lm.adapter import Adapter, AdapterError, load_adapter

_GROUPED_ROWS = 64  # up to here k adapters are cheaper as one batched product than as 2k small ones


@dataclass(frozen=True, slots=True)
class Target:
    """Where a module of the base lives: outputs [offset, offset + outputs) of the fused layer `key`."""

    key: str
    offset: int
    outputs: int
    inputs: int


@dataclass(frozen=True, slots=True, eq=False)
class LoadedAdapter:
    """`pairs` maps a fused layer to (A [in, r], B [r, out]); layers the adapter leaves alone are absent."""

    name: str
    path: str
    pairs: Mapping[str, tuple[Tensor, Tensor]]


class LoadRefused(Exception):
    """The adapter cannot be loaded; the message says why."""


def fuse(
    name: str,
    path: str,
    adapter: Adapter,
    targets: Mapping[str, Target],
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> LoadedAdapter:
    """Brings an adapter into the forward's layout. Raises LoadRefused for a module or shape the base does not have."""
    scaling = adapter.spec.scaling
    widths: dict[str, int] = {}
    for target in targets.values():
        widths[target.key] = max(widths.get(target.key, 0), target.offset + target.outputs)
    parts: dict[str, list[tuple[Target, Tensor, Tensor]]] = {}
    for module, (a, b) in adapter.tensors.items():
        target = targets.get(module)
        if target is None:
            raise LoadRefused(f"{path}: the base model has no layer {module} that can carry an adapter")
        if a.shape[1] != target.inputs or b.shape[0] != target.outputs:
            raise LoadRefused(
                f"{path}: {module} is {target.outputs} x {target.inputs} in the base model, "
                f"{b.shape[0]} x {a.shape[1]} in the adapter"
            )
        parts.setdefault(target.key, []).append((target, a, b))
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for key, members in parts.items():
        rank = sum(a.shape[0] for _, a, _ in members)
        wide_b = torch.zeros((rank, widths[key]))
        at = 0
        for target, a, b in members:
            wide_b[at : at + a.shape[0], target.offset : target.offset + target.outputs] = b.float().t() * scaling
            at += a.shape[0]
        wide_a = torch.cat([a.float() for _, a, _ in members]).t().contiguous()
        pairs[key] = (wide_a.to(device, dtype), wide_b.to(device, dtype))
    return LoadedAdapter(name, path, pairs)


class Registry:
    """Adapters by name, the least recently used one dropped beyond `capacity`. Safe to call from any thread.

    A running request keeps its LoadedAdapter, so unloading and replacing never touch what is being generated.
    """

    def __init__(
        self, targets: Mapping[str, Target], *, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._targets = targets
        self._capacity = capacity
        self._dtype = dtype
        self._device = device
        self._loaded: OrderedDict[str, LoadedAdapter] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, name: str, path: str, *, replace: bool = False) -> None:
        """Reads the PEFT folder `path`; the same name and path again change nothing unless `replace`.

        Raises LoadRefused when the folder holds no fitting adapter or the name stands for another path.
        """
        with self._lock:
            present = self._loaded.get(name)
        if present is not None and not replace:
            if Path(present.path) == Path(path):
                return
            raise LoadRefused(
                f"The lora adapter '{name}' has already been loaded from another path. "
                "If you want to load the adapter in place, set 'load_inplace' to True."
            )
        try:
            adapter = load_adapter(path)
        except AdapterError as error:
            raise LoadRefused(str(error)) from error
        loaded = fuse(name, path, adapter, self._targets, dtype=self._dtype, device=self._device)
        with self._lock:
            self._loaded[name] = loaded
            self._loaded.move_to_end(name)
            while len(self._loaded) > self._capacity:
                self._loaded.popitem(last=False)

    def unload(self, name: str) -> bool:
        """False when no adapter has this name."""
        with self._lock:
            return self._loaded.pop(name, None) is not None

    def get(self, name: str) -> LoadedAdapter | None:
        with self._lock:
            adapter = self._loaded.get(name)
            if adapter is not None:
                self._loaded.move_to_end(name)
            return adapter

    def loaded(self) -> list[LoadedAdapter]:
        with self._lock:
            return list(self._loaded.values())


class Stacks:
    """The adapters of the running batch, stacked per layer; kept while the batch has the same ones."""

    def __init__(self) -> None:
        self._adapters: tuple[LoadedAdapter, ...] = ()
        self._stacks: dict[str, tuple[Tensor, Tensor] | None] = {}

    def use(self, adapters: tuple[LoadedAdapter, ...]) -> None:
        if adapters != self._adapters:
            self._adapters = adapters
            self._stacks = {}

    def get(self, key: str) -> tuple[Tensor, Tensor] | None:
        """(A [k, in, r], B [k, r, out]) of layer `key`, ranks padded with zeros; None when no adapter changes it."""
        if key not in self._stacks:
            self._stacks[key] = self._stack(key)
        return self._stacks[key]

    def _stack(self, key: str) -> tuple[Tensor, Tensor] | None:
        pairs = [adapter.pairs.get(key) for adapter in self._adapters]
        sample = next((pair for pair in pairs if pair is not None), None)
        if sample is None:
            return None
        rank = max(pair[0].shape[1] for pair in pairs if pair is not None)
        a = sample[0].new_zeros((len(pairs), sample[0].shape[0], rank))
        b = sample[1].new_zeros((len(pairs), rank, sample[1].shape[1]))
        for i, pair in enumerate(pairs):
            if pair is not None:
                a[i, :, : pair[0].shape[1]] = pair[0]
                b[i, : pair[1].shape[0]] = pair[1]
        return a, b


@dataclass(slots=True)
class _Group:
    """Rows of several adapters as one batched product: `take` pads them to k x m, `put` finds them again."""

    take: Tensor  # [k * m] row of x
    put: Tensor  # [rows] place in k * m
    rows: Tensor  # [rows] row of y
    adapters: int


@dataclass(slots=True)
class AdapterRows:
    """Which rows of one step go through which adapter; rows of no adapter are in no segment."""

    segments: Sequence[tuple[LoadedAdapter, int, int]]
    stacks: Stacks
    _group: _Group | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        rows = sum(end - start for _, start, end in self.segments)
        if len(self.segments) > 2 and rows <= _GROUPED_ROWS:
            self.stacks.use(tuple(adapter for adapter, _, _ in self.segments))
            widest = max(end - start for _, start, end in self.segments)
            take, put, place = [], [], []
            for i, (_, start, end) in enumerate(self.segments):
                take += [*range(start, end), *([start] * (widest - (end - start)))]
                put += range(i * widest, i * widest + end - start)
                place += range(start, end)
            device = next(iter(self.segments[0][0].pairs.values()))[0].device
            self._group = _Group(
                torch.tensor(take, device=device),
                torch.tensor(put, device=device),
                torch.tensor(place, device=device),
                len(self.segments),
            )

    def add(self, key: str, x: Tensor, y: Tensor) -> None:
        """Adds every row's own adapter to y [rows, out] in place, given the layer's input x [rows, in]."""
        group = self._group
        if group is None:
            for adapter, start, end in self.segments:
                pair = adapter.pairs.get(key)
                if pair is not None:
                    y[start:end].addmm_(x[start:end] @ pair[0], pair[1])
            return
        stack = self.stacks.get(key)
        if stack is not None:
            padded = x.index_select(0, group.take).view(group.adapters, -1, x.shape[1])  # [k, m, in]
            change = torch.bmm(torch.bmm(padded, stack[0]), stack[1]).view(-1, y.shape[1])
            y.index_add_(0, group.rows, change.index_select(0, group.put))
