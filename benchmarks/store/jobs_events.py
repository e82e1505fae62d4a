"""How long listing, paging and getting take with many jobs and events.

`python benchmarks/store/jobs_events.py --jobs 100000` fills an empty database (a temporary SQLite file unless `--url`
names another) with so many jobs of 20 accounts, each with ten events and a checkpoint, then prints the median and the
slowest of 200 calls, in milliseconds. The calls ask for places spread over the whole table. Filling speaks to the
tables directly, so that it takes minutes, not an hour.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from tailorbird.domain import ids
from tailorbird.domain.jobs import Checkpoint, EventKind, EventLevel, Hyperparameters, Job, JobEvent, JobStatus, Stage
from tailorbird.infra import schema
from tailorbird.infra.leases import SqlLeases
from tailorbird.infra.store import SqlStore

ACCOUNTS = 20
EVENTS = 10
CALLS = 200
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


def job_of(number: int) -> Job:
    job_id = ids.job_id(f"{number:08x}".ljust(ids.HEX_DIGITS, "0"))
    ended = number % 1000 != 0
    return Job(
        id=job_id,
        account_id=f"acct-{number % ACCOUNTS}",
        status=JobStatus.SUCCEEDED if ended else JobStatus.QUEUED,
        stage=Stage.DONE if ended else Stage.VALIDATE,
        model="gpt-4o-mini-2024-07-18",
        base="weaver",
        training_file=ids.file_id(f"{number:032x}"),
        seed=number,
        asked=Hyperparameters(),
        created_at=NOW + timedelta(seconds=number),
        estimated_finish=NOW + timedelta(seconds=number + 600),
        metadata={"team": str(number % 500)},
    )


def events_of(job: Job) -> list[JobEvent]:
    keys = [f"step-{n}" for n in range(EVENTS)]
    data: dict[str, object] = {"train_loss": 0.25, "train_mean_token_accuracy": 0.9}
    level = EventLevel.INFO
    return [JobEvent(ids.event_id(job.id, k), job.id, k, EventKind.METRICS, level, job.created_at, data) for k in keys]


def checkpoint_of(job: Job) -> Checkpoint:
    name = ids.azure_model_name(job.model, job.id, None)
    openai_name = ids.openai_model_name(job.model, "tailorbird", job.id, None)
    key = f"adapters/{job.id}/10"
    return Checkpoint(ids.checkpoint_id(job.id, 10), job.id, job.account_id, 10, name, openai_name, key, job.created_at)


def row(thing: Job | JobEvent | Checkpoint) -> dict[str, Any]:
    return {field.name: getattr(thing, field.name) for field in fields(thing)}


def fill(engine: sa.Engine, count: int) -> None:
    for start in range(0, count, 1000):
        jobs = [job_of(number) for number in range(start, min(start + 1000, count))]
        with engine.begin() as connection:
            connection.execute(sa.insert(schema.jobs), [row(job) | {"ended": job.ended} for job in jobs])
            events = [row(event) for job in jobs for event in events_of(job)]
            connection.execute(sa.insert(schema.job_events), events)
            connection.execute(sa.insert(schema.checkpoints), [row(checkpoint_of(job)) for job in jobs])


def report(name: str, call: Callable[[Job], object], numbers: list[int]) -> None:
    seconds: list[float] = []
    for number in numbers:
        job = job_of(number)
        start = time.perf_counter()
        call(job)
        seconds.append(time.perf_counter() - start)
    print(f"{name:34} median {statistics.median(seconds) * 1e3:8.2f} ms   slowest {max(seconds) * 1e3:8.2f} ms")


def measure(store: SqlStore, leases: SqlLeases, numbers: list[int]) -> None:
    def ask(question: Callable[[Any, Job], object]) -> Callable[[Job], object]:
        def call(job: Job) -> object:
            with store.begin() as session:
                return question(session, job)

        return call

    def append(session: Any, job: Job) -> object:
        return session.jobs.append_event(JobEvent(f"x{job.id}", job.id, "x", EventKind.STARTED, EventLevel.INFO, NOW))

    questions: dict[str, Callable[[Any, Job], object]] = {
        "get a job": lambda s, job: s.jobs.get(job.account_id, job.id),
        "list 20 jobs": lambda s, job: s.jobs.list(job.account_id, after=None, limit=20),
        "page 20 jobs after one": lambda s, job: s.jobs.list(job.account_id, after=job.id, limit=20),
        "list 20 events": lambda s, job: s.jobs.events(job.id, after=None, limit=20),
        "page events after one": lambda s, job: s.jobs.events(job.id, after=ids.event_id(job.id, "step-5"), limit=20),
        "find a checkpoint by name": lambda s, job: s.jobs.find_checkpoint(
            job.account_id, checkpoint_of(job).openai_name
        ),
        "count active jobs": lambda s, job: s.jobs.active_count(job.account_id),
        "append an event": append,
    }
    for name, question in questions.items():
        report(name, ask(question), numbers)
    report("claim a job", lambda job: leases.claim("bench", NOW, 60), numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--url", help="an empty database; default: a temporary SQLite file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = options.url or f"sqlite:///{folder}/bench.db"
        schema.migrate(url)
        engine = schema.make_engine(url)
        start = time.perf_counter()
        fill(engine, options.jobs)
        spent = time.perf_counter() - start
        print(f"{engine.dialect.name}: {options.jobs} jobs, {options.jobs * EVENTS} events filled in {spent:.1f} s")
        # Seeded: two runs ask for the same places.
        numbers = random.Random(0).sample(range(options.jobs), min(CALLS, options.jobs))
        measure(SqlStore(engine), SqlLeases(engine), numbers)
        engine.dispose()


if __name__ == "__main__":
    main()
