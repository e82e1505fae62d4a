"""This trainer against its peers on the same rows: python benchmarks/train/compare.py, or `make bench-train`.

Each side runs in a process and an environment of its own, with the same variables, weights, first adapter, token ids,
optimizer batches and thread count. First every peer is tried with its options, one step each. Then this trainer and the
fastest peer take turns, step by step on the same rows, for several rounds; the figure is the median of the rounds'
ratios, since neighbours on the machine make absolute seconds worthless. The other sides take one step each. Without
arguments it measures the cases of plan.py. Tables and records are written after each case to --out, and with --page
into a page; --resume keeps the cases of --out that are complete.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import plan
import report
import workloads
from sides import ROOT, Running, Side, SideFailed, run

HERE = Path(__file__).parent
_PROGRAMS = {
    plan.TRL: (ROOT / ".venvs/trl/bin/python", HERE / "trl_side.py"),
    plan.LLAMAFACTORY: (ROOT / ".venvs/llamafactory/bin/python", HERE / "llamafactory_side.py"),
    plan.TORCHTUNE: (ROOT / ".venvs/torchtune/bin/python", HERE / "torchtune_side.py"),
}
_OURS = Side("ours", Path(sys.executable), HERE / "ours.py")
_STOCK = Side("ours, stock path", Path(sys.executable), HERE / "ours.py", {"sharing": False})
_DEFAULT = Side("TRL default", *_PROGRAMS[plan.TRL])
_WARM = 256  # tokens of the longest row of the batch that warms up
_LOST = 1.5  # an option this many times slower than the best one is not waited for
_LEAST_WAIT = 10.0  # seconds it is waited for all the same


@dataclass
class Measurement:
    """One case under way: the files all sides read, and what is known of it, which is what is written."""

    case: plan.Case
    task: dict[str, Any]
    limit: float
    ends: float
    """By time.monotonic(): no side is started later."""
    record: dict[str, Any] = field(default_factory=dict[str, Any])
    share: dict[str, Any] | None = None
    """The task of the sweep, where it is not the whole one."""

    @property
    def late(self) -> bool:
        return time.monotonic() > self.ends

    def keep(self, side: Side, result: dict[str, Any]) -> None:
        self.record["sides"][side.name] = {"options": side.options, "result": result}

    def fail(self, side: Side, reason: str) -> None:
        self.record["sides"][side.name] = {"options": side.options, "failure": reason}


def prepare(case: plan.Case, arguments: argparse.Namespace, folder: Path) -> Measurement:
    base = folder / case.shape
    vocab = workloads.SHAPES[case.shape]["vocab_size"]
    if not base.exists():
        workloads.write_base(base, case.shape, layers=arguments.layers)
        write_tokenizer(base, vocab)
    steps = case.rounds + 1
    sets = case.rounds if case.kind == "train" else 1
    rows = workloads.WORKLOADS[case.workload](vocab, case.batch * sets)
    task = {
        "kind": case.kind,
        "base": str(base),
        "tokenizer": str(base),
        "rows": str(write_rows(folder / f"{case.name}.jsonl", rows, case.batch)),
        "batch": case.batch,
        "steps": steps,
        "dtype": arguments.dtype,
        "threads": arguments.threads,
        "rank": workloads.RANK,
        "alpha": workloads.ALPHA,
        "learning_rate": 1e-4,
    }
    cuts = [rows[low : low + case.batch] for low in range(0, len(rows), case.batch)]
    targets = [sum(sum(row.trained[1:]) for row in cut) for cut in cuts]
    measurement = Measurement(case, task, arguments.limit, arguments.ends)
    measurement.record = {
        "name": case.name,
        "case": asdict(case),
        "conditions": conditions_of(arguments),
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "day": time.strftime("%Y-%m-%d"),
        "targets": targets if case.kind == "train" else targets * case.rounds,
        "sweep": [],
        "sides": {},
        "complete": False,
    }
    if case.share:
        some = write_rows(folder / f"{case.name}, share.jsonl", rows[: case.share], case.share)
        measurement.share = task | {"rows": str(some), "batch": case.share, "steps": 2}
    return measurement


def write_rows(path: Path, rows: list[workloads.Row], batch: int) -> Path:
    """With a batch before them to warm up on: one row of some length, the others short.

    A row's first token is never trained: some peers count it among the targets, for all that nothing predicts it.
    """
    first, short = (workloads.Row(rows[0].ids[-n:], [0, *rows[0].trained[-n:][1:]]) for n in (_WARM, 16))
    return workloads.write_rows(path, [first, *[short] * (batch - 1), *rows])


def write_tokenizer(folder: Path, vocab: int) -> None:
    """One that the peers can load; the rows are token ids already."""
    from tokenizers import Tokenizer, models

    words = {f"t{i}": i for i in range(vocab)}
    Tokenizer(models.WordLevel(words, unk_token="t0")).save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "t0", "pad_token": "t0"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def processor() -> str:
    """The name a person knows it by, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def sweep(measurement: Measurement, tries: tuple[tuple[str, plan.Options], ...]) -> dict[str, Side]:
    """Every peer with its fastest options on this case; those that no options make run have a row that says why."""
    best: dict[str, tuple[float, Side]] = {}
    reasons: dict[str, tuple[Side, str]] = {}
    task = measurement.share or measurement.task | {"steps": 2}
    for peer, options in tries:
        if not plan.fits(options, task["batch"]):
            continue
        side = Side(peer, *_PROGRAMS[peer], options)
        entry: dict[str, Any] = {"peer": peer, "options": options}
        measurement.record["sweep"].append(entry)
        # The first options of a peer are its row, however slow.
        patience = max(_LEAST_WAIT, _LOST * min(one for one, _ in best.values())) if peer in best else None
        try:
            if measurement.late:
                raise SideFailed("time was up")
            result = run(side, task, limit=measurement.limit, step_limit=patience)
        except SideFailed as failure:
            entry["failure"] = str(failure)
            reasons.setdefault(peer, (side, str(failure)))
            continue
        entry["seconds"] = report.timed(result)[0]
        print(f"  {peer} {json.dumps(options)}: {entry['seconds']:.2f} s", flush=True)
        if peer not in best or entry["seconds"] < best[peer][0]:
            best[peer] = (entry["seconds"], side)
            if measurement.share is None:
                measurement.keep(side, result)
    for peer, (side, reason) in reasons.items():
        if peer not in best:
            measurement.fail(side, reason)
    return {peer: side for peer, (_, side) in sorted(best.items(), key=lambda one: one[1][0])}


def take_turns(measurement: Measurement, sides: list[Side]) -> None:
    """All `sides`, loaded and warm, step by step on the same rows."""
    running: dict[Side, Running] = {}
    with ExitStack() as ends:

        def attempt(side: Side, do: Callable[[], Any]) -> None:
            try:
                do()
            except SideFailed as failure:
                measurement.fail(side, str(failure))
                running.pop(side, None)

        def start(side: Side) -> None:
            running[side] = ends.enter_context(Running(side, measurement.task, limit=measurement.limit))
            running[side].ready()

        for side in sides:  # one loads after the other, with the machine to itself
            attempt(side, partial(start, side))
        for number in range(1 + measurement.case.rounds):
            if number > 1 and measurement.late:
                break
            for side, one in list(running.items()):
                attempt(side, one.step)
        for side, one in list(running.items()):
            attempt(side, lambda side=side, one=one: measurement.keep(side, one.finish()))


def measure(measurement: Measurement, tries: tuple[tuple[str, plan.Options], ...]) -> None:
    case = measurement.case
    found = sweep(measurement, tries)
    take_turns(measurement, [_OURS, *list(found.values())[:1]])
    others = [*([_STOCK] if case.stock else []), *list(found.values())[1:], _DEFAULT]
    for side in others:
        if side.name in measurement.record["sides"]:
            continue  # its step of the sweep is the one
        if measurement.late:
            measurement.fail(side, "time was up")
            continue
        try:
            measurement.keep(side, run(side, measurement.task | {"steps": 2}, limit=measurement.limit))
        except SideFailed as failure:
            measurement.fail(side, str(failure))
    order = [_OURS.name, _STOCK.name, *_PROGRAMS, _DEFAULT.name]
    measurement.record["sides"] = {n: measurement.record["sides"][n] for n in order if n in measurement.record["sides"]}
    measurement.record["complete"] = not measurement.late


def tries_for(case: plan.Case, records: list[dict[str, Any]]) -> tuple[tuple[str, plan.Options], ...]:
    if case.kind == "validation":
        return plan.VALIDATION_SWEEP
    if case.sweep == "all":
        return plan.SWEEP
    swept = [r["sweep"] for r in records if r["case"]["kind"] == "train" and r["case"]["sweep"] == "all"]
    return plan.carried(swept[-1] if swept else [])


def cases_of(arguments: argparse.Namespace) -> list[plan.Case]:
    """The plan's, or all combinations of what was asked for."""
    asked = (arguments.shapes, arguments.workloads, arguments.batch, arguments.kind)
    if not any(asked):
        return [plan.Case(**(asdict(case) | _changed(arguments))) for case in plan.PLAN]
    return [
        plan.Case(shape, workload, batch, kind=arguments.kind or "train", stock=True, rounds=arguments.rounds or 5)
        for shape in arguments.shapes or list(workloads.SHAPES)
        for workload in arguments.workloads or list(workloads.WORKLOADS)
        for batch in arguments.batch or [8, 32]
    ]


def _changed(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"rounds": arguments.rounds} if arguments.rounds else {}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shapes", nargs="+", choices=list(workloads.SHAPES))
    parser.add_argument("--workloads", nargs="+", choices=list(workloads.WORKLOADS))
    parser.add_argument("--batch", type=int, nargs="+")
    parser.add_argument("--kind", choices=["train", "validation"])
    parser.add_argument("--rounds", type=int, help="steps of this trainer and the fastest peer in turns")
    parser.add_argument("--layers", type=int, help="cut the models to so many layers, for a quick look")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, default=900.0, help="seconds after which a step is given up")
    parser.add_argument("--minutes", type=float, default=600.0, help="start no side later than that")
    parser.add_argument("--no-sweep", action="store_true", help="each peer with its first options only")
    parser.add_argument("--plan", action="store_true", help="say what would be measured, and stop")
    parser.add_argument("--resume", action="store_true", help="keep the complete cases of --out")
    parser.add_argument("--page", type=Path, help="write the tables between this page's markers")
    parser.add_argument("--out", type=Path, default=ROOT / "build/bench-train")
    arguments = parser.parse_args()
    arguments.ends = time.monotonic() + 60 * arguments.minutes
    return arguments


def complete(arguments: argparse.Namespace, cases: list[plan.Case]) -> dict[str, dict[str, Any]]:
    """What an earlier run has of `cases`, measured in the same way."""
    earlier = arguments.out / "results.json"
    if not arguments.resume or not earlier.exists():
        return {}
    asked = {case.name: asdict(case) for case in cases}
    return {
        old["name"]: old
        for old in json.loads(earlier.read_text())
        if old["complete"] and old["conditions"] == conditions_of(arguments) and old["case"] == asked.get(old["name"])
    }


def conditions_of(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"dtype": arguments.dtype, "threads": arguments.threads, "layers": arguments.layers}


def write(arguments: argparse.Namespace, records: list[dict[str, Any]]) -> None:
    (arguments.out / "results.json").write_text(json.dumps(records, indent=1) + "\n")
    if arguments.page:
        report.write_page(arguments.page, records)
    else:
        (arguments.out / "table.md").write_text("\n".join(["# Training", "", *report.document(records)]))


def main() -> None:
    arguments = parse()
    cases = cases_of(arguments)
    if arguments.plan:
        print("\n".join(f"{case.name}: {case.rounds} rounds" for case in cases))
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    done = complete(arguments, cases)
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(cases):
            if case.name in done:
                continue
            if time.monotonic() > arguments.ends:
                print(f"{case.name}: left out, time is up", flush=True)
                continue
            print(f"{time.strftime('%H:%M')} {case.name}", flush=True)
            measurement = prepare(case, arguments, Path(folder))
            tries = tries_for(case, [done[one.name] for one in cases[:number] if one.name in done])
            if arguments.no_sweep:
                tries = tuple({peer: (peer, options) for peer, options in reversed(tries)}.values())
            measure(measurement, tries)
            done[case.name] = measurement.record
            write(arguments, [done[one.name] for one in cases if one.name in done])
            print("\n".join(report.table(measurement.record)), flush=True)
    write(arguments, [done[one.name] for one in cases if one.name in done])


if __name__ == "__main__":
    main()
