"""Pre-train Weaver from nothing on the invented corpus, for a given wall-clock time.

    python -m recipes.weaver.pretrain --minutes 70 --work /tmp/weaver --export src/tailorbird/weaver

The learning rate warms up, stays, and falls to zero over the last fifth of the time. A checkpoint is written every five
minutes; the same command goes on from it after an interruption. No document is read twice.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import torch
import torch._inductor.config as inductor
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from recipes.weaver import vocabulary
from recipes.weaver.batching import POOL, Batches
from recipes.weaver.network import Batch, Network, Shape, initial
from recipes.weaver.optimizer import Optimizer

WARMUP = 0.01
DECAY = 0.2
"""Shares of the time for warming up and for falling to zero."""
SAVE_EVERY_S = 300.0
LOG_EVERY = 20
CHECKPOINT = "checkpoint.pt"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@dataclass(frozen=True)
class Options:
    """What one run does.

    ``batches`` is how many batches of 2048 tokens make one update; ``start`` is a model folder whose weights and
    tokenizer to begin with instead of from nothing.
    """

    minutes: float
    work: Path
    export: Path | None
    seed: int = 1
    batches: int = 2
    matrix_rate: float = 0.02
    other_rate: float = 0.003
    fast: bool = True
    threads: int = 2
    pool: int = POOL
    tokenizer_documents: int = 40_000
    start: Path | None = None


def rate(progress: float) -> float:
    """The factor on the learning rates at ``progress`` (0 to 1) of the time: warm up, stay, decay."""
    if progress < WARMUP:
        return 0.05 + 0.95 * progress / WARMUP
    return min(1.0, max(0.0, (1 - progress) / DECAY))


def prepared_tokenizer(options: Options) -> Tokenizer:
    """The tokenizer in the work folder; if it is missing, that of ``start`` or one trained now."""
    path = options.work / "tokenizer.json"
    if not path.exists() and options.start is not None:
        for name in TOKENIZER_FILES:
            (options.work / name).write_bytes((options.start / name).read_bytes())
    elif not path.exists():
        vocabulary.export(vocabulary.train(options.tokenizer_documents), options.work)
    return Tokenizer.from_file(str(path))


def export(weights: dict[str, Tensor], shape: Shape, work: Path, folder: Path) -> None:
    """Write a Hugging Face model folder: bfloat16 weights, configuration, tokenizer and template."""
    folder.mkdir(parents=True, exist_ok=True)
    low = {name: value.detach().bfloat16().contiguous() for name, value in weights.items()}
    save_file(low, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    (folder / "config.json").write_text(json.dumps(shape.config(), indent=2) + "\n")
    generation = {"eos_token_id": 2, "pad_token_id": 0, "do_sample": False}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    for name in TOKENIZER_FILES:
        (folder / name).write_bytes((work / name).read_bytes())


def run(options: Options) -> dict[str, Any]:
    """Train until the time is over; returns the counts at the end."""
    options.work.mkdir(parents=True, exist_ok=True)
    stream = Batches(prepared_tokenizer(options), options.seed, pool=options.pool)
    shape = Shape()
    weights, optimizer, state = _started(options, shape)
    stream.read = state["read"]
    batches = iter(stream)
    network = Network(shape, options.fast)
    # One thread per batch instead of two threads inside each operation: 1.9 s of CPU time per update instead of 3 to 5
    # while other processes want the cores too, because no thread spins at the end of every operation.
    threads_before = torch.get_num_threads()
    torch.set_num_threads(1)
    inductor.cpp.threads = 1
    gradients_of = partial(_gradients, network, weights)
    gradients_of(next(batches))  # compiles before the threads start
    before, began = state["elapsed"], time.monotonic()
    last_saved = began
    pool = ThreadPoolExecutor(options.threads, initializer=torch.set_num_threads, initargs=(1,))
    with pool, (options.work / "log.jsonl").open("a") as log:
        while (progress := state["elapsed"] / (60 * options.minutes)) < 1:
            step_batches = list(islice(batches, options.batches))
            total = sum(float(batch.weights.sum()) for batch in step_batches)
            loss = 0.0
            for part, gradients in pool.map(gradients_of, step_batches):
                loss += part / total
                for value, gradient in zip(weights.values(), gradients, strict=True):
                    gradient.div_(total)
                    value.grad = gradient if value.grad is None else value.grad.add_(gradient)
            optimizer.step(rate(progress), pool)
            state["step"] += 1
            state["tokens"] += sum(batch.real for batch in step_batches)
            state["read"] = stream.read
            state["elapsed"] = before + time.monotonic() - began
            state["loss"] = loss if state["step"] == 1 else 0.98 * state["loss"] + 0.02 * loss
            if state["step"] % LOG_EVERY == 0:
                _write(log, state, loss, rate(progress))
            if time.monotonic() - last_saved > SAVE_EVERY_S:
                _save(options.work, weights, optimizer, state)
                last_saved = time.monotonic()
    torch.set_num_threads(threads_before)
    _save(options.work, weights, optimizer, state)
    if options.export is not None:
        export(weights, shape, options.work, options.export)
    return state


def _started(options: Options, shape: Shape) -> tuple[dict[str, Tensor], Optimizer, dict[str, Any]]:
    """Weights, optimizer and counts as the checkpoint has them; or fresh ones, with the weights of ``start``."""
    weights = initial(shape, options.seed)
    if options.start is not None:
        given = load_file(options.start / "model.safetensors")
        weights.update({name: given[name].float() for name in weights})
    state: dict[str, Any] = {"step": 0, "tokens": 0, "elapsed": 0.0, "read": 0, "loss": 0.0}
    saved = options.work / CHECKPOINT
    loaded = torch.load(saved, weights_only=True) if saved.exists() else None
    if loaded:
        weights.update(loaded["weights"])
        state = loaded["state"]
    for value in weights.values():
        value.requires_grad_()
    optimizer = Optimizer(weights, options.matrix_rate, options.other_rate)
    if loaded:
        optimizer.load(loaded["optimizer"])
    return weights, optimizer, state


def _gradients(network: Network, weights: dict[str, Tensor], batch: Batch) -> tuple[float, tuple[Tensor, ...]]:
    """A batch's summed loss, and its gradients in the order of ``weights``."""
    loss = network.loss(weights, batch)
    return float(loss.detach()), torch.autograd.grad(loss, list(weights.values()))


def _write(log: TextIO, state: dict[str, Any], loss: float, factor: float) -> None:
    line = {"step": state["step"], "tokens": state["tokens"], "seconds": round(state["elapsed"], 1)}
    line |= {"loss": round(loss, 4), "mean": round(state["loss"], 4), "rate": round(factor, 4)}
    log.write(json.dumps(line) + "\n")
    log.flush()


def _save(work: Path, weights: dict[str, Tensor], optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Write the checkpoint whole or not at all."""
    fresh = work / (CHECKPOINT + ".new")
    plain = {name: value.detach() for name, value in weights.items()}
    torch.save({"weights": plain, "optimizer": optimizer.state(), "state": state}, fresh)
    os.replace(fresh, work / CHECKPOINT)


def main() -> None:
    """Parse the command line and train, or only export the last checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minutes", type=float, required=True, help="wall-clock minutes; 0 only exports the checkpoint"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of the checkpoint and the log")
    parser.add_argument("--export", type=Path, help="model folder to write at the end")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--matrix-rate", type=float, default=0.02)
    parser.add_argument("--other-rate", type=float, default=0.003)
    parser.add_argument("--batches", type=int, default=2)
    parser.add_argument("--start", type=Path, help="model folder to go on from; the corpus needs another --seed then")
    parser.add_argument("--plain", action="store_true", help="without torch.compile: slower, but starts at once")
    given = parser.parse_args()
    options = Options(
        given.minutes,
        given.work,
        given.export,
        given.seed,
        given.batches,
        given.matrix_rate,
        given.other_rate,
        not given.plain,
        start=given.start,
    )
    if options.minutes > 0:
        print(json.dumps(run(options)))
    elif options.export is not None:
        loaded = torch.load(options.work / CHECKPOINT, weights_only=True)
        export(loaded["weights"], Shape(), options.work, options.export)


if __name__ == "__main__":
    main()
