"""Store and Session: all or nothing, many at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import exc

from tailorbird.domain.jobs import EventKind, EventLevel, Job, JobEvent, JobStatus
from tailorbird.infra.schema import make_engine
from tailorbird.infra.store import SqlStore
from tailorbird.service.ports import LeaseLost


def an_event(job: Job, key: str) -> JobEvent:
    return JobEvent(f"{job.id}/{key}", job.id, key, EventKind.METRICS, EventLevel.INFO, job.created_at)


def test_a_block_that_raises_leaves_nothing(store: SqlStore, a_job: Callable[..., Job]) -> None:
    def break_off() -> None:
        with store.begin() as session:
            session.jobs.add(a_job())
            session.jobs.append_event(an_event(a_job(), "created"))
            assert session.jobs.get("acct", a_job().id) == a_job()
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        break_off()
    with store.begin() as session:
        assert session.jobs.get("acct", a_job().id) is None
        assert session.jobs.events(a_job().id, after=None, limit=9).items == []


def test_others_see_a_block_when_it_has_ended_and_do_not_wait_for_it(
    store: SqlStore, a_job: Callable[..., Job]
) -> None:
    with store.begin() as writer:
        writer.jobs.add(a_job())
        with store.begin() as reader:
            assert reader.jobs.get("acct", a_job().id) is None
    with store.begin() as reader:
        assert reader.jobs.get("acct", a_job().id) == a_job()


def test_a_block_that_read_may_write_after_another_has_written(store: SqlStore, a_job: Callable[..., Job]) -> None:
    """A deferred SQLite transaction would fail here: it cannot write on top of what it has not seen."""
    with store.begin() as first:
        assert first.jobs.active_count("acct") == 0
        with store.begin() as second:
            second.jobs.add(a_job(1))
        first.jobs.add(a_job(2))
    with store.begin() as session:
        assert session.jobs.active_count("acct") == 2


def test_an_event_of_no_job_is_refused(store: SqlStore, a_job: Callable[..., Job]) -> None:
    with pytest.raises(exc.IntegrityError), store.begin() as session:
        session.jobs.append_event(an_event(a_job(), "created"))


def test_many_threads_write_at_once_and_nothing_is_lost_or_doubled(store: SqlStore, a_job: Callable[..., Job]) -> None:
    with store.begin() as session:
        session.jobs.add(a_job())

    def append(key: int) -> bool:
        with store.begin() as session:
            session.jobs.get("acct", a_job().id)
            return session.jobs.append_event(an_event(a_job(), str(key)))

    with ThreadPoolExecutor(8) as threads:
        new = list(threads.map(append, [key for key in range(40) for _ in range(2)]))
    assert sum(new) == 40
    with store.begin() as session:
        keys = {event.key for event in session.jobs.events(a_job().id, after=None, limit=99).items}
    assert keys == {str(key) for key in range(40)}


def test_of_two_who_give_a_secret_at_once_both_get_the_same(store: SqlStore) -> None:
    barrier = threading.Barrier(4)

    def give(value: str) -> str:
        barrier.wait()
        with store.begin() as session:
            return session.accounts.add_secret("signing key", value)

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(give, "abcd"))) == 1


def test_of_a_cancel_and_an_end_at_once_one_wins(store: SqlStore, a_job: Callable[..., Job]) -> None:
    """Both read the queued job; the second to save is refused, not the first undone."""
    with store.begin() as session:
        session.jobs.add(a_job())
    barrier = threading.Barrier(2)

    def end(status: JobStatus) -> JobStatus | None:
        with store.begin() as session:
            job = session.jobs.get("acct", a_job().id)
        assert job is not None
        barrier.wait()
        try:
            with store.begin() as session:
                session.jobs.save(replace(job, status=status), owner=None)
        except LeaseLost:
            return None
        return status

    with ThreadPoolExecutor(2) as threads:
        winners = [won for won in threads.map(end, (JobStatus.CANCELLED, JobStatus.FAILED)) if won]
    with store.begin() as session:
        job = session.jobs.get("acct", a_job().id)
    assert job is not None
    assert winners == [job.status]


def test_ping_answers_when_the_database_does(store: SqlStore) -> None:
    store.ping()


@pytest.mark.parametrize("url", ["sqlite:///{}/missing/tailorbird.db", "postgresql://nobody@/none?host={}"])
def test_ping_raises_when_the_database_cannot_be_reached(url: str, tmp_path: Path) -> None:
    engine = make_engine(url.format(tmp_path))
    if engine.dialect.name == "sqlite":
        (tmp_path / "missing").rmdir()
    with pytest.raises(exc.OperationalError):
        SqlStore(engine).ping()
    engine.dispose()
