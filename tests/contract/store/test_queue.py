"""JobTable and account settings: pauses, limits of an account, places in the queue."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tailorbird.domain.access import Account
from tailorbird.domain.jobs import Job, JobStatus, Stage
from tailorbird.infra.leases import SqlLeases
from tailorbird.infra.store import SqlStore
from tailorbird.service.ports import LeaseLost

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def add(store: SqlStore, *jobs: Job) -> None:
    with store.begin() as session:
        for job in jobs:
            session.jobs.add(job)


def status(store: SqlStore, job: Job) -> JobStatus | None:
    with store.begin() as session:
        found = session.jobs.get(None, job.id)
    return found and found.status


# --- pausing ----------------------------------------------------------------------------------------------------------


def test_a_wish_to_pause_outlives_what_the_worker_saves_until_training_has_ended(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job]
) -> None:
    training = a_job(status=JobStatus.RUNNING, stage=Stage.TRAIN)
    add(store, training)
    leases.claim("one", clock.now(), 10, 9)
    with store.begin() as session:
        assert session.jobs.request_pause(training.id)
        session.jobs.save(training, owner="one")
    assert status(store, training) is JobStatus.PAUSING
    with store.begin() as session:
        session.jobs.save(a_job(status=JobStatus.RUNNING, stage=Stage.PROVE), owner="one")
    assert status(store, training) is JobStatus.RUNNING


@pytest.mark.parametrize(
    ("was", "stage"),
    [(JobStatus.QUEUED, Stage.TRAIN), (JobStatus.RUNNING, Stage.PROVE), (JobStatus.PAUSED, Stage.TRAIN)],
)
def test_only_a_job_that_trains_takes_a_wish_to_pause(
    store: SqlStore, a_job: Callable[..., Job], was: JobStatus, stage: Stage
) -> None:
    add(store, a_job(status=was, stage=stage))
    with store.begin() as session:
        assert not session.jobs.request_pause(a_job().id)
        assert not session.jobs.request_pause("ftjob-unknown")
    assert status(store, a_job()) is was


def test_a_job_that_is_paused_gives_its_lease_back(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job]
) -> None:
    add(store, a_job(status=JobStatus.PAUSING, stage=Stage.PAUSE))
    leases.claim("one", clock.now(), 10, 9)
    with store.begin() as session:
        session.jobs.save(a_job(status=JobStatus.PAUSED, stage=Stage.TRAIN), owner="one")
    assert not leases.beat(a_job().id, "one", clock.now(), 10)
    with store.begin() as session:
        # Nobody holds it, so that it can be cancelled or resumed at once.
        session.jobs.save(a_job(status=JobStatus.RESUMING, stage=Stage.TRAIN), owner=None)
        with pytest.raises(LeaseLost):
            session.jobs.save(a_job(status=JobStatus.RUNNING, stage=Stage.TRAIN), owner="one")


# --- limits -----------------------------------------------------------------------------------------------------------


def test_jobs_are_counted_in_all_and_by_state(store: SqlStore, a_job: Callable[..., Job]) -> None:
    add(store, *(a_job(n, status=word) for n, word in enumerate(JobStatus)), a_job(99, account_id="other"))
    with store.begin() as session:
        assert session.jobs.count("acct") == len(JobStatus)
        assert session.jobs.count("acct", (JobStatus.QUEUED, JobStatus.PAUSED)) == 2
        assert session.jobs.count("other", (JobStatus.RUNNING,)) == 0
        assert session.jobs.count("nobody") == 0


def test_who_counts_and_adds_while_holding_the_account_never_exceeds_the_count(
    store: SqlStore, a_job: Callable[..., Job]
) -> None:
    with store.begin() as session:
        session.accounts.add(Account("acct", "s", "g", "acct", "here", "OpenAI", "k1", "k2", NOON))
    writers = 6
    barrier = threading.Barrier(writers)

    def create(number: int) -> bool:
        barrier.wait()
        with store.begin() as session:
            session.jobs.hold("acct")
            if session.jobs.count("acct") >= 2:
                return False
            session.jobs.add(a_job(number))
            return True

    with ThreadPoolExecutor(writers) as threads:
        made = list(threads.map(create, range(writers)))
    assert sum(made) == 2


# --- places -----------------------------------------------------------------------------------------------------------


def test_jobs_wait_in_the_order_they_are_claimed_in(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job]
) -> None:
    now = clock.now()
    ages = {1: 5, 2: 9, 3: 1, 4: 9}
    add(store, *(a_job(n, created_at=now - timedelta(seconds=age), account_id=f"a{n}") for n, age in ages.items()))
    add(store, a_job(5, status=JobStatus.PAUSED), a_job(6, status=JobStatus.FAILED))
    with store.begin() as session:
        waiting = [int(job.id[-2:], 16) for job in session.jobs.waiting(99)]
        assert [int(job.id[-2:], 16) for job in session.jobs.waiting(2)] == [2, 4]
    assert waiting == [2, 4, 1, 3]
    leases.claim("one", now, 10, 9)
    with store.begin() as session:
        assert [int(job.id[-2:], 16) for job in session.jobs.waiting(99)] == [4, 1, 3]


# --- settings ---------------------------------------------------------------------------------------------------------


def test_an_accounts_setting_is_written_replaced_removed_and_its_own(store: SqlStore) -> None:
    with store.begin() as session:
        assert session.account_settings.get("acct", "key") is None
        session.account_settings.put("acct", "key", "one")
        session.account_settings.put("acct", "key", "two")
        session.account_settings.put("other", "key", "three")
    with store.begin() as session:
        assert session.account_settings.get("acct", "key") == "two"
        session.account_settings.put("acct", "key", None)
        session.account_settings.put("acct", "key", None)
        assert session.account_settings.get("acct", "key") is None
        assert session.account_settings.get("other", "key") == "three"
