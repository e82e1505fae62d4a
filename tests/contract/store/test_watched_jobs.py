"""JobTable, for those who watch a job: the points of its curves, and the jobs that went on from it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tailorbird.domain.jobs import Checkpoint, EventKind, EventLevel, Job, JobEvent
from tailorbird.infra.store import SqlStore

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def add(store: SqlStore, *jobs: Job) -> None:
    with store.begin() as session:
        for job in jobs:
            session.jobs.add(job)


@pytest.fixture
def an_event(a_job: Callable[..., Job]) -> Callable[..., JobEvent]:
    def make(key: str, number: int = 1, kind: EventKind = EventKind.METRICS) -> JobEvent:
        return JobEvent(f"ftevent-{number}-{key}", a_job(number).id, key, kind, EventLevel.INFO, NOON)

    return make


@pytest.fixture
def a_checkpoint(a_job: Callable[..., Job]) -> Callable[..., Checkpoint]:
    def make(step: int, number: int = 1) -> Checkpoint:
        name = f"gpt.ft-{number}:ckpt-step-{step}"
        return Checkpoint(
            f"ftchkpt-{number}-{step}", a_job(number).id, "acct", step, name, f"ft:{name}", f"adapters/{name}", NOON
        )

    return make


def test_metrics_events_alone_come_oldest_first_from_where_the_reader_stopped(
    store: SqlStore, a_job: Callable[..., Job], an_event: Callable[..., JobEvent]
) -> None:
    add(store, a_job(1), a_job(2))
    steps = [an_event(f"step-{n}") for n in (1, 10, 20)]
    with store.begin() as session:
        for event in (steps[0], an_event("started", kind=EventKind.STARTED), steps[1], an_event("step-1", 2), steps[2]):
            session.jobs.append_event(event)
    with store.begin() as session:
        first = session.jobs.metrics(a_job(1).id, after=None, limit=2)
        assert (first.items, first.has_more) == (steps[:2], True)
        rest = session.jobs.metrics(a_job(1).id, after=steps[1].id, limit=2)
        assert (rest.items, rest.has_more) == (steps[2:], False)
        assert session.jobs.metrics(a_job(1).id, after=steps[2].id, limit=2).items == []


def test_jobs_that_began_with_a_checkpoint_of_another_are_found_oldest_first(
    store: SqlStore, a_job: Callable[..., Job], a_checkpoint: Callable[..., Checkpoint]
) -> None:
    early, late = a_checkpoint(10).id, a_checkpoint(20).id
    add(store, a_job(1), a_job(2, start_checkpoint=late), a_job(3, start_checkpoint=early), a_job(4))
    add(store, a_job(5, start_checkpoint=late, account_id="other"), a_job(6, start_checkpoint=a_checkpoint(10, 4).id))
    with store.begin() as session:
        for checkpoint in (a_checkpoint(10), a_checkpoint(20), a_checkpoint(10, 4)):
            session.jobs.add_checkpoint(checkpoint)
        assert [job.id for job in session.jobs.continued("acct", a_job(1).id)] == [a_job(2).id, a_job(3).id]
        assert session.jobs.continued("acct", a_job(2).id) == []
