"""One side of the training benchmark: torchtune's own LoRA recipe. Runs in an environment of its own.

    .venvs/torchtune/bin/python benchmarks/train/torchtune_side.py task.json

Same task file as ours.py; paced and printed as pace.py says. The recipe's model builders, loop, loss and loading of
data; its dataset, schedule and log are components of ours below. The first adapter is put in under torchtune's names.
In bf16 the recipe holds adapters and optimizer states in bf16 as well. `options` are values of its config.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# torchtune is in an environment of its own.
from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torchtune
from omegaconf import OmegaConf
from pace import Pace
from safetensors.torch import load_file
from torchtune.models import convert_weights
from torchtune.models.qwen2 import _convert_weights as convert_qwen2

PACE = Pace()
LOSSES: list[float] = []


class Stopped(Exception):
    """No further step is asked for."""


class StepLog:
    """The recipe's metric logger: it speaks at the end of each step."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def log_config(self, config: Any) -> None: ...

    def log_dict(self, payload: dict[str, Any], step: int) -> None:
        LOSSES.append(float(payload["loss"]))
        PACE.done()
        if step < self._steps and not PACE.wait():
            raise Stopped

    def close(self) -> None: ...


class NoTokenizer:
    """The rows are token ids already."""

    pad_id = 0


class Rows(torch.utils.data.Dataset[dict[str, list[int]]]):
    """The rows of a task, within each optimizer batch by length where `sort` says so."""

    def __init__(self, _: Any, path: str, count: int, batch: int, sort: bool) -> None:
        rows = [json.loads(line) for line in Path(path).read_text().splitlines()[:count]]
        if sort:
            cuts = [rows[at : at + batch] for at in range(0, count, batch)]
            rows = [row for cut in cuts for row in sorted(cut, key=lambda row: len(row["ids"]))]
        self._rows = [
            {
                "tokens": row["ids"],
                "labels": [token if on else -100 for token, on in zip(row["ids"], row["trained"], strict=True)],
            }
            for row in rows
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return self._rows[index]


def unchanging(optimizer: Any, num_training_steps: int, last_epoch: int) -> Any:
    """The recipe's schedule: one learning rate."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0, last_epoch=last_epoch)


def model_config(task: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    builders = {
        "qwen2": {"_component_": "torchtune.models.qwen2._component_builders.lora_qwen2"},
        # A scale of 1 leaves the rotary angles plain, as in the first Llamas; only this builder ties its head.
        "llama": {"_component_": "torchtune.models.llama3_2._component_builders.lora_llama3_2", "scale_factor": 1},
    }
    return {
        **builders[base["model_type"]],
        "lora_attn_modules": ["q_proj", "k_proj", "v_proj", "output_proj"],
        "apply_lora_to_mlp": True,
        "lora_rank": task["rank"],
        "lora_alpha": task["alpha"],
        "lora_dropout": 0.0,
        "vocab_size": base["vocab_size"],
        "num_layers": base["num_hidden_layers"],
        "num_heads": base["num_attention_heads"],
        "num_kv_heads": base["num_key_value_heads"],
        "embed_dim": base["hidden_size"],
        "intermediate_dim": base["intermediate_size"],
        "max_seq_len": base["max_position_embeddings"],
        "norm_eps": base["rms_norm_eps"],
        "rope_base": int(base["rope_parameters"]["rope_theta"]),
        "tie_word_embeddings": base["tie_word_embeddings"],
    }


def config_of(task: dict[str, Any], folder: str) -> dict[str, Any]:
    options: dict[str, Any] = dict(task["options"])
    base = json.loads((Path(task["base"]) / "config.json").read_text())
    micro, size = options.pop("batch_size", min(2, task["batch"])), task["batch"]
    rows = {"path": task["rows"], "count": task["steps"] * size, "batch": size, "sort": options.pop("sort", False)}
    return {
        "output_dir": folder,
        "model": model_config(task, base),
        "tokenizer": {"_component_": "torchtune_side.NoTokenizer"},
        "checkpointer": {
            "_component_": "torchtune.training.FullModelHFCheckpointer",
            "checkpoint_dir": task["base"],
            "checkpoint_files": ["model.safetensors"],
            "output_dir": folder,
            "model_type": {"qwen2": "QWEN2", "llama": "LLAMA3_2"}[base["model_type"]],
        },
        "resume_from_checkpoint": False,
        "dataset": {"_component_": "torchtune_side.Rows", **rows},
        "seed": 0,
        "shuffle": False,
        "batch_size": micro,
        "optimizer": {
            "_component_": "torch.optim.AdamW",
            "fused": True,
            "weight_decay": 0.0,
            "lr": task["learning_rate"],
        },
        "lr_scheduler": {"_component_": "torchtune_side.unchanging"},
        "loss": {"_component_": "torchtune.modules.loss.CEWithChunkedOutputLoss"},
        "epochs": 1,
        "max_steps_per_epoch": task["steps"],
        "gradient_accumulation_steps": size // micro,
        "clip_grad_norm": 1.0,
        "compile": False,
        "metric_logger": {"_component_": "torchtune_side.StepLog", "steps": task["steps"]},
        "log_every_n_steps": 1,
        "device": "cpu",
        "dtype": {"bfloat16": "bf16", "float32": "fp32"}[task["dtype"]],
        "enable_activation_checkpointing": True,
        **options,
    }


def adapter_of(task: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Under torchtune's names; queries and keys of a Llama lie in another order there, as the frozen ones do."""
    base = json.loads((Path(task["base"]) / "config.json").read_text())
    llama = base["model_type"] == "llama"
    names = (convert_weights if llama else convert_qwen2)._FROM_HF
    features = base["hidden_size"] // base["num_attention_heads"]
    found: dict[str, torch.Tensor] = {}
    for name, value in load_file(str(Path(task["base"]) / "adapter" / "adapter_model.safetensors")).items():
        plain, side = name.removeprefix("base_model.model.").removesuffix(".weight").rsplit(".", 1)
        place = convert_weights.get_mapped_key(f"{plain}.weight", names).removesuffix(".weight")
        if llama and side == "lora_B" and plain.endswith(("q_proj", "k_proj")):
            value = value.view(-1, 2, features // 2, value.shape[1]).transpose(1, 2).reshape(value.shape)
        found[f"{place}.{side.lower()}.weight"] = value
    return found


def recipe_class() -> Any:
    place = Path(torchtune.__path__[0]).parent / "recipes/lora_finetune_single_device.py"
    spec = importlib.util.spec_from_file_location("recipe", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    class Unsaved(module.LoRAFinetuneRecipeSingleDevice):
        def save_checkpoint(self, epoch: int) -> None:
            """Steps are what is timed, and no side saves."""

    return Unsaved


def main() -> None:
    task: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    sys.modules["torchtune_side"] = sys.modules["__main__"]  # where the config finds the components above
    logging.disable(logging.INFO)
    torch.set_num_threads(task["threads"])
    with tempfile.TemporaryDirectory() as folder:
        config = OmegaConf.create(config_of(task, folder))
        recipe = recipe_class()(config)
        recipe.setup(config)
        adapter = adapter_of(task)
        unknown = recipe._model.load_state_dict(adapter, strict=False).unexpected_keys
        if unknown:
            raise SystemExit(f"torchtune has no place for {unknown[:3]}")
        PACE.count_calls_of(recipe._model.tok_embeddings)
        if PACE.wait():
            with contextlib.suppress(Stopped):
                recipe.train()
    versions = {name: importlib.metadata.version(name) for name in ("torch", "torchtune", "torchao")}
    PACE.report(LOSSES, versions)


if __name__ == "__main__":
    main()
