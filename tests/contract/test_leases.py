"""Leases: one owner at a time, oldest first, takeover after expiry."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from tailorbird.domain.jobs import ENDED, Job, JobStatus, Stage
from tailorbird.infra.leases import SqlLeases
from tailorbird.infra.store import SqlStore


def add(store: SqlStore, *jobs: Job) -> None:
    with store.begin() as session:
        for job in jobs:
            session.jobs.add(job)


def test_an_empty_queue_has_nothing_to_claim(leases: SqlLeases, clock) -> None:
    assert leases.claim("one", clock.now(), 10, 9) is None


def test_a_claimed_job_comes_whole_with_the_attempt_counted(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job]
) -> None:
    fields = {
        "status": JobStatus.RUNNING,
        "stage": Stage.TRAIN,
        "metadata": {"team": "blue"},
        "started_at": clock.now(),
    }
    add(store, a_job(**fields))
    claimed = leases.claim("one", clock.now(), 10, 9)
    assert claimed == a_job(**fields, attempts=1)
    with store.begin() as session:
        assert session.jobs.get("acct", a_job().id) == claimed


def test_jobs_are_claimed_oldest_first_across_accounts(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job]
) -> None:
    now = clock.now()
    ages = {1: 5, 2: 9, 3: 9, 4: 1}
    add(store, *(a_job(n, created_at=now - timedelta(seconds=age), account_id=f"a{n}") for n, age in ages.items()))
    claims = [leases.claim("one", now, 10, 9) for _ in range(5)]
    assert [job and int(job.id[-2:], 16) for job in claims] == [2, 3, 1, 4, None]


def test_who_wants_jobs_of_some_bases_gets_the_oldest_if_it_is_one_and_otherwise_none(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job]
) -> None:
    now = clock.now()
    ages = {1: (3, "large"), 2: (2, "small"), 3: (1, "small")}
    add(store, *(a_job(n, created_at=now - timedelta(seconds=age), base=base) for n, (age, base) in ages.items()))
    assert leases.claim("one", now, 10, 9, {"small"}) is None
    assert leases.claim("one", now, 10, 9, set()) is None
    claims = [leases.claim("one", now, 10, 9, bases) for bases in (None, {"small", "other"}, {"small"}, {"small"})]
    assert [job and int(job.id[-2:], 16) for job in claims] == [1, 2, 3, None]


@pytest.mark.parametrize("status", sorted(ENDED))
def test_an_ended_job_is_never_claimed(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job], status: JobStatus
) -> None:
    add(store, a_job(1, status=status), a_job(2))
    with store.begin() as session:
        session.jobs.save(a_job(2, status=status), owner=None)
    assert leases.claim("one", clock.now(), 10, 9) is None


def test_a_lease_is_taken_over_when_it_has_expired_and_not_before(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job]
) -> None:
    add(store, a_job())
    leases.claim("one", clock.now(), 10, 9)
    assert leases.claim("two", clock.pass_seconds(9.999999), 10, 9) is None
    taken = leases.claim("two", clock.pass_seconds(0.000001), 10, 9)
    assert taken == a_job(attempts=2)
    assert not leases.beat(a_job().id, "one", clock.now(), 10)
    assert leases.beat(a_job().id, "two", clock.now(), 10)


def test_a_heartbeat_extends_the_lease(store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job]) -> None:
    add(store, a_job())
    job = leases.claim("one", clock.now(), 10, 9)
    assert job is not None
    assert leases.beat(job.id, "one", clock.pass_seconds(6), 10)
    assert leases.claim("two", clock.pass_seconds(6), 10, 9) is None
    assert leases.claim("two", clock.pass_seconds(4), 10, 9) is not None


def test_a_late_heartbeat_keeps_a_lease_nobody_took(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job]
) -> None:
    add(store, a_job())
    leases.claim("one", clock.now(), 10, 9)
    assert leases.beat(a_job().id, "one", clock.pass_seconds(3600), 10)
    assert leases.claim("two", clock.now(), 10, 9) is None


def test_nobody_beats_for_a_job_he_does_not_hold(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job]
) -> None:
    add(store, a_job())
    assert not leases.beat(a_job().id, "one", clock.now(), 10)
    assert not leases.beat("ftjob-unknown", "one", clock.now(), 10)


def test_a_released_job_is_free_at_once_and_only_its_owner_releases_it(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job]
) -> None:
    add(store, a_job())
    leases.claim("one", clock.now(), 10, 9)
    leases.release(a_job().id, "two")
    assert leases.claim("two", clock.now(), 10, 9) is None
    leases.release(a_job().id, "one")
    assert not leases.beat(a_job().id, "one", clock.now(), 10)
    assert leases.claim("two", clock.now(), 10, 9) is not None


def test_many_workers_at_once_claim_each_job_exactly_once(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job]
) -> None:
    add(store, *(a_job(n) for n in range(12)))
    workers = 6
    barrier = threading.Barrier(workers)

    def work(owner: int) -> list[str]:
        barrier.wait()
        claimed: list[str] = []
        while job := leases.claim(str(owner), clock.now(), 10, 99):
            claimed.append(job.id)
        return claimed

    with ThreadPoolExecutor(workers) as threads:
        claims = [job_id for part in threads.map(work, range(workers)) for job_id in part]
    assert sorted(claims) == [a_job(n).id for n in range(12)]


def test_of_two_workers_at_once_exactly_one_takes_the_job_over(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job]
) -> None:
    add(store, a_job())
    leases.claim("dead", clock.now(), 10, 9)
    now = clock.pass_seconds(11)
    barrier = threading.Barrier(2)

    def take(owner: str) -> Job | None:
        barrier.wait()
        return leases.claim(owner, now, 10, 9)

    with ThreadPoolExecutor(2) as threads:
        taken = [job for job in threads.map(take, ("one", "two")) if job is not None]
    assert [job.attempts for job in taken] == [2]


def test_a_paused_job_is_never_claimed_and_a_resuming_one_is(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job]
) -> None:
    add(store, a_job(1, status=JobStatus.PAUSED), a_job(2, status=JobStatus.RESUMING))
    assert [leases.claim("one", clock.now(), 10, 9), leases.claim("one", clock.now(), 10, 9)] == [
        a_job(2, status=JobStatus.RESUMING, attempts=1),
        None,
    ]


def test_an_account_at_its_limit_is_passed_over_and_the_next_account_served(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job]
) -> None:
    add(store, *(a_job(n) for n in (1, 2, 3)), a_job(4, account_id="other"))
    claims = [leases.claim("one", clock.now(), 10, 2) for _ in range(4)]
    assert [job and int(job.id[-2:], 16) for job in claims] == [1, 2, 4, None]
    leases.release(a_job(2).id, "one")
    freed = leases.claim("one", clock.now(), 10, 2)
    assert freed is not None
    assert freed.id == a_job(2).id


def test_an_expired_lease_does_not_count_towards_the_limit(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job]
) -> None:
    add(store, a_job(1), a_job(2))
    leases.claim("dead", clock.now(), 10, 1)
    assert leases.claim("two", clock.now(), 10, 1) is None
    taken = leases.claim("two", clock.pass_seconds(10), 10, 1)
    assert taken is not None
    assert taken.id == a_job(1).id


def test_many_workers_at_once_never_exceed_an_accounts_limit(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job]
) -> None:
    add(store, *(a_job(n) for n in range(8)))
    workers = 6
    barrier = threading.Barrier(workers)

    def take(owner: int) -> Job | None:
        barrier.wait()
        return leases.claim(str(owner), clock.now(), 10, 3)

    with ThreadPoolExecutor(workers) as threads:
        taken = [job for job in threads.map(take, range(workers)) if job is not None]
    assert len(taken) == 3
