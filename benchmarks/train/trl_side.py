"""One side of the training benchmark: TRL's SFTTrainer with PEFT. Runs in an environment of its own, without our code.

    .venvs/trl/bin/python benchmarks/train/trl_side.py task.json

Same task file as ours.py; paced and printed as pace.py says. `options` are SFTConfig's, given as they are; `{}` is its
default. Three are ours: `weights` and `adapters` (the precision they are held in) and `sort` (rows of like length
together, within each optimizer batch).
"""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# TRL is in an environment of its own.
from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import datasets
import peft
import torch
import transformers
import trl
from pace import Pace, trainer_callback


class InOrder(trl.SFTTrainer):
    """Rows in file order: the optimizer batches of all sides are the same."""

    def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)


def rows_of(task: dict[str, Any], low: int, high: int, *, sort: bool) -> datasets.Dataset:
    rows = [json.loads(line) for line in Path(task["rows"]).read_text().splitlines()[low:high]]
    if sort:
        cuts = range(0, len(rows), task["batch"])
        rows = [row for at in cuts for row in sorted(rows[at : at + task["batch"]], key=lambda row: len(row["ids"]))]
    return datasets.Dataset.from_list([{"input_ids": row["ids"], "completion_mask": row["trained"]} for row in rows])


def load(task: dict[str, Any], options: dict[str, Any], pace: Pace) -> Any:
    weights = getattr(torch, options.pop("weights", task["dtype"]))
    adapters = options.pop("adapters", "float32")
    model = transformers.AutoModelForCausalLM.from_pretrained(task["base"], dtype=weights, attn_implementation="sdpa")
    pace.count_calls_of(model.get_input_embeddings())
    return peft.PeftModel.from_pretrained(
        model,
        str(Path(task["base"]) / "adapter"),
        is_trainable=True,
        autocast_adapter_dtype=adapters == "float32",
    )


def trainer_of(task: dict[str, Any], pace: Pace, folder: str) -> Any:
    options: dict[str, Any] = dict(task["options"])
    sort = options.pop("sort", False)
    micro = options.pop("per_device_train_batch_size", min(8, task["batch"]))
    model = load(task, options, pace)
    size = task["batch"]
    arguments: dict[str, Any] = {
        "output_dir": folder,
        "max_steps": task["steps"],
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": size // micro,
        "learning_rate": task["learning_rate"],
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "use_cpu": not torch.cuda.is_available(),
        "bf16": task["dtype"] == "bfloat16",
        "max_length": 8192,
        "disable_tqdm": True,
        "completion_only_loss": True,
    }
    if task["kind"] == "train":
        sets: dict[str, Any] = {"train_dataset": rows_of(task, 0, task["steps"] * size, sort=sort)}
    else:
        named = {"warm": rows_of(task, 0, size, sort=sort), "all": rows_of(task, size, 2 * size, sort=sort)}
        sets = {"train_dataset": named["warm"], "eval_dataset": named}
    return InOrder(
        model=model,
        args=trl.SFTConfig(**(arguments | options)),
        processing_class=transformers.PreTrainedTokenizerFast.from_pretrained(task["tokenizer"]),
        callbacks=[trainer_callback(transformers.TrainerCallback, pace)],
        **sets,
    )


def main() -> None:
    task: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(task["threads"])
    transformers.logging.set_verbosity_error()
    pace, losses = Pace(), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(task, pace, folder)
        if task["kind"] == "train":
            trainer.train()
            losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        else:
            for number in range(task["steps"]):
                if not pace.wait():
                    break
                name = "all" if number else "warm"
                losses.append(trainer.evaluate(eval_dataset=name)["eval_loss"])
                pace.done()
    versions = {module.__name__: module.__version__ for module in (torch, transformers, peft, trl)}
    pace.report(losses, versions)


if __name__ == "__main__":
    main()
