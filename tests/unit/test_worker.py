"""The worker with a scripted pipeline over a real SQLite store: claims, wishes passed on, clean ends."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tailorbird.domain.jobs import EventKind, Hyperparameters, Job, JobError, JobStatus, Stage
from tailorbird.infra.leases import SqlLeases
from tailorbird.infra.schema import make_engine, migrate
from tailorbird.infra.store import SqlStore
from tailorbird.service import acting
from tailorbird.worker import Worker

AT = datetime(2026, 11, 21, tzinfo=UTC)


class HandClock:
    def __init__(self) -> None:
        self.time = AT

    def now(self) -> datetime:
        return self.time


class ScriptedPipeline:
    """Jobs hold on until `let_go`; what the worker asked for is kept."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self.let_go = asyncio.Event()
        self.at_work: list[str] = []
        self.stopped: list[str] = []
        self.pauses: dict[str, asyncio.Event] = {}
        self.failure: Exception | None = None
        self.hours = 720.0
        self.now: Callable[[], datetime] = lambda: AT

    async def run(self, job: Job, owner: str, pause: asyncio.Event) -> Job:
        self.at_work.append(job.id)
        self.pauses[job.id] = pause
        try:
            if self.failure is not None:
                raise self.failure
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.stopped.append(job.id)
            raise
        return self._end(job, owner, JobStatus.SUCCEEDED)

    def cancel(self, job: Job, owner: str) -> Job:
        return self._end(job, owner, JobStatus.CANCELLED)

    def fail(self, job: Job, owner: str, error: JobError) -> Job:
        return self._end(dataclasses.replace(job, error=error), owner, JobStatus.FAILED)

    def overdue(self, job: Job) -> JobError | None:
        late = job.running_time(self.now()) >= timedelta(hours=self.hours)
        return JobError("jobTimeout", "too long") if late else None

    def sweep(self) -> None:
        pass

    def _end(self, job: Job, owner: str, status: JobStatus) -> Job:
        ended = dataclasses.replace(job, status=status, stage=Stage.DONE)
        with self._store.begin() as tx:
            tx.jobs.save(ended, owner=owner)
        return ended


class Bench:
    def __init__(self, folder: Path) -> None:
        url = f"sqlite:///{folder / 'test.db'}"
        migrate(url)
        self.database = make_engine(url)
        self.clock = HandClock()
        self.store = SqlStore(self.database, self.clock.now)
        self.leases = SqlLeases(self.database)
        self.pipeline = ScriptedPipeline(self.store)
        self.pipeline.now = self.clock.now

    def add(self, number: int, **fields: object) -> Job:
        plain = Job(
            f"ftjob-{number}", "acc", JobStatus.QUEUED, Stage.TRAIN, "m", "b", "file", 1, Hyperparameters(), AT, AT
        )
        job = dataclasses.replace(plain, **fields)  # pyright: ignore[reportArgumentType]
        with self.store.begin() as tx:
            tx.jobs.add(job)
        return job

    def row(self, job: Job) -> Job:
        with self.store.begin() as tx:
            found = tx.jobs.get(None, job.id)
        assert found is not None
        return found

    def worker(
        self, jobs_at_once: int = 1, per_account: int = 9, max_attempts: int = 3, jobs_together: int = 1
    ) -> Worker:
        return Worker(
            "w",
            self.leases,
            self.store,
            self.pipeline,  # pyright: ignore[reportArgumentType]
            self.clock,
            lease_seconds=30,
            poll_seconds=0.01,
            max_attempts=max_attempts,
            jobs_at_once=jobs_at_once,
            running_per_account=per_account,
            jobs_together=jobs_together,
        )

    async def during(self, worker: Worker, story: Callable[[], Awaitable[None]]) -> None:
        """The story, told while the worker runs; then it is stopped and has ended."""
        running = asyncio.create_task(worker.run())
        try:
            await story()
        finally:
            worker.stop()
            await asyncio.wait_for(running, 5)


async def until(what: Callable[[], bool]) -> None:
    for _ in range(1000):
        if what():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("waited in vain")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.database.dispose()


async def test_as_many_jobs_as_the_setting_says_run_at_once_each_under_its_own_lease(bench: Bench) -> None:
    jobs = [bench.add(n) for n in range(4)]

    async def story() -> None:
        await until(lambda: len(bench.pipeline.at_work) == 3)
        await asyncio.sleep(0.05)
        assert bench.pipeline.at_work == [job.id for job in jobs[:3]]
        bench.pipeline.let_go.set()
        await until(lambda: all(bench.row(job).ended for job in jobs))

    await bench.during(bench.worker(jobs_at_once=3), story)


async def test_jobs_of_one_base_count_as_one_up_to_as_many_as_share_a_trainer(bench: Bench) -> None:
    jobs = [bench.add(n) for n in range(6)]

    async def story() -> None:
        await until(lambda: len(bench.pipeline.at_work) == 4)
        await asyncio.sleep(0.05)
        assert bench.pipeline.at_work == [job.id for job in jobs[:4]]
        bench.pipeline.let_go.set()
        await until(lambda: all(bench.row(job).ended for job in jobs))

    await bench.during(bench.worker(jobs_at_once=2, jobs_together=2), story)


async def test_a_job_of_another_base_is_not_overtaken_by_one_that_could_share_a_trainer(bench: Bench) -> None:
    first, other, younger = bench.add(0), bench.add(1, base="c"), bench.add(2)

    async def story() -> None:
        await until(lambda: len(bench.pipeline.at_work) == 1)
        await asyncio.sleep(0.05)
        assert bench.pipeline.at_work == [first.id]
        bench.pipeline.let_go.set()
        await until(lambda: all(bench.row(job).ended for job in (first, other, younger)))
        assert bench.pipeline.at_work == [first.id, other.id, younger.id]

    await bench.during(bench.worker(jobs_together=3), story)


async def test_an_accounts_limit_holds_within_one_worker(bench: Bench) -> None:
    jobs = [bench.add(n) for n in range(3)]

    async def story() -> None:
        await until(lambda: len(bench.pipeline.at_work) == 2)
        await asyncio.sleep(0.05)
        assert len(bench.pipeline.at_work) == 2
        bench.pipeline.let_go.set()
        await until(lambda: all(bench.row(job).ended for job in jobs))

    await bench.during(bench.worker(jobs_at_once=3, per_account=2), story)


async def test_a_stopping_worker_stops_all_its_jobs_and_gives_their_leases_back(bench: Bench) -> None:
    jobs = [bench.add(n) for n in range(2)]

    async def story() -> None:
        await until(lambda: len(bench.pipeline.at_work) == 2)

    await bench.during(bench.worker(jobs_at_once=2), story)
    assert sorted(bench.pipeline.stopped) == [job.id for job in jobs]
    assert [bench.leases.claim("other", AT, 10, 9) is not None for _ in jobs] == [True, True]


async def test_a_busy_worker_tells_those_who_wait_and_not_those_it_took_at_once(bench: Bench) -> None:
    jobs = [bench.add(n) for n in range(2)]

    def told(job: Job) -> list[object]:
        with bench.store.begin() as tx:
            events = tx.jobs.events(job.id, after=None, limit=9).items
        return [event.data["position"] for event in events if event.kind is EventKind.POSITION]

    async def story() -> None:
        await until(lambda: told(jobs[1]) == [1])

    await bench.during(bench.worker(), story)
    assert told(jobs[0]) == []


async def test_a_wish_to_pause_is_passed_on_and_a_cancelled_job_stopped(bench: Bench) -> None:
    job = bench.add(1, status=JobStatus.RUNNING)

    async def story() -> None:
        await until(lambda: bench.pipeline.at_work == [job.id])
        assert not bench.pipeline.pauses[job.id].is_set()
        with bench.store.begin() as tx:
            assert tx.jobs.request_pause(job.id)
        await until(lambda: bench.pipeline.pauses[job.id].is_set())
        with bench.store.begin() as tx:
            tx.jobs.request_cancel(job.id)
        await until(lambda: bench.row(job).status is JobStatus.CANCELLED)

    await bench.during(bench.worker(), story)
    assert bench.pipeline.stopped == [job.id]


async def test_a_job_that_runs_for_too_long_is_stopped_and_fails_saying_so(bench: Bench) -> None:
    job = bench.add(1, status=JobStatus.RUNNING, started_at=AT)

    async def story() -> None:
        await until(lambda: bench.pipeline.at_work == [job.id])
        bench.clock.time = AT + timedelta(hours=719.9)
        await asyncio.sleep(0.05)
        assert not bench.row(job).ended
        bench.clock.time = AT + timedelta(hours=720)
        await until(lambda: bench.row(job).ended)

    await bench.during(bench.worker(), story)
    error = bench.row(job).error
    assert error is not None
    assert error.code == "jobTimeout"
    assert bench.pipeline.stopped == [job.id]


async def test_a_job_whose_pipeline_keeps_breaking_fails_and_pauses_are_no_attempts(bench: Bench) -> None:
    bench.pipeline.failure = RuntimeError("broken")
    paused_often = bench.add(1, attempts=5, pauses=5)
    worn_out = bench.add(2, attempts=2)

    async def story() -> None:
        await until(lambda: bench.row(worn_out).ended)

    await bench.during(bench.worker(jobs_at_once=2), story)
    error = bench.row(worn_out).error
    assert error is not None
    assert error.code == "internalFailure"
    assert not bench.row(paused_often).ended


async def test_what_the_worker_did_is_counted(bench: Bench) -> None:
    done, cancelled = bench.add(1), bench.add(2)
    worker = bench.worker(jobs_at_once=2)
    value = worker.registry.get_sample_value

    async def story() -> None:
        await until(lambda: len(bench.pipeline.at_work) == 2)
        assert value("tailorbird_worker_jobs_at_work") == 2
        with bench.store.begin() as tx:
            tx.jobs.request_cancel(cancelled.id)
        await until(lambda: bench.row(cancelled).ended)
        bench.pipeline.let_go.set()
        await until(lambda: bench.row(done).ended)
        await until(lambda: value("tailorbird_worker_jobs_at_work") == 0)

    await bench.during(worker, story)
    assert value("tailorbird_worker_jobs_claimed_total") == 2
    assert value("tailorbird_worker_jobs_left_total", {"why": "cancelled"}) == 1
    assert value("tailorbird_worker_jobs_left_total", {"why": "succeeded"}) == 1
    assert value("tailorbird_worker_leases_lost_total") == 0


async def test_a_lost_lease_is_counted(bench: Bench) -> None:
    job = bench.add(1)
    worker = bench.worker()

    async def story() -> None:
        await until(lambda: bench.pipeline.at_work == [job.id])
        bench.leases.release(job.id, "w")
        bench.leases.claim("thief", AT, 3600, 9)
        await until(lambda: worker.registry.get_sample_value("tailorbird_worker_leases_lost_total") == 1)

    await bench.during(worker, story)
    assert worker.registry.get_sample_value("tailorbird_worker_leases_lost_total") == 1


async def test_what_is_logged_of_a_job_knows_its_job(bench: Bench) -> None:
    job = bench.add(1)
    seen: list[str] = []
    original = bench.pipeline.run

    async def run(job: Job, owner: str, pause: asyncio.Event) -> Job:
        await asyncio.to_thread(lambda: seen.append(acting.current().job))
        return await original(job, owner, pause)

    async def story() -> None:
        await until(lambda: bench.row(job).ended)

    bench.pipeline.run = run
    bench.pipeline.let_go.set()
    await bench.during(bench.worker(), story)
    assert set(seen) == {job.id}
    assert acting.current().job == ""
