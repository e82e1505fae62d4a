"""Measures how fast a base model trains on this machine, on made-up text, when an estimate asks before the first job.

The trainer that trains jobs runs twice for a few seconds: with small steps and with large ones, which tells a step's
time from a token's. What it takes to start and to leave is measured beside.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import random
import shutil
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from tailorbird.dataset.records import CompletionExample
from tailorbird.dataset.render import Renderer
from tailorbird.domain.models import BaseModel
from tailorbird.domain.pricing import Calibration, Work
from tailorbird.protocol import training as wire
from tailorbird.protocol.training import TrainPlan
from tailorbird.service.models import Catalogue
from tailorbird.service.ports import Clock, Store, Trainer, TrainerCrashed
from tailorbird.service.runs import TrainerOptions
from tailorbird.service.usage.pace import fitted
from tailorbird.service.usage.prefixes import cost_share_of_file

log = logging.getLogger(__name__)

_SHAPES = ((1, 48), (8, 192))
"""Examples a step, tokens of an example."""
_EXAMPLES = 512
_EPOCHS = 1000
_TIMED_SECONDS, _TIMED_STEPS = 4.0, 4
"""How long each shape is timed at least."""
_ONE_LOOK = timedelta(milliseconds=30)
"""Steps told within it were seen at one look into the trainer's events."""
_LONGEST_SECONDS = 120.0
"""For each shape, with the loading of the base; a base that has no steps by then is too slow to be measured."""
_STALE = timedelta(minutes=10)
_LEAVE_SECONDS = 60.0
_WORDS = (
    "the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one"
    " you were her all she there would their we him been has when who will more no if out so said what up its about"
    " into than them can only other new some could time these two may then do first any my now such like our over man"
)


class NotMeasured(Exception):
    """The trainer ended before it had trained enough to tell."""


class Calibrator:
    """`machine` names where this runs, for people. One measurement at a time; whoever needs the machine cancels it."""

    def __init__(
        self,
        store: Store,
        trainer: Trainer,
        catalogue: Catalogue,
        clock: Clock,
        folder: Path,
        options: TrainerOptions,
        machine: str,
    ) -> None:
        self._store = store
        self._trainer = trainer
        self._catalogue = catalogue
        self._clock = clock
        self._folder = folder
        self._options = options
        self._machine = machine

    async def run(self) -> None:
        """Measures one base that estimates wait for, if there is one. Cancelled, it leaves it to the next call."""
        taken = await asyncio.to_thread(self._take)
        if taken is None:
            return
        try:
            measured = await self._measure(self._catalogue.base(taken.base))
        except (NotMeasured, TrainerCrashed, TimeoutError) as error:
            log.warning("a base model could not be measured: %r", error, extra={"base": taken.base})
            measured = taken
        except asyncio.CancelledError:
            # Put down at once: what cancels us must not wait for the database's thread.
            self._put(dataclasses.replace(taken, taken_at=None))
            raise
        done = dataclasses.replace(measured, measured_at=self._clock.now(), machine=self._machine)
        await asyncio.to_thread(self._put, done)
        told = {"base": done.base, "token_seconds": done.token_seconds, "step_seconds": done.step_seconds}
        log.info("measured how fast a base model trains", extra=told)

    def _take(self) -> Calibration | None:
        now = self._clock.now()
        with self._store.begin() as tx:
            return tx.calibrations.take(now, now - _STALE, list(self._catalogue.bases))

    def _put(self, calibration: Calibration) -> None:
        with self._store.begin() as tx:
            tx.calibrations.put(calibration)

    async def _measure(self, base: BaseModel) -> Calibration:
        """Raises NotMeasured, TrainerCrashed, TimeoutError."""
        timed: list[_Timed] = []
        runs: list[Work] = []
        for batch, tokens in _SHAPES:
            folder = self._folder / f"calibration-{base.key}-{batch}"
            shutil.rmtree(folder, ignore_errors=True)
            try:
                plan = await asyncio.to_thread(self._plan, base, folder, batch, min(tokens, base.max_tokens // 2))
                timed.append(await self._time(plan))
                share = await asyncio.to_thread(
                    cost_share_of_file, Path(plan.training_file), self._catalogue.renderer(base.key), batch
                )
                runs.append(timed[-1].work(share))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        token, step = fitted(runs)
        beside = statistics.mean(one.beside for one in timed)
        return Calibration(base.key, None, None, self._machine, token, step, beside)

    def _plan(self, base: BaseModel, folder: Path, batch: int, tokens: int) -> TrainPlan:
        renderer = self._catalogue.renderer(base.key)
        folder.mkdir(parents=True)
        path = folder / "train.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in _rows(renderer, tokens)), encoding="utf-8")
        return TrainPlan(
            job_id=folder.name,
            run_folder=str(folder),
            base_model=base.folder,
            training_file=str(path),
            n_epochs=_EPOCHS,
            batch_size=batch,
            learning_rate=base.learning_rate,
            seed=1,
            max_tokens=base.max_tokens,
            template_hash=renderer.template_hash,
            lora_rank=base.lora_rank,
            lora_alpha=base.lora_alpha,
            dtype="bfloat16" if self._options.dtype == "bfloat16" else "float32",
            save_every=_EXAMPLES * _EPOCHS,
            threads=self._options.threads,
        )

    async def _time(self, plan: TrainPlan) -> _Timed:
        began = self._clock.now()
        run = await self._trainer.start(plan)
        watch = _Watch(began)
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                async for event in run.events():
                    if watch.takes(event, self._clock.now()):
                        break
            left = self._clock.now()
            await run.stop(_LEAVE_SECONDS)
            return watch.timed((self._clock.now() - left).total_seconds())
        except TimeoutError:
            return watch.timed(0.0)
        finally:
            await asyncio.shield(run.kill())


@dataclass(frozen=True, slots=True)
class _Timed:
    steps: int
    tokens: int
    seconds: float
    beside: float

    def work(self, share: float) -> Work:
        return Work("", "", "", "", self.steps, self.tokens, self.seconds, round(self.tokens * share))


class _Watch:
    """Counts whole looks into the trainer's events: steps are told some at a time, all of a look at one moment."""

    def __init__(self, began: datetime) -> None:
        self._began = began
        self._started: datetime | None = None
        self._first: datetime | None = None
        self._last: datetime | None = None
        self._steps = self._tokens = 0

    def takes(self, event: wire.TrainEvent, now: datetime) -> bool:
        """Whether enough is known; the event is not counted then."""
        if isinstance(event, wire.Started):
            self._started = now
        if not isinstance(event, wire.Step):
            return False
        if self._first is None or self._last is None or now - self._first < _ONE_LOOK:
            # The first steps warm up what they touch; the time counts from them on.
            self._first = self._last = self._first or now
            return False
        timed = (self._last - self._first).total_seconds() >= _TIMED_SECONDS and self._steps >= _TIMED_STEPS
        if timed and now - self._last >= _ONE_LOOK:
            return True
        self._last = now
        self._steps, self._tokens = self._steps + 1, self._tokens + event.tokens
        return False

    def timed(self, leaving: float) -> _Timed:
        """Raises NotMeasured."""
        if self._started is None or self._first is None or self._last is None or self._steps == 0:
            raise NotMeasured("no step was trained in time")
        seconds = (self._last - self._first).total_seconds()
        beside = (self._started - self._began).total_seconds() + leaving
        return _Timed(self._steps, self._tokens, seconds, beside)


def _rows(renderer: Renderer, tokens: int) -> Iterator[dict[str, str]]:
    """Texts of about so many tokens that begin with different words, half of each an answer."""
    source, vocabulary = random.Random(1), _WORDS.split()

    def text(words: int) -> str:
        return " ".join(source.choices(vocabulary, k=words))

    trial = renderer.render_example(CompletionExample(prompt=text(100), completion=text(100)))
    words = max(4, round(200 * tokens / len(trial.token_ids)))
    for _ in range(_EXAMPLES):
        yield {"prompt": text(words - words // 2), "completion": " " + text(words // 2)}
