"""Decode and prefill speed of the embedded engine, without HTTP: python benchmarks/serve/decode.py --base FOLDER.

Prints tokens per second for several batch sizes, with the base alone, with one adapter, and with adapters mixed in one
batch, and the resident memory. Adapters are random and of the given rank, on every linear layer. Rows are interleaved
over the rounds and the best round counts: on a shared machine the others measure the neighbours.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from tailorbird.lm.adapter import save_adapter
from tailorbird.lm.lora import LoraSpec
from tailorbird.protocol.generation import GenerationChunk, GenerationRequest
from tailorbird.serving.__main__ import Options, build
from tailorbird.serving.server import Api
from tailorbird.serving.tickets import Output


def resident_mebibytes() -> float:
    """Resident memory of this process; 0 where /proc does not exist."""
    status = Path("/proc/self/status")
    lines = status.read_text("utf-8").splitlines() if status.exists() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def write_adapters(api: Api, folder: Path, count: int, rank: int) -> list[str]:
    for i in range(count):
        generator = torch.Generator().manual_seed(i)
        state = {
            name: (
                torch.randn(rank, target.inputs, generator=generator) * 0.02,
                torch.randn(target.outputs, rank, generator=generator) * 0.02,
            )
            for name, target in api.model.targets.items()
        }
        modules = tuple(sorted({name.rpartition(".")[2] for name in state}))
        save_adapter(folder / f"adapter-{i}", state, LoraSpec(rank, 2 * rank, modules), "benchmark")
        api.registry.load(f"adapter-{i}", str(folder / f"adapter-{i}"))
    return [f"adapter-{i}" for i in range(count)]


@dataclass(frozen=True)
class Speed:
    """Tokens a second, and processor milliseconds of a decode step, which neighbours on the machine change least."""

    prefill: float
    decode: float
    step_cpu: float


def run(api: Api, models: list[str], prompt: int, tokens: int) -> Speed:
    """One batch, a row for each of `models`. Decode counts from where all rows have a token to where the first ends."""
    draw = random.Random(0)
    heard: list[list[tuple[float, float]]] = [[] for _ in models]
    done = threading.Semaphore(0)

    def listen(row: int, output: Output) -> None:
        if isinstance(output, GenerationChunk):
            heard[row].append((time.perf_counter(), time.process_time()))
            if output.finish_reason is not None:
                done.release()

    never = dict.fromkeys(api.engine.end_ids, -100.0)
    begin = time.perf_counter()
    for row, model in enumerate(models):
        ids = [draw.randrange(api.model.vocab) for _ in range(prompt)]
        request = GenerationRequest(model, ids, max_tokens=tokens, temperature=0.0, logit_bias=never)
        api.engine.submit(request, api.registry.get(model), lambda output, row=row: listen(row, output))
    for _ in models:
        done.acquire()
    start, cpu_start = max(row[0] for row in heard)
    end, cpu_end = min(row[-1] for row in heard)
    made = sum(start < when <= end for row in heard for when, _ in row)
    steps = made / len(models)
    return Speed(len(models) * prompt / (start - begin), made / (end - start), 1000 * (cpu_end - cpu_start) / steps)


def rows_of_table(batches: list[int], names: list[str]) -> Iterator[tuple[str, list[str]]]:
    for batch in batches:
        yield f"B={batch} base", ["base"] * batch
        yield f"B={batch} one adapter", [names[0]] * batch
        if batch > 1:
            yield f"B={batch} {min(batch, len(names))} adapters", [names[i % len(names)] for i in range(batch)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--adapters", type=int, default=8)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    at_start = resident_mebibytes()
    api = build(
        Options(
            options.base,
            "base",
            dtype=options.dtype,
            device=options.device,
            threads=options.threads,
            max_batch=max(options.batch),
            cached_tokens=max(options.batch) * (options.prompt + options.tokens + 32),
        )
    )
    loaded = resident_mebibytes()
    api.engine.start()
    with tempfile.TemporaryDirectory() as folder:
        names = write_adapters(api, Path(folder), options.adapters, options.rank)
    best: dict[str, Speed] = {}
    for _ in range(options.rounds):
        for name, models in rows_of_table(options.batch, names):
            found = run(api, models, options.prompt, options.tokens)
            before = best.get(name, found)
            best[name] = Speed(
                max(found.prefill, before.prefill),
                max(found.decode, before.decode),
                min(found.step_cpu, before.step_cpu),
            )
    api.engine.stop(10)
    print(f"{options.base.name}, {options.dtype}, {options.device}, {torch.get_num_threads()} threads", end=", ")
    print(f"prompt {options.prompt}, rank {options.rank}")
    print(f"{'':24}{'prefill tok/s':>16}{'decode tok/s':>16}{'ms/step':>10}{'cpu ms/step':>13}")
    for name, speed in best.items():
        step = 1000 * int(name.split()[0][2:]) / speed.decode
        print(f"{name:24}{speed.prefill:16.0f}{speed.decode:16.0f}{step:10.2f}{speed.step_cpu:13.2f}")
    print(
        f"resident MiB: {at_start:.0f} with libraries, {loaded:.0f} with the base, {resident_mebibytes():.0f} at last"
    )


if __name__ == "__main__":
    main()
