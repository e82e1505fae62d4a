"""Claims queued jobs, keeps their leases alive, runs the pipeline, stops cleanly."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import enum
import logging
import math
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Counter, Gauge

from tailorbird.domain.jobs import Job, JobError, JobStatus
from tailorbird.service import acting
from tailorbird.service.pipeline import Pipeline
from tailorbird.service.places import Places
from tailorbird.service.ports import Clock, LeaseLost, Leases, Store
from tailorbird.service.usage.calibration import Calibrator

log = logging.getLogger(__name__)

# After an unexpected failure the next try waits, so that a broken database is not hammered.
_PAUSE_SECONDS = 5.0
_SWEEP_SECONDS = 60.0


class _Ending(enum.Enum):
    """Why a job's task was stopped from outside."""

    CANCELLED = enum.auto()
    OVERDUE = enum.auto()
    LEASE_LOST = enum.auto()
    STOPPING = enum.auto()


class WorkerMetrics:
    """What this process did, for Prometheus."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.claimed = Counter(
            "tailorbird_worker_jobs_claimed", "Jobs claimed, again after a loss too", registry=registry
        )
        self.at_work = Gauge("tailorbird_worker_jobs_at_work", "Jobs being worked on", registry=registry)
        self.left = Counter("tailorbird_worker_jobs_left", "Jobs let go of, by why", ["why"], registry=registry)
        self.lost = Counter("tailorbird_worker_leases_lost", "Leases another worker took", registry=registry)


class Worker:
    """`jobs_at_once` jobs, each under its own lease. `owner` names this process among all workers.

    Up to `jobs_together` jobs of one base count as one: they share a trainer.

    With a `calibrator` an idle worker measures bases that estimates wait for; a job puts an end to that."""

    def __init__(
        self,
        owner: str,
        leases: Leases,
        store: Store,
        pipeline: Pipeline,
        clock: Clock,
        *,
        lease_seconds: float,
        poll_seconds: float,
        max_attempts: int,
        jobs_at_once: int,
        running_per_account: int,
        jobs_together: int = 1,
        registry: CollectorRegistry | None = None,
        calibrator: Calibrator | None = None,
    ) -> None:
        self._owner = owner
        self._calibrator = calibrator
        self._calibrating: asyncio.Task[None] | None = None
        self._leases = leases
        self._store = store
        self._pipeline = pipeline
        self._places = Places(store, clock)
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._poll_seconds = poll_seconds
        self._max_attempts = max_attempts
        self._jobs_at_once = jobs_at_once
        self._jobs_together = jobs_together
        self._at_work: collections.Counter[str] = collections.Counter()  # jobs by base
        self._running_per_account = running_per_account
        self.registry = registry or CollectorRegistry()
        self._metrics = WorkerMetrics(self.registry)
        self._stopping = asyncio.Event()
        self._swept_at: datetime | None = None

    def stop(self) -> None:
        """The trainers of running jobs save, the leases are given back, and `run` returns."""
        self._stopping.set()

    async def run(self) -> None:
        at_work: set[asyncio.Task[None]] = set()
        while not self._stopping.is_set():
            pause = self._poll_seconds
            try:
                room = self._room()
                job = await self._claim(room) if room is None or room else None
                if job is not None:
                    await self._put_down()
                    self._at_work[job.base] += 1
                    at_work.add(asyncio.create_task(self._work_safely(job)))
                    room = self._room()
                if job is not None and (room is None or room):
                    continue
                if room is None:
                    await asyncio.to_thread(self._sweep)
                    self._calibrate(idle=not at_work)
                else:
                    await asyncio.to_thread(self._places.tell)
            except Exception:
                log.exception("the worker could not ask for a job")
                pause = _PAUSE_SECONDS
            at_work = await self._wait(at_work, pause)
        await asyncio.gather(*at_work, self._put_down())

    def _calibrate(self, *, idle: bool) -> None:
        if self._calibrator is not None and idle and (self._calibrating is None or self._calibrating.done()):
            self._calibrating = asyncio.create_task(self._calibrate_safely(self._calibrator))

    async def _calibrate_safely(self, calibrator: Calibrator) -> None:
        try:
            await calibrator.run()
        except Exception:
            log.exception("a base model could not be measured")
            await self._sleep(_PAUSE_SECONDS)

    async def _put_down(self) -> None:
        """The machine is wanted for other things."""
        if self._calibrating is not None:
            self._calibrating.cancel()
            await asyncio.wait({self._calibrating})

    def _room(self) -> frozenset[str] | None:
        """The bases another job of which would have room here; None for every base."""
        trainers = sum(math.ceil(count / self._jobs_together) for count in self._at_work.values())
        if trainers < self._jobs_at_once:
            return None
        return frozenset(base for base, count in self._at_work.items() if count % self._jobs_together)

    async def _claim(self, bases: frozenset[str] | None) -> Job | None:
        now = self._clock.now()
        return await asyncio.to_thread(
            self._leases.claim, self._owner, now, self._lease_seconds, self._running_per_account, bases
        )

    async def _wait(self, at_work: set[asyncio.Task[None]], seconds: float) -> set[asyncio.Task[None]]:
        """Until a job is done, the worker shall stop or the time is over; answers the tasks still at work."""
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({stopping, *at_work}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        return {task for task in at_work if not task.done()}

    async def _work_safely(self, job: Job) -> None:
        self._metrics.claimed.inc()
        self._metrics.at_work.inc()
        try:
            with acting.begun(acting.Acting(principal_name="worker", account=job.account_id, job=job.id)):
                await self._work(job)
        except Exception:
            # The lease runs out by itself, and somebody claims the job again.
            log.exception("the worker lost track of a job", extra={"job": job.id})
            await self._sleep(_PAUSE_SECONDS)
        finally:
            self._metrics.at_work.dec()
            self._at_work[job.base] -= 1

    async def _work(self, job: Job) -> None:
        log.info("claimed job", extra={"job": job.id, "stage": job.stage, "attempt": job.attempts})
        pause = asyncio.Event()
        task = asyncio.create_task(self._pipeline.run(job, self._owner, pause))
        try:
            ending = await self._watch(job, task, pause)
        except BaseException:
            # Without its watch a job must not go on: the lease may be somebody else's by now.
            task.cancel()
            raise
        if ending is None:
            await self._settle(job, task)
            return
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, LeaseLost):
            await task
        if ending is _Ending.CANCELLED:
            with contextlib.suppress(LeaseLost):
                await asyncio.to_thread(self._pipeline.cancel, job, self._owner)
        if ending is _Ending.OVERDUE:
            await asyncio.to_thread(self._fail_overdue, job)
        if ending is _Ending.LEASE_LOST:
            self._metrics.lost.inc()
        else:
            await asyncio.to_thread(self._leases.release, job.id, self._owner)
        self._metrics.left.labels(ending.name.lower()).inc()
        log.info("left job", extra={"job": job.id, "why": ending.name.lower()})

    async def _watch(self, job: Job, task: asyncio.Task[Job], pause: asyncio.Event) -> _Ending | None:
        """Beats the lease until the task is done (None) or has to be stopped; passes on the wish to pause."""
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            while True:
                row = await asyncio.to_thread(self._row, job)
                if row.cancel_requested:
                    return _Ending.CANCELLED
                if row.status is JobStatus.PAUSING:
                    pause.set()
                elif row.status is JobStatus.RUNNING and self._pipeline.overdue(row) is not None:
                    return _Ending.OVERDUE
                beaten = await asyncio.to_thread(
                    self._leases.beat, job.id, self._owner, self._clock.now(), self._lease_seconds
                )
                # A job that has just ended or paused is nobody's any more; its task has a few lines left.
                if not (beaten or task.done() or await asyncio.to_thread(self._is_left, job)):
                    return _Ending.LEASE_LOST
                seconds = min(self._poll_seconds, self._lease_seconds / 3)
                await asyncio.wait({task, stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    return None
                if self._stopping.is_set():
                    return _Ending.STOPPING
        finally:
            stopping.cancel()

    async def _settle(self, job: Job, task: asyncio.Task[Job]) -> None:
        try:
            left = await task
            self._metrics.left.labels(left.status.value).inc()
            log.info("job left the pipeline", extra={"job": job.id, "status": left.status})
        except LeaseLost:
            self._metrics.lost.inc()
            log.warning("lost the lease", extra={"job": job.id})
        except Exception:
            self._metrics.left.labels("broken").inc()
            log.exception("the pipeline broke", extra={"job": job.id, "attempt": job.attempts})
            # A job that was paused was claimed once more for each pause.
            if job.attempts - job.pauses >= self._max_attempts:
                await asyncio.to_thread(self._give_up, job)
            else:
                await self._sleep(_PAUSE_SECONDS)
                await asyncio.to_thread(self._leases.release, job.id, self._owner)

    def _is_left(self, job: Job) -> bool:
        row = self._row(job)
        return row.ended or row.status is JobStatus.PAUSED

    def _row(self, job: Job) -> Job:
        with self._store.begin() as tx:
            return tx.jobs.get(None, job.id) or job

    def _fail_overdue(self, job: Job) -> None:
        error = self._pipeline.overdue(self._row(job))
        if error is not None:
            with contextlib.suppress(LeaseLost):
                self._pipeline.fail(job, self._owner, error)

    def _give_up(self, job: Job) -> None:
        error = JobError(
            "internalFailure",
            f"The service could not finish this job after {job.attempts} attempts. Nothing was charged; "
            f"the operator finds the reason in the worker's log under {job.id}.",
        )
        with contextlib.suppress(LeaseLost):
            self._pipeline.fail(job, self._owner, error)

    def _sweep(self) -> None:
        now = self._clock.now()
        if self._swept_at is None or now - self._swept_at >= timedelta(seconds=_SWEEP_SECONDS):
            self._swept_at = now
            self._pipeline.sweep()

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
