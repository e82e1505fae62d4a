"""This trainer against its peers on the same rows: python benchmarks/train/compare.py, or `make bench-train`.

Each side runs in a process and an environment of its own, with the same variables, weights, first adapter, token ids,
order, batches and thread count. Sides take turns, A B A B, for several rounds; the figure is the median of the rounds'
ratios, since neighbours on the machine make absolute seconds worthless. A peer that cannot run is a row that says why.
Writes a table in Markdown and everything in JSON to --out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import workloads

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# Large blocks stay with the process: without that, TRL runs at 0.7 of its speed on CPUs. The same for all sides.
_VARIABLES = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": str(ROOT / "src"),
}
_TRL = ROOT / ".venvs/trl/bin/python"
# What helps TRL on one machine or another; the fastest on the rows at hand is its tuned side.
_TRL_SWEEP: tuple[dict[str, Any], ...] = (
    {"gradient_checkpointing": False, "per_device_train_batch_size": 1},
    {"gradient_checkpointing": False, "per_device_train_batch_size": 2},
    {
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 2,
        "train_sampling_strategy": "group_by_length",
    },
    {"gradient_checkpointing": False, "per_device_train_batch_size": 4},
    {"gradient_checkpointing": False, "per_device_train_batch_size": 1, "packing": True},
)


@dataclass(frozen=True)
class Side:
    name: str
    program: Path
    script: Path
    options: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass
class Case:
    """One table section: a shape, a workload, a batch size, and the files all sides read."""

    shape: str
    workload: str
    batch: int
    task: dict[str, Any]
    targets: list[int]
    """Trained tokens of each step."""
    results: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])
    failures: dict[str, str] = field(default_factory=dict[str, str])


def run_side(side: Side, task: dict[str, Any], limit: float) -> dict[str, Any] | str:
    """Its result, or why there is none."""
    if not side.program.exists():
        return f"{side.program.relative_to(ROOT)} is missing: make bench-train builds it"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.json"
        path.write_text(json.dumps(task | {"options": side.options}))
        environment = os.environ | _VARIABLES | {"OMP_NUM_THREADS": str(task["threads"])}
        command = [str(side.program), str(side.script), str(path)]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit, check=False)
        except subprocess.TimeoutExpired:
            return f"not done after {limit:.0f} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:200]
    return json.loads(done.stdout.strip().splitlines()[-1])


def step_seconds(result: dict[str, Any]) -> float:
    """The first step warms up."""
    return statistics.fmean(result["seconds"][1:])


def prepare(arguments: argparse.Namespace, folder: Path) -> Iterator[Case]:
    for shape in arguments.shapes:
        base = workloads.write_base(folder / shape, shape, layers=arguments.layers)
        vocab = workloads.SHAPES[shape]["vocab_size"]
        write_tokenizer(base, vocab)
        for workload in arguments.workloads:
            for batch in arguments.batch:
                rows = workloads.WORKLOADS[workload](vocab, batch * arguments.steps)
                name = f"{shape}-{workload}-{batch}.jsonl".replace(" ", "-")
                task = {
                    "base": str(base),
                    "tokenizer": str(base),
                    "rows": str(workloads.write_rows(folder / name, rows)),
                    "batch": batch,
                    "steps": arguments.steps,
                    "dtype": arguments.dtype,
                    "threads": arguments.threads,
                    "rank": workloads.RANK,
                    "alpha": workloads.ALPHA,
                    "learning_rate": 1e-4,
                }
                cuts = range(0, len(rows), batch)
                targets = [sum(sum(row.trained[1:]) for row in rows[low : low + batch]) for low in cuts]
                yield Case(shape, workload, batch, task, targets)


def write_tokenizer(folder: Path, vocab: int) -> None:
    """One that SFTTrainer can load; the rows are token ids already."""
    from tokenizers import Tokenizer, models

    words = {f"t{i}": i for i in range(vocab)}
    Tokenizer(models.WordLevel(words, unk_token="t0")).save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "t0", "pad_token": "t0"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def tuned(case: Case, limit: float) -> Side | str:
    """TRL with the fastest options of the sweep on this case."""
    best: tuple[float, Side] | None = None
    reason = "no option of the sweep runs"
    for options in _TRL_SWEEP:
        if case.batch % options["per_device_train_batch_size"]:
            continue
        side = Side("TRL tuned", _TRL, HERE / "trl_side.py", options)
        result = run_side(side, case.task, limit)
        if isinstance(result, str):
            reason = result
        elif best is None or step_seconds(result) < best[0]:
            best = (step_seconds(result), side)
    return best[1] if best else reason


def measure(case: Case, rounds: int, limit: float, *, sweep: bool) -> list[Side]:
    python = Path(sys.executable)
    sides = [
        Side("ours", python, HERE / "ours.py"),
        Side("ours, stock path", python, HERE / "ours.py", {"sharing": False}),
        Side("TRL default", _TRL, HERE / "trl_side.py"),
    ]
    if sweep:
        found = tuned(case, limit)
        if isinstance(found, str):
            case.failures["TRL tuned"] = found
        else:
            sides.append(found)
    for _ in range(rounds):
        for side in sides:
            if side.name in case.failures:
                continue
            result = run_side(side, case.task, limit)
            if isinstance(result, str):
                case.failures[side.name] = result
            else:
                case.results.setdefault(side.name, []).append(result)
    return sides


def table(case: Case, sides: list[Side]) -> list[str]:
    ours = case.results.get("ours", [])
    lines = [
        f"### {case.shape}, {case.workload}, batch {case.batch}",
        "",
        f"{case.task['dtype']}, {case.task['threads']} thread(s), {case.task['steps'] - 1} timed steps a round",
        "",
        "| side | s/step (median) | examples/s | target tokens/s | ours is faster by (median, range) | peak MB "
        "| fraction of limit | options |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for side in sides:
        results = case.results.get(side.name, [])
        if not results:
            continue
        seconds = statistics.median(step_seconds(result) for result in results)
        ratios = [step_seconds(b) / step_seconds(a) for a, b in zip(ours, results, strict=False)]
        share = "-"
        if side.name == "ours":
            share = f"{statistics.median(fraction(result) for result in results):.2f}"
        faster = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})" if ratios else "-"
        lines.append(
            f"| {side.name} | {seconds:.2f} | {case.batch / seconds:.2f} "
            f"| {statistics.fmean(case.targets[1:]) / seconds:.0f} | {faster} "
            f"| {max(result['peak_mb'] for result in results):.0f} | {share} | {json.dumps(side.options)} |"
        )
    lines += [f"| {name} | cannot run: {reason} | | | | | | |" for name, reason in case.failures.items()]
    return [*lines, ""]


def fraction(result: dict[str, Any]) -> float:
    """Of the matrix products this process could have done; PERF section 3's formula."""
    return result["operations"] / sum(result["seconds"]) / result["ceiling"]


def largest_loss_difference(case: Case) -> float:
    """Between any two sides at the first step, relative: the same work gives the same loss."""
    first = [results[0]["losses"][0] for results in case.results.values() if results[0]["losses"]]
    return (max(first) - min(first)) / max(first) if first else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shapes", nargs="+", default=list(workloads.SHAPES), choices=list(workloads.SHAPES))
    parser.add_argument("--workloads", nargs="+", default=list(workloads.WORKLOADS), choices=list(workloads.WORKLOADS))
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, help="cut the models to so many layers, for a quick look")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds after which a side is given up")
    parser.add_argument("--no-sweep", action="store_true", help="leave out TRL's tuned side")
    parser.add_argument("--out", type=Path, default=ROOT / "build/bench-train")
    arguments = parser.parse_args()
    if arguments.steps < 2:
        parser.error("--steps must be at least 2: the first one warms up")
    arguments.out.mkdir(parents=True, exist_ok=True)
    lines = [f"# Training, {platform.processor() or platform.machine()}, {os.cpu_count()} cores", ""]
    record: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for case in prepare(arguments, Path(folder)):
            sides = measure(case, arguments.rounds, arguments.limit, sweep=not arguments.no_sweep)
            lines += table(case, sides)
            lines += [f"Largest difference of the first loss: {largest_loss_difference(case):.2%}", ""]
            case_of = {"shape": case.shape, "workload": case.workload, "task": case.task, "failures": case.failures}
            record.append({**case_of, "sides": {s.name: s.options for s in sides}, "results": case.results})
            (arguments.out / "table.md").write_text("\n".join(lines))
            (arguments.out / "results.json").write_text(json.dumps(record, indent=1))
            print("\n".join(lines[-len(sides) - 9 :]), flush=True)


if __name__ == "__main__":
    main()
