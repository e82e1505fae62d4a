"""What a folder in Hugging Face format holds of a Llama-family model: its shape and its tensors by name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from tailorbird.lm.loading import BaseModelError

_FAMILY = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")


@dataclass(frozen=True, slots=True)
class Shape:
    """What the weights do not tell. `frequencies` [features / 2] are radians per position; windows are in tokens."""

    layers: int
    heads: int
    kv_heads: int
    features: int
    context: int
    epsilon: float
    frequencies: Tensor
    windows: tuple[int | None, ...]


def read_shape(folder: Path) -> Shape | None:
    """The shape of the model in `folder`; None when it is not one this decoder computes exactly."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    if not set(config.get("architectures") or ()) & set(_FAMILY) or config.get("hidden_act", "silu") != "silu":
        return None
    if config.get("quantization_config") or not _weight_files(folder):
        return None
    heads = config["num_attention_heads"]
    features = config.get("head_dim") or config["hidden_size"] // heads
    frequencies = _rotary_frequencies(config, features)
    if frequencies is None:
        return None
    layers = config["num_hidden_layers"]
    return Shape(
        layers=layers,
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        features=features,
        context=config["max_position_embeddings"],
        epsilon=config.get("rms_norm_eps", 1e-6),
        frequencies=frequencies,
        windows=_windows(config, layers),
    )


def _windows(config: dict[str, Any], layers: int) -> tuple[int | None, ...]:
    window = config.get("sliding_window")
    if not config.get("use_sliding_window", True):  # Qwen writes a window and switches it off
        window = None
    kinds: list[str] | None = config.get("layer_types")
    if kinds is not None:
        return tuple(window if kind == "sliding_attention" else None for kind in kinds)
    first = config.get("max_window_layers", 0)
    return tuple(window if i >= first else None for i in range(layers))


def _rotary_frequencies(config: dict[str, Any], features: int) -> Tensor | None:
    """Angles per position [features / 2] in float32; None for a scaling other than linear and llama3."""
    rope: dict[str, Any] = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = rope.get("rope_theta") or config.get("rope_theta") or 10000.0
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if rope.get("partial_rotary_factor", config.get("partial_rotary_factor") or 1.0) != 1.0:
        return None
    plain = 1.0 / (theta ** (torch.arange(0, features, 2, dtype=torch.int64).float() / features))
    if kind == "default":
        return plain
    if kind == "linear":
        return plain / rope["factor"]
    if kind != "llama3":
        return None
    # Llama 3.1: long waves are slowed by `factor`, short ones stay, those between are blended.
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    original = rope["original_max_position_embeddings"]
    waves = 2 * math.pi / plain
    share = ((original / waves - low) / (high - low)).clamp(0, 1)
    return torch.lerp(plain / rope["factor"], plain, share)


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return [folder / name for name in sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))]
    single = folder / "model.safetensors"
    return [single] if single.is_file() else []


class Weights:
    """Reads tensors by name from the safetensors files of a folder, one at a time, so that memory holds them once."""

    def __init__(self, folder: Path, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype = dtype
        self._device = device
        self._folder = folder
        self._files = _weight_files(folder)
        self._readers: dict[str, Callable[[str], Tensor]] = {}
        self._open: list[Any] = []
        self.tied = bool(json.loads((folder / "config.json").read_text("utf-8")).get("tie_word_embeddings", False))

    def __enter__(self) -> Weights:
        for path in self._files:
            stored: Any = safe_open(path, framework="pt")
            stored.__enter__()
            self._open.append(stored)
            self._readers |= dict.fromkeys(stored.keys(), stored.get_tensor)
        return self

    def __exit__(self, *_: object) -> None:
        for stored in self._open:
            stored.__exit__(None, None, None)
        self._readers.clear()

    def get(self, name: str) -> Tensor:
        """Raises BaseModelError when no file holds `name`."""
        if name not in self._readers:
            raise BaseModelError(f"{self._folder}: the weights lack {name}")
        return self._readers[name](name).to(self._device, self._dtype)

    def find(self, name: str) -> Tensor | None:
        return self.get(name) if name in self._readers else None
