"""An adapter as a folder in PEFT's format, written whole or not at all.

The folder holds adapter_config.json and adapter_model.safetensors, readable by PEFT and by vLLM. Tensors are float32,
as they were trained, so that a reader gets the very same numbers.
Source: https://huggingface.co/docs/peft/main/en/developer_guides/checkpoint
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tailorbird.lm.lora import LoraPair, LoraSpec

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."  # where PEFT's wrapper keeps the language model
_SIDES = (".lora_A.weight", ".lora_B.weight")
_MUST_BE_OFF = (
    "use_dora",
    "use_rslora",
    "lora_bias",
    "fan_in_fan_out",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
)


class AdapterError(Exception):
    """The folder holds no adapter that can be used; the message names the file and the reason."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """`tensors` maps a full module name of the base model to (A [r, in], B [out, r]), as stored."""

    spec: LoraSpec
    tensors: dict[str, LoraPair]


def save_adapter(folder: str | Path, state: dict[str, LoraPair], spec: LoraSpec, base_name: str) -> None:
    """Writes the folder beside its place, syncs it to disk and renames it; an older one is replaced.

    A reader finds the old adapter, none or the new one, never a part. `base_name` is what PEFT calls
    base_model_name_or_path.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob(f".{folder.name}.*"):  # of a process killed in the middle of this function
        shutil.rmtree(leftover)
    fresh = folder.with_name(f".{folder.name}.new")
    fresh.mkdir()
    tensors = {
        f"{_PREFIX}{name}{side}": tensor.detach().to("cpu", torch.float32).contiguous()
        for name, pair in state.items()
        for side, tensor in zip(_SIDES, pair, strict=True)
    }
    save_file(tensors, fresh / WEIGHTS_FILE, metadata={"format": "pt"})
    (fresh / CONFIG_FILE).write_text(json.dumps(_config(spec, base_name), indent=2) + "\n", "utf-8")
    for path in (fresh / WEIGHTS_FILE, fresh / CONFIG_FILE, fresh):
        _sync(path)
    if folder.exists():
        folder.rename(folder.with_name(f".{folder.name}.old"))
    fresh.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(folder.with_name(f".{folder.name}.old"), ignore_errors=True)


def load_adapter(folder: str | Path) -> Adapter:
    """Reads and checks a PEFT LoRA folder, whoever wrote it.

    Raises AdapterError when a file is missing or unreadable, when the adapter uses what plain LoRA has not (DoRA,
    per-layer ranks, trained biases, ...), or when tensors and config disagree.
    """
    folder = Path(folder)
    config = _read_config(folder / CONFIG_FILE)
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float) or alpha != int(alpha):
        raise AdapterError(f"{folder / CONFIG_FILE}: r and lora_alpha must be whole numbers, r at least 1")
    tensors = _read_pairs(folder / WEIGHTS_FILE, rank)
    targets = tuple(sorted({name.rpartition(".")[2] for name in tensors}))
    return Adapter(LoraSpec(rank, int(alpha), targets), tensors)


def _config(spec: LoraSpec, base_name: str) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "inference_mode": True,
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "lora_dropout": 0.0,
        "target_modules": list(spec.target_modules),
        "bias": "none",
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "use_dora": False,
        "use_rslora": False,
    }


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise AdapterError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise AdapterError(f"{path}: not JSON ({error})") from error
    if not isinstance(config, dict) or cast(dict[str, Any], config).get("peft_type") != "LORA":
        raise AdapterError(f"{path}: not the config of a LoRA adapter (peft_type must be LORA)")
    config = cast(dict[str, Any], config)
    for field in _MUST_BE_OFF:
        if config.get(field):
            raise AdapterError(f"{path}: {field} is not supported")
    if config.get("bias", "none") != "none":
        raise AdapterError(f"{path}: bias {config['bias']!r} is not supported, only 'none'")
    return config


def _read_pairs(path: Path, rank: int) -> dict[str, LoraPair]:
    halves: dict[str, dict[str, torch.Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as stored:
            for key in stored.keys():  # noqa: SIM118 - a safetensors handle is no mapping
                side = next((side for side in _SIDES if key.endswith(side)), None)
                if side is None or not key.startswith(_PREFIX):
                    raise AdapterError(f"{path}: {key} is not the name of a LoRA tensor")
                halves.setdefault(key[len(_PREFIX) : -len(side)], {})[side] = stored.get_tensor(key)
    except OSError as error:
        raise AdapterError(f"{path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise AdapterError(f"{path}: {error}") from error
    if not halves:
        raise AdapterError(f"{path}: holds no tensors")
    pairs: dict[str, LoraPair] = {}
    for name, sides in halves.items():
        missing = [side for side in _SIDES if side not in sides]
        if missing:
            raise AdapterError(f"{path}: {name}{missing[0]} is missing")
        a, b = (sides[side] for side in _SIDES)
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != rank or b.shape[1] != rank:
            raise AdapterError(
                f"{path}: {name} has A {list(a.shape)} and B {list(b.shape)}; {CONFIG_FILE} says rank {rank}"
            )
        pairs[name] = (a, b)
    return pairs


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
