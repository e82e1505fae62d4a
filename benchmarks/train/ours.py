"""One side of the training benchmark: this trainer.

    python benchmarks/train/ours.py task.json

A step is a whole optimizer step: reading the rows, forward, backward, clipping and AdamW; of a validation task it is
the loss of all rows. `task.json` holds kind, base, rows, batch, steps, dtype, threads and options: `{"sharing": false}`
for the stock path. How a side is paced and what it prints: pace.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from pace import Pace

from tailorbird.protocol.training import TrainPlan
from tailorbird.training.batches import Example
from tailorbird.training.decoder.tree import grow
from tailorbird.training.losses import accumulate_gradients, evaluate
from tailorbird.training.shared import Shared
from tailorbird.training.throughput import product_speed
from tailorbird.training.trainee import Trainee

_PASS = 4096  # tokens of a pass, where the task does not say


def read_examples(path: Path, low: int, high: int) -> list[Example]:
    """In file order, which is the order of training."""
    examples: list[Example] = []
    for line, text in enumerate(path.read_text().splitlines()[low:high], start=low + 1):
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
            micro_batch_tokens=task["options"].get("pass_tokens", _PASS),
        )
    )


def step(trainee: Trainee, batch: list[Example], *, sharing: bool) -> float:
    """The batch's mean loss, after which the adapter is one step further."""
    trainee.optimizer.zero_grad(set_to_none=True)
    stock = None if sharing else accumulate_gradients(trainee.model, batch, token_limit=_PASS)
    score = stock or trainee.own.accumulate(batch)
    torch.nn.utils.clip_grad_norm_(trainee.parameters, 1.0, foreach=True)
    trainee.optimizer.step()
    return score.loss


def validate(trainee: Trainee, examples: list[Example], *, sharing: bool) -> float:
    if sharing:
        return trainee.own.evaluate(examples).loss
    return evaluate(trainee.model, examples, token_limit=_PASS).loss


def operations(trainee: Trainee, batch: list[Example], *, training: bool) -> float:
    """What a step on `batch` needs, each token's once; the forward half is counted as Decoder.operations counts."""
    if not isinstance(trainee.own, Shared):
        return 0.0
    decoder, forest = trainee.own.decoder, grow(batch)
    linears = [linear for layer in decoder.layers for linear in layer.linears]
    frozen, adapter = sum(linear.size for linear in linears), sum(linear.adapter_size for linear in linears)
    step, head = decoder.operations(forest), decoder.head.numel() * forest.count
    attention = step - (4.0 * frozen + 6.0 * adapter) * forest.tokens - 4.0 * head
    return step if training else 2.0 * (frozen + adapter) * forest.tokens + 2.0 * head + attention / 3


def main() -> None:
    task: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(task["threads"])
    dtype = getattr(torch, task["dtype"])
    trainee = build(task)
    training, sharing, size = task["kind"] == "train", task["options"].get("sharing", True), task["batch"]
    pace, losses, needed, ceilings = Pace(), list[float](), list[float](), list[float]()
    if not sharing:
        pace.count_calls_of(trainee.model.get_input_embeddings())
    for number in range(task["steps"]):
        if not pace.wait():
            break
        # A validation task has a small batch to warm up with, and then one set, again and again.
        low = number * size if training else min(number, 1) * size
        batch = read_examples(Path(task["rows"]), low, low + size)
        losses.append((step if training else validate)(trainee, batch, sharing=sharing))
        pace.done()
        if sharing:
            pace.tokens[-1] = grow(batch).tokens
        needed.append(operations(trainee, batch, training=training))
        ceilings.append(product_speed(dtype, trainee.model.device))
    pace.report(losses, {"torch": torch.__version__}, operations=needed, ceilings=ceilings)


if __name__ == "__main__":
    main()
