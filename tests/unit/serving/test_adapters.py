from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tailorbird.lm.adapter import Adapter
from tailorbird.lm.lora import LoraSpec
from tailorbird.serving.adapters import AdapterRows, LoadedAdapter, LoadRefused, Registry, Stacks, Target, fuse

CPU = torch.device("cpu")
TARGETS = {"q": Target("q|k", 0, 6, 5), "k": Target("q|k", 6, 3, 5)}


def random_adapter(seed: int, rank: int, modules: tuple[str, ...] = ("q", "k"), alpha: int = 8) -> Adapter:
    torch.manual_seed(seed)
    tensors = {m: (torch.randn(rank, 5), torch.randn(TARGETS[m].outputs, rank)) for m in modules}
    return Adapter(LoraSpec(rank, alpha, modules), tensors)


def expected(adapter: Adapter, x: torch.Tensor) -> torch.Tensor:
    """y [rows, 9] by the definition: alpha / r * B A x, module by module."""
    y = torch.zeros(x.shape[0], 9)
    for module, (a, b) in adapter.tensors.items():
        at = TARGETS[module]
        y[:, at.offset : at.offset + at.outputs] = x @ a.t() @ b.t() * (adapter.spec.alpha / adapter.spec.rank)
    return y


def load(adapter: Adapter, name: str = "x") -> LoadedAdapter:
    return fuse(name, "/x", adapter, TARGETS, dtype=torch.float32, device=CPU)


@pytest.mark.parametrize("widths", [(2,), (1, 3), (1, 1, 1, 1), (3, 1, 2, 5), (40, 30, 20)])
def test_every_row_gets_its_own_adapter_and_no_other(widths: tuple[int, ...]) -> None:
    adapters = [random_adapter(i, rank=2 + i, modules=("q", "k") if i % 2 == 0 else ("k",)) for i in range(len(widths))]
    rows = sum(widths) + 2  # one row without adapter on each side
    x = torch.randn(rows, 5)
    y, wanted = torch.ones(rows, 9), torch.ones(rows, 9)
    segments, at = [], 1
    for adapter, width in zip(adapters, widths, strict=True):
        segments.append((load(adapter), at, at + width))
        wanted[at : at + width] += expected(adapter, x[at : at + width])
        at += width
    AdapterRows(segments, Stacks()).add("q|k", x, y)
    assert torch.allclose(y, wanted, atol=1e-4)


def test_a_layer_no_adapter_changes_is_left_alone() -> None:
    segments = [(load(random_adapter(i, 2)), i, i + 1) for i in range(4)]
    y = torch.ones(4, 3)
    AdapterRows(segments, Stacks()).add("other", torch.randn(4, 5), y)
    assert torch.equal(y, torch.ones(4, 3))


def test_stacks_follow_when_the_batch_changes() -> None:
    stacks = Stacks()
    loaded = [load(random_adapter(i, 2)) for i in range(4)]
    stacks.use(tuple(loaded[:3]))
    first = stacks.get("q|k")
    stacks.use(tuple(loaded[:3]))
    assert stacks.get("q|k") is first
    stacks.use(tuple(loaded[1:]))
    assert stacks.get("q|k") is not first


def test_an_unknown_module_is_refused_by_name() -> None:
    adapter = Adapter(LoraSpec(2, 4, ("v",)), {"model.v": (torch.zeros(2, 5), torch.zeros(6, 2))})
    with pytest.raises(LoadRefused, match=r"no layer model\.v"):
        load(adapter)


def test_a_wrong_shape_is_refused_with_both_shapes() -> None:
    adapter = Adapter(LoraSpec(2, 4, ("q",)), {"q": (torch.zeros(2, 4), torch.zeros(6, 2))})
    with pytest.raises(LoadRefused, match="6 x 5 in the base model, 6 x 4 in the adapter"):
        load(adapter)


class TestRegistry:
    @pytest.fixture
    def registry(self, llama: Any, start_engine: Any) -> Registry:
        targets = start_engine(llama).api.model.targets
        return Registry(targets, capacity=2, dtype=torch.float32, device=CPU)

    def test_the_same_name_and_path_twice_is_fine(self, registry: Registry, llama: Any) -> None:
        registry.load("a", str(llama.adapters["red"]))
        before = registry.get("a")
        registry.load("a", str(llama.adapters["red"]))
        assert registry.get("a") is before

    def test_another_path_needs_load_inplace(self, registry: Registry, llama: Any) -> None:
        registry.load("a", str(llama.adapters["red"]))
        before = registry.get("a")
        with pytest.raises(LoadRefused, match="load_inplace"):
            registry.load("a", str(llama.adapters["green"]))
        assert registry.get("a") is before
        registry.load("a", str(llama.adapters["green"]), replace=True)
        assert registry.get("a") is not before

    def test_beyond_the_capacity_the_least_recently_used_goes(self, registry: Registry, llama: Any) -> None:
        registry.load("a", str(llama.adapters["red"]))
        registry.load("b", str(llama.adapters["green"]))
        assert registry.get("a") is not None
        registry.load("c", str(llama.adapters["blue"]))
        assert registry.get("b") is None
        assert {adapter.name for adapter in registry.loaded()} == {"a", "c"}

    def test_unloading_says_whether_there_was_something(self, registry: Registry, llama: Any) -> None:
        registry.load("a", str(llama.adapters["red"]))
        assert registry.unload("a")
        assert not registry.unload("a")

    def test_a_folder_without_adapter_is_refused_with_the_reason(self, registry: Registry, tmp_path: Path) -> None:
        with pytest.raises(LoadRefused, match=r"adapter_config\.json"):
            registry.load("a", str(tmp_path / "nowhere"))

    def test_an_adapter_of_another_base_is_refused(self, registry: Registry, llama: Any, tmp_path: Path) -> None:
        folder = tmp_path / "odd"
        shutil.copytree(llama.adapters["red"], folder)
        config = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps(config | {"r": 5}))
        with pytest.raises(LoadRefused, match="odd"):
            registry.load("a", str(folder))
        assert registry.get("a") is None
