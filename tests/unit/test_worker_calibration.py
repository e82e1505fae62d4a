"""An idle worker measures base models; a job, and the worker's end, put a stop to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tailorbird.domain.jobs import Hyperparameters, Job, JobStatus, Stage
from tailorbird.infra.leases import SqlLeases
from tailorbird.infra.schema import make_engine, migrate
from tailorbird.infra.store import SqlStore
from tailorbird.worker import Worker

AT = datetime(2026, 11, 21, tzinfo=UTC)


class StandingClock:
    def now(self) -> datetime:
        return AT


class EndlessPipeline:
    def __init__(self) -> None:
        self.at_work: list[str] = []

    async def run(self, job: Job, owner: str, pause: asyncio.Event) -> Job:
        self.at_work.append(job.id)
        await asyncio.Event().wait()
        return job

    def sweep(self) -> None:
        pass


class EndlessCalibrator:
    """Counts how often it was begun and put down; the first `failures` times it breaks."""

    def __init__(self, failures: int = 0) -> None:
        self.begun = self.put_down = 0
        self._failures = failures

    async def run(self) -> None:
        self.begun += 1
        if self.begun <= self._failures:
            raise ValueError("broken")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.put_down += 1
            raise


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    migrate(url)
    database = make_engine(url)
    made = SqlStore(database, StandingClock().now)
    made.leases = SqlLeases(database)  # type: ignore[attr-defined]
    yield made
    database.dispose()


def worker_of(store: Any, pipeline: Any, calibrator: Any) -> Worker:
    return Worker(
        "w", store.leases, store, pipeline, StandingClock(), lease_seconds=30, poll_seconds=0.01, max_attempts=3,
        jobs_at_once=2, running_per_account=9, calibrator=calibrator,
    )  # fmt: skip


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not what():
            await asyncio.sleep(0.005)


async def test_a_job_puts_a_measurement_down_and_while_it_runs_none_is_begun(store: SqlStore) -> None:
    pipeline, calibrator = EndlessPipeline(), EndlessCalibrator()
    worker = worker_of(store, pipeline, calibrator)
    running = asyncio.create_task(worker.run())
    await until(lambda: calibrator.begun == 1)
    job = Job("ftjob-1", "acc", JobStatus.QUEUED, Stage.TRAIN, "m", "b", "file", 1, Hyperparameters(), AT, AT)
    with store.begin() as tx:
        tx.jobs.add(job)
    await until(lambda: pipeline.at_work == ["ftjob-1"])
    assert (calibrator.begun, calibrator.put_down) == (1, 1)
    await asyncio.sleep(0.05)  # a few looks at the queue
    assert calibrator.begun == 1
    worker.stop()
    await asyncio.wait_for(running, 30)


async def test_a_worker_that_ends_puts_its_measurement_down(store: SqlStore) -> None:
    calibrator = EndlessCalibrator()
    worker = worker_of(store, EndlessPipeline(), calibrator)
    running = asyncio.create_task(worker.run())
    await until(lambda: calibrator.begun == 1)
    worker.stop()
    await asyncio.wait_for(running, 30)
    assert calibrator.put_down == 1


async def test_a_measurement_that_breaks_does_not_end_the_worker(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailorbird.worker._PAUSE_SECONDS", 0.01)
    calibrator = EndlessCalibrator(failures=2)
    worker = worker_of(store, EndlessPipeline(), calibrator)
    running = asyncio.create_task(worker.run())
    await until(lambda: calibrator.begun == 3)
    assert not running.done()
    worker.stop()
    await asyncio.wait_for(running, 30)
