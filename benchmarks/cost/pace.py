"""Estimated against measured training time, in processor seconds, so that other work on the machine decides nothing.

    python benchmarks/cost/pace.py [FILE.jsonl ...]

Calibrates weaver as a worker does, then trains some steps on each file (default: the example bookings) in batches of 4,
8 and 16, and prints what the calibration says of these steps beside what the trainer's process took for them.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "src"))

from tailorbird.infra.schema import make_engine, migrate  # noqa: E402
from tailorbird.infra.store import SqlStore  # noqa: E402
from tailorbird.infra.trainer import LocalTrainer  # noqa: E402
from tailorbird.protocol.training import Step, TrainPlan  # noqa: E402
from tailorbird.service.models import load_catalogue  # noqa: E402
from tailorbird.service.runs import TrainerOptions  # noqa: E402
from tailorbird.service.usage.calibration import Calibrator  # noqa: E402
from tailorbird.service.usage.prefixes import cost_share_of_file  # noqa: E402

BASE = "weaver"
STEPS = {4: 60, 8: 40, 16: 20}
PACKAGE = ROOT / "src" / "tailorbird"


class ProcessorClock:
    """Tells how long the children of this process have computed."""

    def now(self) -> datetime:
        seconds = 0.0
        for child in psutil.Process().children(recursive=True):
            try:
                spent = child.cpu_times()
            except psutil.NoSuchProcess:
                continue
            seconds += spent.user + spent.system
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


async def trained(trainer: LocalTrainer, plan: TrainPlan, steps: int) -> tuple[float, int, int]:
    """Processor seconds, tokens and steps after the first look at the trainer's events."""
    clock, run = ProcessorClock(), await trainer.start(plan)
    first = last = None
    tokens = count = seen = seen_tokens = 0
    async for event in run.events():
        if isinstance(event, Step):
            now = clock.now()
            if last is None or now - last > timedelta(milliseconds=20):
                # A new look: all steps up to here were trained by the look before.
                first, last, count, tokens = first or now, now, seen, seen_tokens
            if first is not None and now != first:
                seen, seen_tokens = seen + 1, seen_tokens + event.tokens
            if count >= steps:
                break
    await run.stop(60)
    assert first is not None
    assert last is not None
    return (last - first).total_seconds(), tokens, count


async def main(files: list[Path]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="pace"))
    url = f"sqlite:///{folder / 't.db'}"
    migrate(url)
    store = SqlStore(make_engine(url))
    catalogue = load_catalogue(PACKAGE / "catalog.toml")
    base, renderer = catalogue.base(BASE), catalogue.renderer(BASE)
    trainer = LocalTrainer({**os.environ, "PYTHONPATH": str(ROOT / "src")})
    options = TrainerOptions(10**6, 1, "float32")
    with store.begin() as tx:
        tx.calibrations.ask(BASE)
    await Calibrator(store, trainer, catalogue, ProcessorClock(), folder, options, "here").run()
    with store.begin() as tx:
        found = tx.calibrations.get(BASE)
    assert found is not None
    print(f"{found.token_seconds * 1e6:.0f} us a token, {found.step_seconds * 1e3:.1f} ms a step")
    print(f"{'file':32} {'batch':>5} {'steps':>5} {'estimated':>10} {'measured':>10} {'ratio':>6}")
    for file in files:
        for batch, steps in STEPS.items():
            run_folder = folder / f"{file.stem}-{batch}"
            plan = TrainPlan(
                job_id=run_folder.name, run_folder=str(run_folder), base_model=base.folder, training_file=str(file),
                n_epochs=100, batch_size=batch, learning_rate=base.learning_rate, seed=1, max_tokens=base.max_tokens,
                template_hash=renderer.template_hash, lora_rank=base.lora_rank, lora_alpha=base.lora_alpha,
                save_every=10**6, threads=1,
            )  # fmt: skip
            seconds, tokens, count = await trained(trainer, plan, steps)
            share = cost_share_of_file(file, renderer, batch)
            likely = found.token_seconds * tokens * share + found.step_seconds * count
            print(f"{file.name:32} {batch:5} {count:5} {likely:8.1f} s {seconds:8.1f} s {likely / seconds:6.2f}")


if __name__ == "__main__":
    asyncio.run(main([Path(name).resolve() for name in sys.argv[1:]] or [ROOT / "examples" / "bookings.train.jsonl"]))
