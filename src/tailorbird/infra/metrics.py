"""Figures for Prometheus: what the database says of jobs and leases, and ports that count what passes through them."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIServer

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tailorbird.domain.jobs import EventKind, JobStatus
from tailorbird.infra.store.jobs import waiting
from tailorbird.infra.tables.deployments import deployments
from tailorbird.infra.tables.files import files
from tailorbird.infra.tables.jobs import job_events, jobs
from tailorbird.infra.tables.models import models
from tailorbird.protocol.training import EVENTS_FILE, Step, TrainEvent, TrainPlan
from tailorbird.service.ports import Blobs, Trainer, TrainerRun

_OLDEST_SECONDS = 10.0
"""Several scrapers, or an impatient one, ask the database no more often than this."""
_RATE_SECONDS = 2.0
_RUNS_SHOWN = 100
# Not `job`: Prometheus calls what it scrapes so.
_JOB = "fine_tuning_job"


def new_registry() -> CollectorRegistry:
    """With what the process itself takes: memory, processor time, open files."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


def expose(registry: CollectorRegistry, host: str, port: int) -> WSGIServer:
    """Answers Prometheus at this address from a thread of its own. Raises OSError when the port is taken."""
    return start_http_server(port, addr=host, registry=registry)[0]


# --- what the database says -------------------------------------------------------------------------------------------


class StoreFigures(Collector):
    """Of the whole installation: every server gives the same figures, so take the largest, not their sum."""

    def __init__(
        self,
        engine: sa.Engine,
        now: Callable[[], datetime],
        registry: CollectorRegistry,
        oldest: float = _OLDEST_SECONDS,
    ) -> None:
        self._engine = engine
        self._now = now
        self._oldest = oldest
        self._lock = threading.Lock()
        self._read_at = -float("inf")
        self._figures: list[GaugeMetricFamily] = []
        registry.register(self)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        # Without it, registering would ask the database.
        return families().values()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._lock:
            if time.monotonic() - self._read_at >= self._oldest:
                self._figures = self._read()
                self._read_at = time.monotonic()
            yield from self._figures

    def _read(self) -> list[GaugeMetricFamily]:
        now, made = self._now(), families()
        with self._engine.connect() as connection:
            for status, count in _counted(connection, jobs.c.status):
                made["jobs"].add_metric([status.value], count)
            for state, count in _counted(connection, deployments.c.state):
                made["deployments"].add_metric([state.value], count)
            total = sa.select(files.c.purpose, sa.func.count(), sa.func.coalesce(sa.func.sum(files.c.bytes), 0))
            for purpose, count, size in connection.execute(total.group_by(files.c.purpose)):
                made["files"].add_metric([purpose.value], count)
                made["file_bytes"].add_metric([purpose.value], float(size))
            queue = sa.select(sa.func.count(), sa.func.min(jobs.c.created_at)).where(*waiting(now))
            length, oldest = connection.execute(queue).one()
            made["queue_jobs"].add_metric([], length)
            made["queue_age_seconds"].add_metric([], 0.0 if oldest is None else (now - oldest).total_seconds())
            held = sa.select(sa.func.count()).where(jobs.c.lease_owner.is_not(None), jobs.c.ended.is_(sa.false()))
            for state, condition in (("held", jobs.c.lease_until > now), ("expired", jobs.c.lease_until <= now)):
                made["leases"].add_metric([state], connection.execute(held.where(condition)).scalar_one())
            tuned = connection.execute(sa.select(sa.func.count()).select_from(models)).scalar_one()
            made["tuned_models"].add_metric([], tuned)
            for job, epoch_tokens, epochs in _running(connection):
                _add_run(made, job, epoch_tokens * epochs, _last_reports(connection, job))
        return list(made.values())


def families() -> dict[str, GaugeMetricFamily]:
    def family(name: str, text: str, *labels: str) -> tuple[str, GaugeMetricFamily]:
        return name, GaugeMetricFamily(f"tailorbird_{name}", text, labels=labels)

    return dict(
        (
            family("jobs", "Fine-tuning jobs, ended ones included", "status"),
            family("queue_jobs", "Jobs that wait for a worker"),
            family("queue_age_seconds", "Age of the oldest job that waits for a worker"),
            family("leases", "Jobs a worker holds (held), or held and has not beaten in time (expired)", "state"),
            family("deployments", "Deployments", "state"),
            family("tuned_models", "Fine-tuned models"),
            family("files", "Uploaded files", "purpose"),
            family("file_bytes", "Bytes of uploaded files", "purpose"),
            family("job_loss", "Training loss of a running job at its last report", _JOB),
            family("job_progress_ratio", "Steps trained of all steps of a running job", _JOB),
            family("job_tokens_per_second", "Tokens a running job trains, between its last two reports", _JOB),
        )
    )


def _counted(connection: sa.Connection, column: sa.Column[Any]) -> Sequence[Any]:
    return connection.execute(sa.select(column, sa.func.count()).group_by(column)).all()


def _running(connection: sa.Connection) -> Iterator[tuple[str, int, int]]:
    at_work = (jobs.c.ended.is_(sa.false()), jobs.c.status.in_([JobStatus.RUNNING, JobStatus.PAUSING]))
    query = sa.select(jobs.c.id, jobs.c.epoch_tokens, jobs.c.resolved).where(*at_work).limit(_RUNS_SHOWN)
    for job, tokens, resolved in connection.execute(query):
        yield job, tokens or 0, 1 if resolved is None else resolved.n_epochs or 1


def _last_reports(connection: sa.Connection, job: str) -> Sequence[Any]:
    own = (job_events.c.job_id == job, job_events.c.kind == EventKind.METRICS)
    query = sa.select(job_events.c.created_at, job_events.c.data).where(*own)
    return connection.execute(query.order_by(job_events.c.seq.desc()).limit(2)).all()


def _add_run(made: dict[str, GaugeMetricFamily], job: str, tokens: int, reports: Sequence[Any]) -> None:
    if not reports:
        return
    at, data = reports[0]
    if isinstance(loss := data.get("train_loss"), int | float):
        made["job_loss"].add_metric([job], loss)
    made["job_progress_ratio"].add_metric([job], data["step"] / data["total_steps"])
    if len(reports) == 2 and (seconds := (at - reports[1][0]).total_seconds()) > 0:
        share = (data["step"] - reports[1][1]["step"]) / data["total_steps"]
        made["job_tokens_per_second"].add_metric([job], tokens * share / seconds)


# --- ports that count -------------------------------------------------------------------------------------------------


class MeteredBlobs:
    """Blobs, counted. What a put or a read that broke off had moved until then counts too."""

    def __init__(self, blobs: Blobs, registry: CollectorRegistry) -> None:
        self._blobs = blobs
        to = registry
        self._operations = Counter("tailorbird_blob_operations", "Calls to the blob store", ["operation"], registry=to)
        self._bytes = Counter("tailorbird_blob_bytes", "Bytes to and from the blob store", ["operation"], registry=to)

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        self._operations.labels("put").inc()
        return self._blobs.put(key, self._counted("put", chunks))

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        self._operations.labels("read").inc()
        return self._counted("read", self._blobs.read(key, start, length))

    def size(self, key: str) -> int:
        self._operations.labels("size").inc()
        return self._blobs.size(key)

    def delete(self, key: str) -> None:
        self._operations.labels("delete").inc()
        self._blobs.delete(key)

    def list(self, prefix: str) -> list[str]:
        self._operations.labels("list").inc()
        return self._blobs.list(prefix)

    def _counted(self, operation: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
        counter = self._bytes.labels(operation)
        for chunk in chunks:
            counter.inc(len(chunk))
            yield chunk


class MeteredTrainer:
    """A Trainer whose steps are counted as they come; what a run's earlier processes trained is not counted again."""

    def __init__(
        self, trainer: Trainer, registry: CollectorRegistry, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self.seconds = seconds
        self._trainer = trainer
        to = registry
        self._tokens = Counter("tailorbird_worker_training_tokens", "Tokens trained here", registry=to)
        self._steps = Counter("tailorbird_worker_training_steps", "Optimizer steps trained here", registry=to)
        self._starts = Counter("tailorbird_worker_trainer_starts", "Trainer processes started", registry=to)
        self._loss = Gauge("tailorbird_worker_training_loss", "Loss of the last step", [_JOB], registry=to)
        self._rate = Gauge(
            "tailorbird_worker_training_tokens_per_second", "Tokens trained a second", [_JOB], registry=to
        )

    async def start(self, plan: TrainPlan) -> TrainerRun:
        said = _lines_said(Path(plan.run_folder) / EVENTS_FILE)
        run = await self._trainer.start(plan)
        self._starts.inc()
        return _MeteredRun(run, self, plan.job_id, said)

    def step(self, job: str, step: Step, rate: float | None) -> None:
        self._steps.inc()
        self._tokens.inc(step.tokens)
        if step.metrics.train_loss is not None:
            self._loss.labels(job).set(step.metrics.train_loss)
        if rate is not None:
            self._rate.labels(job).set(rate)

    def forget(self, job: str) -> None:
        """A job that does not train here any more has no figures here."""
        for gauge in (self._loss, self._rate):
            gauge.remove(job)


class _MeteredRun:
    def __init__(self, run: TrainerRun, meter: MeteredTrainer, job: str, said: int) -> None:
        self._run = run
        self._meter = meter
        self._job = job
        self._said = said

    async def events(self) -> AsyncIterator[TrainEvent]:
        number, tokens, since = 0, 0, self._meter.seconds()
        try:
            async for event in self._run.events():
                number += 1
                if isinstance(event, Step) and number > self._said:
                    tokens, now, rate = tokens + event.tokens, self._meter.seconds(), None
                    if now - since >= _RATE_SECONDS:
                        tokens, since, rate = 0, now, tokens / (now - since)
                    self._meter.step(self._job, event, rate)
                yield event
        finally:
            self._meter.forget(self._job)

    async def stepped(self) -> None:
        await self._run.stepped()

    async def stop(self, patience: float | None = None) -> None:
        await self._run.stop(patience)

    async def kill(self) -> None:
        await self._run.kill()


def _lines_said(path: Path) -> int:
    """Of the events a run passes on, those that were there before its process; interruptions it keeps to itself."""
    try:
        return sum(b'"kind":"interrupted"' not in line for line in path.read_bytes().split(b"\n")[:-1])
    except FileNotFoundError:
        return 0
