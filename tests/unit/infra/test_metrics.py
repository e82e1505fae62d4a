"""Figures from a real database, and ports that count what passes through them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from tailorbird.domain.deployments import Deployment, ProvisioningState
from tailorbird.domain.files import File, FileStatus, Purpose
from tailorbird.domain.jobs import EventKind, Hyperparameters, Job, JobStatus, Stage
from tailorbird.infra.blobs import open_blobs
from tailorbird.infra.leases import SqlLeases
from tailorbird.infra.metrics import MeteredBlobs, MeteredTrainer, StoreFigures, expose, new_registry
from tailorbird.infra.schema import make_engine, migrate
from tailorbird.infra.store import SqlStore
from tailorbird.protocol.training import EVENTS_FILE, Metrics, Started, Step, TrainEvent, TrainPlan
from tailorbird.service.jobs import event
from tailorbird.service.ports import BlobMissing

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("db") / "t.db"
    migrate(f"sqlite:///{path}")
    engine = make_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    return path.read_bytes()


@pytest.fixture
def engine(tmp_path: Path, empty: bytes) -> Iterator[sa.Engine]:
    (tmp_path / "t.db").write_bytes(empty)
    made = make_engine(f"sqlite:///{tmp_path / 't.db'}")
    yield made
    made.dispose()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def job_of(name: str, status: JobStatus = JobStatus.QUEUED, **more: Any) -> Job:
    asked = Hyperparameters(n_epochs=2)
    return Job(
        f"ftjob-{name}", "acct", status, more.pop("stage", Stage.TRAIN), "gpt", "weaver", "file-1", 1, asked,
        AT - timedelta(seconds=90), AT, **more,
    )  # fmt: skip


def test_jobs_queue_and_leases_are_counted(engine: sa.Engine, registry: CollectorRegistry) -> None:
    store, leases = SqlStore(engine, lambda: AT), SqlLeases(engine)
    with store.begin() as tx:
        for name in "abc":
            tx.jobs.add(job_of(name))
        tx.jobs.add(job_of("d", JobStatus.SUCCEEDED, stage=Stage.DONE, finished_at=AT))
    leases.claim("w1", AT - timedelta(seconds=60), 30, 9)
    leases.claim("w2", AT, 30, 9)
    StoreFigures(engine, lambda: AT, registry)
    value = registry.get_sample_value
    assert value("tailorbird_jobs", {"status": "queued"}) == 3
    assert value("tailorbird_jobs", {"status": "succeeded"}) == 1
    # One of the claims was taken over by the second worker, as it had run out.
    assert value("tailorbird_queue_jobs") == 2
    assert value("tailorbird_queue_age_seconds") == 90
    assert value("tailorbird_leases", {"state": "held"}) == 1
    assert value("tailorbird_leases", {"state": "expired"}) == 0
    assert value("tailorbird_job_loss", {"fine_tuning_job": "ftjob-a"}) is None


def test_a_lease_that_ran_out_is_expired(engine: sa.Engine, registry: CollectorRegistry) -> None:
    with SqlStore(engine, lambda: AT).begin() as tx:
        tx.jobs.add(job_of("a"))
    SqlLeases(engine).claim("w1", AT - timedelta(seconds=60), 30, 9)
    StoreFigures(engine, lambda: AT, registry)
    assert registry.get_sample_value("tailorbird_leases", {"state": "expired"}) == 1
    assert registry.get_sample_value("tailorbird_queue_jobs") == 1


def test_a_running_job_shows_loss_progress_and_speed_until_it_ends(
    engine: sa.Engine, registry: CollectorRegistry
) -> None:
    store = SqlStore(engine, lambda: AT)
    job = job_of("a", JobStatus.RUNNING, epoch_tokens=5000, resolved=Hyperparameters(n_epochs=2), started_at=AT)
    with store.begin() as tx:
        tx.jobs.add(job)
        for step, loss in ((10, 2.0), (20, 1.5)):
            data: dict[str, object] = {"step": step, "total_steps": 100, "train_loss": loss}
            moment = AT + timedelta(seconds=step)
            tx.jobs.append_event(event(job, f"step-{step}", EventKind.METRICS, moment, data))
    StoreFigures(engine, lambda: AT, registry, oldest=0)
    value, own = registry.get_sample_value, {"fine_tuning_job": job.id}
    assert value("tailorbird_job_loss", own) == 1.5
    assert value("tailorbird_job_progress_ratio", own) == 0.2
    # Ten of a hundred steps of 10,000 tokens in ten seconds.
    assert value("tailorbird_job_tokens_per_second", own) == pytest.approx(100)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE jobs SET ended = 1, status = 'succeeded'")
    assert value("tailorbird_job_loss", own) is None


def test_files_and_deployments_are_counted(engine: sa.Engine, registry: CollectorRegistry) -> None:
    with SqlStore(engine, lambda: AT).begin() as tx:
        for name, size in (("a", 10), ("b", 32)):
            tx.files.add(File(f"file-{name}", "acct", "f", Purpose.FINE_TUNE, size, FileStatus.PROCESSED, AT, "k"))
        tx.deployments.add(
            Deployment(
                "acct",
                "d",
                "m",
                "OpenAI",
                "1",
                "m",
                "weaver",
                None,
                "m",
                "Standard",
                1,
                ProvisioningState.SUCCEEDED,
                AT,
                AT,
                "me",
            )
        )
    StoreFigures(engine, lambda: AT, registry)
    assert registry.get_sample_value("tailorbird_files", {"purpose": "fine-tune"}) == 2
    assert registry.get_sample_value("tailorbird_file_bytes", {"purpose": "fine-tune"}) == 42
    assert registry.get_sample_value("tailorbird_deployments", {"state": "Succeeded"}) == 1


def test_the_database_is_asked_no_more_often_than_wanted(engine: sa.Engine, registry: CollectorRegistry) -> None:
    StoreFigures(engine, lambda: AT, registry, oldest=3600)
    assert registry.get_sample_value("tailorbird_queue_jobs") == 0
    with SqlStore(engine, lambda: AT).begin() as tx:
        tx.jobs.add(job_of("a"))
    assert registry.get_sample_value("tailorbird_queue_jobs") == 0


def test_blobs_are_counted_by_operation_and_byte(registry: CollectorRegistry) -> None:
    blobs = MeteredBlobs(open_blobs("memory://"), registry)
    assert blobs.put("a/b", [b"12345", b"678"]) == 8
    assert b"".join(blobs.read("a/b", 2, 3)) == b"345"
    assert blobs.size("a/b") == 8
    assert blobs.list("a") == ["a/b"]
    blobs.delete("a/b")
    with pytest.raises(BlobMissing):
        blobs.read("a/b")
    counts = {
        operation: registry.get_sample_value("tailorbird_blob_operations_total", {"operation": operation})
        for operation in ("put", "read", "size", "list", "delete")
    }
    assert counts == {"put": 1, "read": 2, "size": 1, "list": 1, "delete": 1}
    assert registry.get_sample_value("tailorbird_blob_bytes_total", {"operation": "put"}) == 8
    assert registry.get_sample_value("tailorbird_blob_bytes_total", {"operation": "read"}) == 3


# --- training ---------------------------------------------------------------------------------------------------------


def step(number: int, loss: float = 1.0) -> Step:
    return Step(number, 10, 1, 1e-3, 100, Metrics(train_loss=loss))


class ScriptedRun:
    def __init__(self, script: list[TrainEvent]) -> None:
        self._script = script
        self.asked: list[str] = []

    async def events(self) -> AsyncIterator[TrainEvent]:
        for one in self._script:
            yield one

    async def stepped(self) -> None:
        self.asked.append("stepped")

    async def stop(self, patience: float | None = None) -> None:
        self.asked.append(f"stop {patience}")

    async def kill(self) -> None:
        self.asked.append("kill")


class ScriptedTrainer:
    def __init__(self, script: list[TrainEvent]) -> None:
        self.run = ScriptedRun(script)

    async def start(self, plan: TrainPlan) -> ScriptedRun:
        return self.run


def plan_in(folder: Path) -> TrainPlan:
    return TrainPlan("ftjob-a", str(folder), "base", "t.jsonl", 1, 1, 1e-3, 1, 64, "hash")


STARTED = Started(10, 10, 5, 1000, 7)


async def test_steps_of_this_process_are_counted_and_those_before_it_are_not(
    tmp_path: Path, registry: CollectorRegistry
) -> None:
    before = [STARTED, step(1), step(2)]
    lines = [json.dumps(asdict(one), separators=(",", ":")) for one in before]
    lines.insert(2, '{"step":1,"kind":"interrupted"}')
    (tmp_path / EVENTS_FILE).write_text("\n".join(lines) + "\n" + '{"torn')
    now = [STARTED, step(3), step(4, 0.25), step(5)]
    trainer = MeteredTrainer(ScriptedTrainer([*before, *now]), registry)
    run = await trainer.start(plan_in(tmp_path))
    passed = [one async for one in run.events()]
    assert passed == [*before, *now]
    assert registry.get_sample_value("tailorbird_worker_training_steps_total") == 3
    assert registry.get_sample_value("tailorbird_worker_training_tokens_total") == 300
    assert registry.get_sample_value("tailorbird_worker_trainer_starts_total") == 1


async def test_loss_and_speed_stand_while_the_job_trains_and_no_longer(
    tmp_path: Path, registry: CollectorRegistry
) -> None:
    seconds = iter([0.0, 1.0, 4.0, 5.0])
    script = [step(1), step(2, 0.5), step(3, 0.25)]
    trainer = MeteredTrainer(ScriptedTrainer([*script]), registry, lambda: next(seconds))
    run = await trainer.start(plan_in(tmp_path))
    seen: list[tuple[float | None, float | None]] = []
    own = {"fine_tuning_job": "ftjob-a"}
    async for _ in run.events():
        names = ("tailorbird_worker_training_loss", "tailorbird_worker_training_tokens_per_second")
        loss, rate = (registry.get_sample_value(name, own) for name in names)
        seen.append((loss, rate))
    assert seen == [(1.0, None), (0.5, 50.0), (0.25, 50.0)]
    assert registry.get_sample_value("tailorbird_worker_training_loss", own) is None


async def test_what_is_asked_of_a_run_reaches_it(tmp_path: Path, registry: CollectorRegistry) -> None:
    scripted = ScriptedTrainer([])
    run = await MeteredTrainer(scripted, registry).start(plan_in(tmp_path))
    await run.stepped()
    await run.stop(3)
    await run.kill()
    assert scripted.run.asked == ["stepped", "stop 3", "kill"]


def test_a_worker_s_figures_are_shown_at_its_port(registry: CollectorRegistry) -> None:
    MeteredBlobs(open_blobs("memory://"), registry).list("a")
    server = expose(registry, "127.0.0.1", 0)
    try:
        text = httpx.get(f"http://127.0.0.1:{server.server_port}/metrics").text
    finally:
        server.shutdown()
        server.server_close()
    assert 'tailorbird_blob_operations_total{operation="list"} 1.0' in text


def test_a_registry_says_what_its_process_takes() -> None:
    assert new_registry().get_sample_value("process_resident_memory_bytes") > 1_000_000  # type: ignore[operator]
