"""A month of jobs, deployments and traffic, with crashes: the ledger is the bill a person works out with a pencil."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tailorbird.domain.access import Account
from tailorbird.domain.jobs import EventKind, Hyperparameters, Job, JobStatus
from tailorbird.domain.pricing import Charge, Meter
from tailorbird.infra.journal import FileJournals
from tailorbird.infra.store import SqlStore
from tailorbird.protocol import training as wire
from tailorbird.service.adapters import Adapters
from tailorbird.service.deployments import Deployments
from tailorbird.service.intake import NewJob
from tailorbird.service.jobs import Jobs
from tailorbird.service.ports import LeaseLost
from tailorbird.service.usage.hosting import HostingMeter
from tailorbird.service.usage.prices import load_prices
from tailorbird.service.usage.reports import Reports
from tailorbird.service.usage.tokens import TokenMeter
from tailorbird.service.usage.training import TrainingMeter

PACKAGE = Path(__file__).parents[4] / "src" / "tailorbird"
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
STEP_SECONDS, LOADING_SECONDS = 30, 60
TURBO, MINI = "gpt-35-turbo-0613", "gpt-4o-mini-2024-07-18"


class HandClock:
    def __init__(self) -> None:
        self.time = NOVEMBER

    def now(self) -> datetime:
        return self.time

    def at(self, day: int, hour: int = 0, minute: int = 0) -> None:
        self.time = max(self.time, NOVEMBER.replace(day=day, hour=hour, minute=minute))


class TimedRun:
    """A scripted run whose steps take their time, told as events.jsonl tells it: first what was there before."""

    def __init__(self, run: Any, clock: HandClock, lost: int) -> None:
        self._run = run
        self._clock = clock
        self._lost = lost
        self.stepped, self.stop, self.kill = run.stepped, run.stop, run.kill

    async def events(self) -> AsyncIterator[wire.TrainEvent]:
        told = self._run._before
        self._pass(LOADING_SECONDS)
        async for event in self._run.events():
            if isinstance(event, wire.Started):
                event = replace(event, resumed_step=0)
            if isinstance(event, wire.Step) and event.step > told:
                if event.step == told + 1 and told:
                    yield wire.Started(40, 10, 20, 1000, 10, told - self._lost)
                    self._pass(self._lost * STEP_SECONDS)
                self._pass(STEP_SECONDS)
                event = replace(event, tokens=100)
            yield event

    def _pass(self, seconds: float) -> None:
        self._clock.time += timedelta(seconds=seconds)


@dataclass
class TimedTrainer:
    """After a crash the last `lost` steps have to be trained again."""

    inner: Any
    clock: HandClock
    lost: int = 0

    async def start(self, plan: wire.TrainPlan) -> TimedRun:
        run = await self.inner.start(plan)
        return TimedRun(run, self.clock, self.lost if len(self.inner.runs) > 1 else 0)


class Month:
    """One account, one price list: Microsoft's of 2023."""

    def __init__(self, house: Any, folder: Path) -> None:
        self.house = house
        self.clock = house.clock = HandClock()
        self.prices = load_prices(PACKAGE / "prices.toml")
        self.store = house.store = SqlStore(house._database, self.clock.now)
        self.jobs = house.jobs = Jobs(self.store, house.catalogue, self.clock, house._hex, 20, prices=self.prices)
        self.account = Account("acc", "sub", "rg", "local", "local", "OpenAI", "k1", "k2", NOVEMBER)
        adapters = Adapters(house.blobs, folder / "served")
        self.deployments = Deployments(
            self.store, adapters, house.engine(), house.catalogue, self.clock, prices=self.prices
        )
        self.folder = folder / "usage"
        self.meter = self.new_meter()
        self.servers = [HostingMeter(self.store, self.prices, self.clock) for _ in range(2)]

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def job(self, model: str = TURBO, lines: list[str] | None = None) -> Job:
        return self.house.job(lines, model=model)

    def trainer(self, lost: int = 0, **script: Any) -> TimedTrainer:
        return TimedTrainer(self.house.trainer(**script), self.clock, lost)

    async def run(self, job: Job, trainer: TimedTrainer | None = None, owner: str = "worker-1", **more: Any) -> Job:
        pipeline = self.house.pipeline(trainer or self.trainer(), prices=self.prices, **more)
        return await pipeline.run(job, owner)

    async def begin(self, job: Job, trainer: TimedTrainer, pause: asyncio.Event | None = None) -> asyncio.Task[Job]:
        """Runs until the trainer hangs at step 5."""
        task = asyncio.create_task(self.house.pipeline(trainer, prices=self.prices).run(job, "worker-1", pause))
        await self.house.until(lambda: bool(trainer.inner.runs) and trainer.inner.runs[-1].reached >= 5)
        return task

    def claim(self, job: Job, owner: str = "worker-1") -> Job:
        self.house.leases.release(job.id, "worker-1")
        found = self.house.claim(owner)
        assert found is not None
        assert found.id == job.id
        return found

    def billed(self, job: Job) -> list[str]:
        """What its receipts say."""
        found = [event.data for event in self.house.events(job) if event.kind is EventKind.BILLED]
        return [f"{data.get('hours', data.get('tokens'))} {data.get('amount')}" for data in found]

    # --- deployments and traffic --------------------------------------------------------------------------------------

    async def deploy(self, name: str, model: str, sku: str = "Standard") -> None:
        self.deployments.create(self.account, name, model_name=model, sku_name=sku, by="me")
        await self.deployments.provision("acc", name)

    def new_meter(self) -> TokenMeter:
        meter = TokenMeter(self.store, self.prices, FileJournals(self.folder), self.clock)
        meter.recover()
        return meter

    def kill_server(self) -> None:
        for window in [*self.meter._open.values(), *self.meter._passed]:
            os.close(window.journal._handle)  # type: ignore[attr-defined]
        self.meter = self.new_meter()

    def charge(self) -> None:
        for server in self.servers:
            server.charge()
        self.meter.charge()

    def charges(self) -> list[Charge]:
        with self.store.begin() as tx:
            return tx.ledger.page(["acc"], NOVEMBER, NOVEMBER + timedelta(days=40), after=None, limit=9999).items


@pytest.fixture
def month(house: Any, tmp_path: Path) -> Month:
    return Month(house, tmp_path)


async def train_through_crashes(month: Month, rows: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Jobs that are crashed, killed and failed; answers a model's name."""
    # Crashed at step 17, six steps trained twice: 40 steps of 30 s are 1,200 s, two quarters: 51.00.
    crashed = await month.run(month.job(), month.trainer(crashes=[17], lost=6))
    assert month.billed(crashed) == ["0.500 51.00"]

    # The worker is killed at step 5, writing nothing more; another one finishes. 51.00.
    killed = month.job()
    trainer = month.trainer(hang=True)
    task = await month.begin(killed, trainer)
    with monkeypatch.context() as patch:
        patch.setattr(TrainingMeter, "keep", lambda self: None)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    done = await month.run(month.claim(killed, "worker-2"), month.trainer(saved=5), "worker-2")
    assert month.billed(done) == ["0.500 51.00"]

    # Harmful data, and an adapter that does not prove: free.
    harmful = await month.run(month.job(lines=rows(12, "forbidden")))
    unproved = await month.run(month.job(), engine=month.house.engine(error=1.0))
    for failed in (harmful, unproved):
        assert failed.status is JobStatus.FAILED
        assert month.billed(failed) == []
    assert crashed.fine_tuned_model is not None
    return crashed.fine_tuned_model


async def train_with_pauses(month: Month, rows: Any) -> str:
    """Jobs that are cancelled and paused, and one that is paid by the token; answers the model's name of the last."""
    # Cancelled while it waits: free.
    queued = month.jobs.create("acc", NewJob(TURBO, month.house.upload(rows(12)), asked=Hyperparameters(n_epochs=4)))
    month.jobs.cancel("acc", queued.id)
    assert month.billed(queued) == []

    # Cancelled at step 5: 150 s, one quarter: 25.50.
    cancelled = month.job()
    task = await month.begin(cancelled, month.trainer(hang=True))
    month.jobs.cancel("acc", cancelled.id)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    month.house.pipeline(prices=month.prices).cancel(cancelled, "worker-1")
    assert month.billed(cancelled) == ["0.250 25.50"]

    # Paused for three days at step 5, then finished: 51.00. Its last transaction fails the first time.
    paused = await pause_at_5(month)
    month.clock.time += timedelta(days=3)
    month.jobs.resume("acc", paused.id)
    resumed = month.claim(paused)
    with pytest.raises(LeaseLost):
        await lose_lease_at_the_end(month, resumed)
    done = await month.run(month.claim(paused), month.trainer(saved=40))
    assert month.billed(done) == ["0.500 51.00"]

    # Paused at step 5, then cancelled: 25.50.
    given_up = await pause_at_5(month)
    month.clock.time += timedelta(days=1)
    month.jobs.cancel("acc", given_up.id)
    assert month.billed(given_up) == ["0.250 25.50"]

    # Paid by the token: 4 epochs of 1,000 tokens are 4,000, at 0.0033 for a thousand: 0.0132.
    mini = await month.run(month.job(MINI))
    assert month.billed(mini) == ["4000 0.01"]
    assert mini.fine_tuned_model is not None
    return mini.fine_tuned_model


async def pause_at_5(month: Month) -> Job:
    job, wish = month.job(), asyncio.Event()
    task = await month.begin(job, month.trainer(hang=True), wish)
    month.jobs.pause("acc", job.id)
    wish.set()
    paused = await task
    assert paused.status is JobStatus.PAUSED
    return paused


async def lose_lease_at_the_end(month: Month, job: Job) -> None:
    pipeline = month.house.pipeline(month.trainer(saved=5), prices=month.prices)
    register = pipeline._registration.register
    pipeline._registration.register = lambda job, owner: register(job, "somebody else")
    await pipeline.run(job, "worker-1")


async def test_a_month_of_traffic_with_crashes_is_the_bill_worked_out_by_hand(
    month: Month, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    turbo = await train_through_crashes(month, rows, monkeypatch)
    mini = await train_with_pauses(month, rows)
    assert month.clock.time < NOVEMBER.replace(day=7)
    hours = await pass_three_weeks(month, turbo, mini)
    check_bill(month, hours)


async def pass_three_weeks(month: Month, turbo: str, mini: str) -> int:
    """Deployments come and go from the seventh to the thirtieth; answers in how many hours there was traffic."""
    hours = 0
    month.clock.at(7)
    await month.deploy("base", TURBO)
    for hour in range(24 * 23):  # to the end of the thirtieth
        month.clock.at(7 + hour // 24, hour % 24, 10)
        now = (month.clock.time.day, month.clock.time.hour)
        if now == (8, 10):
            await month.deploy("bot", turbo)  # 8th 10:10 to 10th 10:40
        if now == (9, 10):
            month.clock.at(9, 10, 20)
            month.deployments.set_paused("acc", "bot", True, by="me")
        if now == (10, 10):
            month.clock.at(10, 10, 40)
            await month.deployments.delete("acc", "bot")
        if now == (11, 0):
            await month.deploy("mini", mini)  # 11th 00:10 to 21st 00:10
        if now == (21, 0):
            await month.deployments.delete("acc", "mini")
        if now == (22, 0):
            await month.deploy("cheap", mini, "DeveloperTier")
        if (8, 12) <= now < (9, 20):
            continue  # The server is down for 32 hours: no traffic, and hosting goes on.
        month.meter.count("acc", month.deployments.get("acc", "base"), TURBO, 1000, 500)
        month.meter.count("acc", month.deployments.get("acc", "base"), TURBO, 234, 67)
        hours += 1
        if hours % 50 == 0:
            month.kill_server()
        if hours % 3 == 0:
            month.charge()
    month.clock.at(30, 23, 59)
    month.meter.charge(all_of_it=True)
    month.charge()
    return hours


def check_bill(month: Month, hours: int) -> None:
    assert hours == 24 * 23 - 32 == 520
    training = 3 * Decimal("51.00") + 2 * Decimal("25.50") + Decimal("0.0132")
    # Bot: 48.5 hours are 49 begun ones. Mini: exactly 240. Base and developer tier: none.
    hosting = 49 * Decimal("7.00") + 240 * Decimal("1.70")
    # 520 x 1,234 = 641,680 tokens in, 520 x 567 = 294,840 out.
    tokens = Decimal("641.680") * Decimal("0.0015") + Decimal("294.840") * Decimal("0.0020")
    assert (training, hosting, tokens) == (Decimal("204.0132"), Decimal("751.00"), Decimal("1.552200"))
    report = Reports(month.store, month.prices).usage([month.account], NOVEMBER, month.clock.time, "deployment")
    assert report.total == Decimal("956.57")
    by_meter = {(row.group, row.meter): (row.quantity, row.amount) for row in report.rows}
    assert by_meter == {
        (None, Meter.TRAINING_HOURS): (Decimal("2.000"), Decimal("204")),
        (None, Meter.TRAINING_TOKENS): (Decimal(4000), Decimal("0.0132")),
        ("bot", Meter.HOSTING_HOURS): (Decimal("49.000"), Decimal("343.00")),
        ("mini", Meter.HOSTING_HOURS): (Decimal("240.000"), Decimal("408.00")),
        ("base", Meter.INPUT_TOKENS): (Decimal(641_680), Decimal("0.962520")),
        ("base", Meter.OUTPUT_TOKENS): (Decimal(294_840), Decimal("0.589680")),
    }
    for charge in month.charges():
        assert (charge.job_id is None) != (charge.deployment is None), charge
        assert charge.price_list.startswith("2023+")
