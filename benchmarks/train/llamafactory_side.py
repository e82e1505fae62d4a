"""One side of the training benchmark: LLaMA-Factory's own SFT workflow. Runs in an environment of its own.

    .venvs/llamafactory/bin/python benchmarks/train/llamafactory_side.py task.json

Same task file as ours.py; paced and printed as pace.py says. Its workflow reads rows that are tokens already, their
labels masked. `options` are its arguments as they are; `{}` is its default. `sort` is ours: rows of like length
together, within each optimizer batch.
"""

# pyright: reportMissingImports=false, reportPrivateImportUsage=false
# LLaMA-Factory is in an environment of its own.
from __future__ import annotations

import importlib
import importlib.machinery
import importlib.metadata
import json
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from pace import Pace, trainer_callback


def _without_sound() -> None:
    """LLaMA-Factory imports torchaudio, whose last wheel does not load beside this torch, and text does not need."""
    transformers.utils.is_torchaudio_available()  # remembered, before the name exists
    empty = types.ModuleType("torchaudio")
    empty.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
    sys.modules["torchaudio"] = empty


def write_rows(task: dict[str, Any], folder: Path, *, sort: bool) -> Path:
    rows = [json.loads(line) for line in Path(task["rows"]).read_text().splitlines()]
    rows = rows[: task["steps"] * task["batch"]]
    if sort:
        cuts = range(0, len(rows), task["batch"])
        rows = [row for at in cuts for row in sorted(rows[at : at + task["batch"]], key=lambda row: len(row["ids"]))]
    columns = [
        {
            "input_ids": row["ids"],
            "attention_mask": [1] * len(row["ids"]),
            "labels": [token if trained else -100 for token, trained in zip(row["ids"], row["trained"], strict=True)],
        }
        for row in rows
    ]
    datasets.DatasetDict({"train": datasets.Dataset.from_list(columns)}).save_to_disk(str(folder / "tokens"))
    return folder / "tokens"


def arguments_of(task: dict[str, Any], folder: Path) -> dict[str, Any]:
    options: dict[str, Any] = dict(task["options"])
    micro = options.pop("per_device_train_batch_size", min(8, task["batch"]))
    tokens = write_rows(task, folder, sort=options.pop("sort", False))
    return {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": task["base"],
        "adapter_name_or_path": str(Path(task["base"]) / "adapter"),
        "finetuning_type": "lora",
        "lora_rank": task["rank"],
        "lora_alpha": task["alpha"],
        "lora_target": "all",
        "template": "empty",
        "dataset": "rows",
        "tokenized_path": str(tokens),
        "cutoff_len": 8192,
        "disable_shuffling": True,
        "flash_attn": "sdpa",
        "output_dir": str(folder / "out"),
        "max_steps": task["steps"],
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": task["batch"] // micro,
        "learning_rate": task["learning_rate"],
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": not torch.cuda.is_available(),
        "bf16": task["dtype"] == "bfloat16",
        "disable_tqdm": True,
        **options,
    }


def main() -> None:
    task: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    _without_sound()
    import llamafactory.train.sft.workflow as workflow
    from llamafactory.hparams import get_train_args

    torch.set_num_threads(task["threads"])
    pace, losses = Pace(), list[float]()
    load = workflow.load_model

    def load_counted(*arguments: Any, **named: Any) -> Any:
        model = load(*arguments, **named)
        pace.count_calls_of(model.get_input_embeddings())
        return model

    workflow.load_model = load_counted

    class Losses(transformers.TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            losses.extend([logs["loss"]] if "loss" in logs else [])

    with tempfile.TemporaryDirectory() as folder:
        arguments = get_train_args(arguments_of(task, Path(folder)))
        callbacks = [trainer_callback(transformers.TrainerCallback, pace), Losses()]
        workflow.run_sft(*arguments, callbacks=callbacks)
    versions = {name: importlib.import_module(name).__version__ for name in ("torch", "transformers", "peft")}
    pace.report(losses, versions | {"llamafactory": importlib.metadata.version("llamafactory")})


if __name__ == "__main__":
    main()
