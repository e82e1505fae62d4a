"""One side of the training benchmark: this trainer. Reads a task as JSON, prints seconds of each step as JSON.

    python benchmarks/train/ours.py task.json

A step is a whole optimizer step: reading the rows, forward, backward, clipping and AdamW. `task.json` holds base, rows,
batch, steps, dtype, threads and options: `{"sharing": false}` for the stock path.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch

from tailorbird.protocol.training import TrainPlan
from tailorbird.training.batches import Example
from tailorbird.training.losses import accumulate_gradients
from tailorbird.training.throughput import notes_on, product_speed
from tailorbird.training.trainee import Trainee


def read_examples(path: Path) -> list[Example]:
    """In file order, which is the order of training."""
    examples: list[Example] = []
    for line, text in enumerate(path.read_text().splitlines(), start=1):
        row: dict[str, Any] = json.loads(text)
        positions = tuple(i for i, trained in enumerate(row["trained"]) if trained and i > 0)
        examples.append(Example(line, tuple(row["ids"]), positions, (1.0,) * len(positions)))
    return examples


def build(task: dict[str, Any]) -> Trainee:
    return Trainee.build(
        TrainPlan(
            job_id="benchmark",
            run_folder="",
            base_model=task["base"],
            training_file=task["rows"],
            n_epochs=1,
            batch_size=task["batch"],
            learning_rate=task["learning_rate"],
            seed=0,
            max_tokens=8192,
            template_hash="",
            initial_adapter=str(Path(task["base"]) / "adapter"),
            dtype=task["dtype"],
            lora_rank=task["rank"],
            lora_alpha=task["alpha"],
            micro_batch_tokens=task["options"].get("pass_tokens", 4096),
        )
    )


def main() -> None:
    task: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(task["threads"])
    dtype = getattr(torch, task["dtype"])
    trainee = build(task)
    sharing = task["options"].get("sharing", True)
    seconds: list[float] = []
    losses: list[float] = []
    ceiling = product_speed(dtype, trainee.model.device)
    for step in range(task["steps"]):
        began = time.perf_counter()
        batch = read_examples(Path(task["rows"]))[step * task["batch"] : (step + 1) * task["batch"]]
        trainee.optimizer.zero_grad(set_to_none=True)
        if sharing:
            score = trainee.own.accumulate(batch)
        else:
            score = accumulate_gradients(trainee.model, batch, token_limit=4096)
        torch.nn.utils.clip_grad_norm_(trainee.parameters, 1.0, foreach=True)
        trainee.optimizer.step()
        seconds.append(time.perf_counter() - began)
        losses.append(score.loss)
    notes = notes_on(trainee.own.work, dtype, trainee.model.device) if sharing else {}
    result = {
        "seconds": seconds,
        "losses": losses,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "ceiling": max(ceiling, product_speed(dtype, trainee.model.device)),
        "operations": trainee.own.work.operations,
        "computed_tokens": trainee.own.work.tokens,
        "notes": notes,
        "versions": {"torch": torch.__version__},
    }
    sys.stdout.write("\n" + json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
