"""One side of the training benchmark: TRL's SFTTrainer with PEFT. Runs in an environment of its own, without our code.

    .venvs/trl/bin/python benchmarks/train/trl_side.py task.json

Same task file and same printed JSON as ours.py. `options` are SFTConfig's, given as they are; `{}` is TRL's default.
"""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# TRL is in an environment of its own.
from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import peft
import torch
import transformers
import trl


class Clock(transformers.TrainerCallback):
    """Seconds from the end of one optimizer step to the end of the next: data loading and all."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._before = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._before = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._before)
        self._before = now


class InOrder(trl.SFTTrainer):
    """Rows in file order, unless the options ask for another: the optimizer batches of all sides are the same."""

    def _get_train_sampler(self, *arguments: Any, **named: Any) -> Any:
        if getattr(self.args, "train_sampling_strategy", "random") != "random":
            return super()._get_train_sampler(*arguments, **named)
        return torch.utils.data.SequentialSampler(self.train_dataset)


def rows_of(task: dict[str, Any]) -> datasets.Dataset:
    rows = [json.loads(line) for line in Path(task["rows"]).read_text().splitlines()]
    rows = rows[: task["steps"] * task["batch"]]
    return datasets.Dataset.from_list([{"input_ids": row["ids"], "completion_mask": row["trained"]} for row in rows])


def main() -> None:
    task: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(task["threads"])
    transformers.logging.set_verbosity_error()
    options: dict[str, Any] = dict(task["options"])
    micro = options.pop("per_device_train_batch_size", min(8, task["batch"]))
    weights = getattr(torch, options.pop("weights", task["dtype"]))
    model = transformers.AutoModelForCausalLM.from_pretrained(task["base"], dtype=weights, attn_implementation="sdpa")
    model = peft.PeftModel.from_pretrained(model, str(Path(task["base"]) / "adapter"), is_trainable=True)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(task["tokenizer"])
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments: dict[str, Any] = {
            "output_dir": folder,
            "max_steps": task["steps"],
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": task["batch"] // micro,
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
            "dataset_kwargs": {"skip_prepare_dataset": False},
            "completion_only_loss": True,
        }
        trainer = InOrder(
            model=model,
            args=trl.SFTConfig(**(arguments | options)),
            train_dataset=rows_of(task),
            processing_class=tokenizer,
            callbacks=[clock],
        )
        trainer.train()
    result = {
        "seconds": clock.seconds,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "versions": {"torch": torch.__version__, "trl": trl.__version__, "peft": peft.__version__},
    }
    sys.stdout.write("\n" + json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
