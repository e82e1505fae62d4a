"""Jobs side by side on one base against the same jobs one after the other: python benchmarks/train/together.py

A job is what the worker starts: a plan, a run folder, `python -m tailorbird.training`. In each round one job runs in a
process of its own, then all of them one after the other, then all in one process; the last two swap places from round
to round. Figures are medians over rounds: peak memory of the process with all by that of a process with one, and
seconds of all together by seconds of one after the other. Losses are compared too. Writes Markdown and JSON to --out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailorbird.dataset.render import Renderer
from tailorbird.protocol.training import EVENTS_FILE, PLAN_FILE, Finished, Step, TrainPlan, event_from_line

ROOT = Path(__file__).parents[2]
WEAVER = ROOT / "src/tailorbird/weaver"
ROWS = ROOT / "examples/bookings.train.jsonl"
# As the worker's trainer gets them.
_VARIABLES = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": str(ROOT / "src"),
}
# In a process of its own: a child's peak memory begins with what its parent held when it was started.
_WRITE_BASE = (
    "import sys, pathlib, workloads; workloads.write_base(pathlib.Path(sys.argv[1]), sys.argv[2], layers=None)"
)


@dataclass(frozen=True)
class Cost:
    seconds: float
    cpu_seconds: float
    peak_mb: float
    """Of the largest process."""
    losses: list[list[float]]
    """Job by job, step by step."""


def write_base(folder: Path, shape: str) -> Path:
    """`weaver` itself, or random weights of `shape` with weaver's tokens, so that the rows can be read."""
    if shape == "weaver":
        return WEAVER
    base = folder / shape
    base.mkdir()
    here = os.environ | _VARIABLES | {"PYTHONPATH": f"{ROOT / 'src'}:{Path(__file__).parent}"}
    subprocess.run([sys.executable, "-c", _WRITE_BASE, str(base), shape], env=here, check=True, capture_output=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(WEAVER / name, base)
    return base


def write_jobs(folder: Path, base: Path, arguments: argparse.Namespace) -> list[TrainPlan]:
    """Each with rows, an order and a rate of its own."""
    rows = ROWS.read_bytes().splitlines(keepends=True)
    plans: list[TrainPlan] = []
    for number in range(arguments.jobs):
        run = folder / f"job-{number}"
        run.mkdir(parents=True)
        first = number * 7 % (len(rows) - arguments.rows)
        (run / "rows.jsonl").write_bytes(b"".join(rows[first : first + arguments.rows]))
        plans.append(
            TrainPlan(
                job_id=f"job-{number}",
                run_folder=str(run),
                base_model=str(base),
                training_file=str(run / "rows.jsonl"),
                n_epochs=arguments.epochs,
                batch_size=arguments.batch,
                learning_rate=1e-3 * (1 + number / 10),
                seed=number,
                max_tokens=1024,
                template_hash=Renderer.from_folder(base).template_hash,
                dtype=arguments.dtype,
                threads=arguments.threads,
            )
        )
        (run / PLAN_FILE).write_text(plans[-1].to_json())
    return plans


def train(groups: Sequence[Sequence[TrainPlan]], threads: int) -> Cost:
    """One process for each of the groups, one after the other."""
    began, worked, peaks = time.perf_counter(), _cpu_seconds(), list[float]()
    for plans in groups:
        command = [sys.executable, "-m", "tailorbird.training", *(str(Path(p.run_folder) / PLAN_FILE) for p in plans)]
        environment = os.environ | _VARIABLES | {"OMP_NUM_THREADS": str(threads)}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
        errors = process.communicate()[1].decode()
        if process.returncode:
            raise SystemExit(errors[-2000:])
        peaks.append(max(_finished(plan).notes["peak_memory_mb"] for plan in plans))
    seconds, cpu_seconds = time.perf_counter() - began, _cpu_seconds() - worked
    losses = [
        [event.metrics.train_loss or 0.0 for event in _events(p) if isinstance(event, Step)] for g in groups for p in g
    ]
    return Cost(seconds, cpu_seconds, max(peaks), losses)


def _cpu_seconds() -> float:
    """Of all processes that have ended: on a machine with other work they say more than those of the clock."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _events(plan: TrainPlan) -> list[Any]:
    return [event_from_line(line) for line in (Path(plan.run_folder) / EVENTS_FILE).read_text().splitlines()]


def _finished(plan: TrainPlan) -> Finished:
    return next(event for event in _events(plan) if isinstance(event, Finished))


def measure(base: Path, arguments: argparse.Namespace) -> dict[str, list[Cost]]:
    found: dict[str, list[Cost]] = {"one": [], "after": [], "together": []}
    for number in range(arguments.rounds):
        ways = ["one", *(("after", "together") if number % 2 else ("together", "after"))]
        for way in ways:
            with tempfile.TemporaryDirectory() as folder:
                plans = write_jobs(Path(folder), base, arguments)
                groups = {"one": [plans[:1]], "after": [[plan] for plan in plans], "together": [plans]}[way]
                found[way].append(train(groups, arguments.threads))
    return found


def summary(shape: str, found: dict[str, list[Cost]], arguments: argparse.Namespace) -> dict[str, Any]:
    def ratios(field: str, of: str, by: str) -> list[float]:
        return [getattr(a, field) / getattr(b, field) for a, b in zip(found[of], found[by], strict=True)]

    pairs = zip(found["after"][0].losses, found["together"][0].losses, strict=True)
    differences = [abs(a - b) / abs(a) for one, other in pairs for a, b in zip(one, other, strict=True)]
    return {
        "shape": shape,
        "dtype": arguments.dtype,
        "threads": arguments.threads,
        "jobs": arguments.jobs,
        "steps": len(found["one"][0].losses[0]),
        "memory_ratios": ratios("peak_mb", "together", "one"),
        "time_ratios": ratios("seconds", "together", "after"),
        "cpu_time_ratios": ratios("cpu_seconds", "together", "after"),
        "seconds": {way: [cost.seconds for cost in costs] for way, costs in found.items()},
        "cpu_seconds": {way: [cost.cpu_seconds for cost in costs] for way, costs in found.items()},
        "peak_mb": {way: [cost.peak_mb for cost in costs] for way, costs in found.items()},
        "largest_loss_difference": max(differences),
    }


def line_of(one: dict[str, Any]) -> str:
    def spread(values: list[float]) -> str:
        return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"

    seconds, peak = one["seconds"], one["peak_mb"]
    return (
        f"| {one['shape']} | {one['dtype']} | {one['jobs']} x {one['steps']} steps "
        f"| {statistics.median(peak['one']):.0f} | {statistics.median(peak['together']):.0f} "
        f"| {spread(one['memory_ratios'])} | {statistics.median(seconds['after']):.1f} "
        f"| {statistics.median(seconds['together']):.1f} | {spread(one['time_ratios'])} "
        f"| {spread(one['cpu_time_ratios'])} "
        f"| {one['largest_loss_difference']:.1e} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shapes", nargs="+", default=["weaver"], help="weaver, or a shape of workloads.py")
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--rows", type=int, default=60, help="of each job")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="float32", choices=["bfloat16", "float32"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "build/bench-together")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    lines = [
        f"# Jobs side by side, {platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "",
        "| base | precision | jobs | peak MB, one | peak MB, together | ratio (median, range) | s, one after the other "
        "| s, together | ratio (median, range) | ratio of CPU seconds | largest difference of a loss |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    record: list[dict[str, Any]] = []
    for shape in arguments.shapes:
        with tempfile.TemporaryDirectory() as folder:
            record.append(summary(shape, measure(write_base(Path(folder), shape), arguments), arguments))
        lines.append(line_of(record[-1]))
        (arguments.out / "table.md").write_text("\n".join(lines) + "\n")
        (arguments.out / "results.json").write_text(json.dumps(record, indent=1))
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
