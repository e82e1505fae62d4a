"""How long listing, paging and getting take with many jobs and events, in the store and through the HTTP API.

`python benchmarks/store/jobs_events.py --jobs 100000` fills an empty database (a temporary SQLite file; `--postgresql`
starts a private PostgreSQL, `--url` names one that runs) with so many jobs, each with ten events and a checkpoint, then
prints the median and the slowest of 200 calls, in milliseconds. Half of the jobs belong to one account, the others to
nineteen; the calls ask for places spread over the whole table. Filling speaks to the tables directly, so that it takes
minutes, not an hour.
"""

from __future__ import annotations

import argparse
import os
import pwd
import random
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
import uvicorn

from tailorbird import wiring
from tailorbird.api.app import Addresses, create_app
from tailorbird.api.listen import bind
from tailorbird.domain import ids
from tailorbird.domain.jobs import Checkpoint, EventKind, EventLevel, Hyperparameters, Job, JobEvent, JobStatus, Stage
from tailorbird.infra.leases import SqlLeases
from tailorbird.infra.schema import make_engine, migrate
from tailorbird.infra.store import SqlStore
from tailorbird.infra.store.jobs import pair_keys
from tailorbird.infra.tables.jobs import checkpoints, job_events, job_metadata, jobs
from tailorbird.settings import Settings

ACCOUNTS = 20
EVENTS = 10
CALLS = 200
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


def account_of(number: int) -> str:
    return "acct-0" if number % 2 else f"acct-{1 + number // 2 % (ACCOUNTS - 1)}"


def job_of(number: int) -> Job:
    job_id = ids.job_id(f"{number:08x}".ljust(ids.HEX_DIGITS, "0"))
    ended = number % 1000 != 0
    return Job(
        id=job_id,
        account_id=account_of(number),
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
        made = [job_of(number) for number in range(start, min(start + 1000, count))]
        pairs = [{"pair_key": pair, "job_id": job.id} for job in made for pair in pair_keys(job.metadata)]
        with engine.begin() as connection:
            connection.execute(sa.insert(jobs), [row(job) | {"ended": job.ended} for job in made])
            connection.execute(sa.insert(job_metadata), pairs)
            connection.execute(sa.insert(job_events), [row(event) for job in made for event in events_of(job)])
            connection.execute(sa.insert(checkpoints), [row(checkpoint_of(job)) for job in made])


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
        "list 20 jobs of a team": lambda s, job: s.jobs.list(
            job.account_id, after=None, limit=20, metadata=job.metadata
        ),
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
    report("claim a job", lambda job: leases.claim("bench", NOW, 60, 3), numbers)


def measure_http(url: str, folder: Path, numbers: list[int]) -> None:
    """The same questions through the server, with a key of the account that has half of the jobs."""
    settings = Settings(data_dir=str(folder), database_url=url)
    with listening(settings) as (address, key), httpx.Client(base_url=address, headers={"api-key": key}) as client:

        def get(path: str, **query: str | int) -> None:
            client.get(f"/openai/v1/fine_tuning/jobs{path}", params=query).raise_for_status()

        own = [number | 1 for number in numbers]
        report("HTTP: get a job", lambda job: get(f"/{job.id}"), own)
        report("HTTP: list 20 jobs", lambda job: get("", limit=20), own)
        report("HTTP: page 20 jobs after one", lambda job: get("", limit=20, after=job.id), own)
        report("HTTP: list 20 events", lambda job: get(f"/{job.id}/events", limit=20), own)


@contextmanager
def listening(settings: Settings) -> Generator[tuple[str, str]]:
    """The server on a free port in a thread of its own, and the key of account `acct-0`."""
    access = wiring.build_access(settings)
    first = access.first_run().account
    with wiring.build_store(settings).begin() as tx:
        account = type(first)(
            "acct-0", first.subscription_id, first.resource_group, "bench", first.location, "OpenAI", "k1", "k2", NOW
        )
        tx.accounts.add(account)
    plain = bind("127.0.0.1", 0)
    address = f"http://127.0.0.1:{plain.getsockname()[1]}"
    app = create_app(wiring.build_services(settings, Addresses(address, address)))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [plain]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield address, "k1"
    server.should_exit = True
    thread.join(10)


@contextmanager
def postgresql() -> Generator[str]:
    """The URL of a private PostgreSQL with Debian's defaults, which is gone afterwards. It refuses to run as root."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    folder = Path(tempfile.mkdtemp(prefix="tailorbird-bench-"))
    become: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        become = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def run(command: str, *options: str) -> None:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([binaries / command, *options], check=True, cwd=folder, **quiet, **become)

    data = str(folder / "data")
    try:
        run("initdb", "-D", data, "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C")
        run("pg_ctl", "-D", data, "-w", "-o", f"-k {folder} -c listen_addresses=''", "start")
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-D", data, "-w", "-m", "fast", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def database(options: argparse.Namespace, folder: Path) -> Generator[str]:
    if options.postgresql:
        with postgresql() as url:
            yield url
    else:
        yield options.url or f"sqlite:///{folder}/bench.db"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--postgresql", action="store_true", help="start a private PostgreSQL and use that")
    parser.add_argument("--url", help="an empty database; default: a temporary SQLite file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, database(options, Path(name)) as url:
        migrate(url)
        engine = make_engine(url)
        start = time.perf_counter()
        fill(engine, options.jobs)
        spent = time.perf_counter() - start
        print(f"{engine.dialect.name}: {options.jobs} jobs, {options.jobs * EVENTS} events filled in {spent:.1f} s")
        # Seeded: two runs ask for the same places.
        numbers = random.Random(0).sample(range(options.jobs), min(CALLS, options.jobs))
        measure(SqlStore(engine), SqlLeases(engine), numbers)
        engine.dispose()
        measure_http(url, Path(name), numbers)


if __name__ == "__main__":
    main()
