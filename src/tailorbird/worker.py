"""Claims a queued job, keeps its lease alive, runs the pipeline, stops cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging

from tailorbird.domain.jobs import Job, JobError
from tailorbird.service.pipeline import Pipeline
from tailorbird.service.ports import Clock, LeaseLost, Leases, Store

log = logging.getLogger(__name__)

# After an unexpected failure the next try waits, so that a broken database is not hammered.
_PAUSE_SECONDS = 5.0


class _Ending(enum.Enum):
    """Why a job's task was stopped from outside."""

    CANCELLED = enum.auto()
    LEASE_LOST = enum.auto()
    STOPPING = enum.auto()


class Worker:
    """One job at a time; run several processes for several jobs. `owner` names this process among all workers."""

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
    ) -> None:
        self._owner = owner
        self._leases = leases
        self._store = store
        self._pipeline = pipeline
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._poll_seconds = poll_seconds
        self._max_attempts = max_attempts
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """The running job's trainer saves, the lease is given back, and `run` returns."""
        self._stopping.set()

    async def run(self) -> None:
        while not self._stopping.is_set():
            try:
                job = await asyncio.to_thread(self._leases.claim, self._owner, self._clock.now(), self._lease_seconds)
                if job is not None:
                    await self._work(job)
                    continue
                pause = self._poll_seconds
            except Exception:
                log.exception("the worker could not ask for a job")
                pause = _PAUSE_SECONDS
            await self._sleep(pause)

    async def _work(self, job: Job) -> None:
        log.info("claimed job", extra={"job": job.id, "stage": job.stage, "attempt": job.attempts})
        task = asyncio.create_task(self._pipeline.run(job, self._owner))
        try:
            ending = await self._watch(job, task)
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
        if ending is not _Ending.LEASE_LOST:
            await asyncio.to_thread(self._leases.release, job.id, self._owner)
        log.info("left job", extra={"job": job.id, "why": ending.name.lower()})

    async def _watch(self, job: Job, task: asyncio.Task[Job]) -> _Ending | None:
        """Beats the lease until the task is done (None) or has to be stopped."""
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            while True:
                if job.cancel_requested or await asyncio.to_thread(self._cancel_requested, job.id):
                    return _Ending.CANCELLED
                beaten = await asyncio.to_thread(
                    self._leases.beat, job.id, self._owner, self._clock.now(), self._lease_seconds
                )
                if not beaten and not task.done():
                    return _Ending.LEASE_LOST
                pause = min(self._poll_seconds, self._lease_seconds / 3)
                await asyncio.wait({task, stopping}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    return None
                if self._stopping.is_set():
                    return _Ending.STOPPING
        finally:
            stopping.cancel()

    async def _settle(self, job: Job, task: asyncio.Task[Job]) -> None:
        try:
            ended = await task
            log.info("job ended", extra={"job": job.id, "status": ended.status})
        except LeaseLost:
            log.warning("lost the lease", extra={"job": job.id})
        except Exception:
            log.exception("the pipeline broke", extra={"job": job.id, "attempt": job.attempts})
            if job.attempts >= self._max_attempts:
                await asyncio.to_thread(self._give_up, job)
            else:
                await self._sleep(_PAUSE_SECONDS)
                await asyncio.to_thread(self._leases.release, job.id, self._owner)

    def _cancel_requested(self, job_id: str) -> bool:
        with self._store.begin() as tx:
            return tx.jobs.cancel_requested(job_id)

    def _give_up(self, job: Job) -> None:
        with self._store.begin() as tx:
            current = tx.jobs.get(None, job.id) or job
        error = JobError(
            "internalFailure",
            f"The service could not finish this job after {job.attempts} attempts. Nothing was charged; "
            f"the operator finds the reason in the worker's log under {job.id}.",
        )
        with contextlib.suppress(LeaseLost):
            self._pipeline.fail(current, self._owner, error)

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
