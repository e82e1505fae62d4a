"""JobTable: jobs, their events and their checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tailorbird.domain.jobs import (
    Checkpoint,
    EventKind,
    EventLevel,
    Hyperparameters,
    Job,
    JobError,
    JobEvent,
    JobStatus,
    Method,
    Stage,
    WandbIntegration,
)
from tailorbird.infra.leases import SqlLeases
from tailorbird.infra.store import SqlStore
from tailorbird.service.ports import AlreadyThere, LeaseLost

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)

# What both databases take as text: no NUL, no lone surrogate.
words = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(0, 2**63 - 1)
moments = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))
hyperparameters = st.builds(
    Hyperparameters,
    n_epochs=st.none() | numbers,
    batch_size=st.none() | numbers,
    learning_rate_multiplier=st.none() | st.floats(allow_nan=False),
    beta=st.none() | st.floats(0, 2),
)
integrations = st.builds(
    WandbIntegration,
    project=st.text(max_size=10),
    name=st.none() | st.text(max_size=10),
    entity=st.none() | st.text(max_size=10),
    tags=st.lists(st.text(max_size=5), max_size=2).map(tuple),
)
any_jobs = st.builds(
    Job,
    id=st.just(""),
    account_id=words,
    status=st.sampled_from(JobStatus),
    stage=st.sampled_from(Stage),
    model=words,
    base=words,
    training_file=words,
    seed=numbers,
    asked=hyperparameters,
    created_at=moments,
    estimated_finish=moments,
    validation_file=st.none() | words,
    start_checkpoint=st.none() | words,
    suffix=st.none() | words,
    training_type=st.none() | words,
    method=st.sampled_from(Method),
    method_sent=st.booleans(),
    integrations=st.lists(integrations, max_size=2).map(tuple),
    # JSON, so anything goes here.
    metadata=st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=3),
    resolved=st.none() | hyperparameters,
    template_hash=st.none() | words,
    examples=st.none() | numbers,
    epoch_tokens=st.none() | numbers,
    started_at=st.none() | moments,
    finished_at=st.none() | moments,
    trained_steps=numbers,
    paused_at=st.none() | moments,
    paused_seconds=st.floats(0, 1e9),
    pauses=st.integers(0, 1000),
    trained_tokens=st.none() | numbers,
    fine_tuned_model=st.none() | words,
    fine_tuned_model_openai=st.none() | words,
    result_file=st.none() | words,
    error=st.none() | st.builds(JobError, code=st.text(), message=st.text(), param=st.none() | st.text()),
    cancel_requested=st.booleans(),
    attempts=st.integers(0, 1000),
)


def add(store: SqlStore, *jobs: Job) -> None:
    with store.begin() as session:
        for job in jobs:
            session.jobs.add(job)


def listed(store: SqlStore, account: str = "acct", **options: Any) -> tuple[list[int], bool]:
    usual: dict[str, Any] = {"after": None, "limit": 100}
    with store.begin() as session:
        page = session.jobs.list(account, **(usual | options))
    return [int(job.id.removeprefix("ftjob-"), 16) for job in page.items], page.has_more


# --- jobs -------------------------------------------------------------------------------------------------------------


# Without shrinking: thirty fields through a database take minutes to shrink, and the difference is plain to see.
@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(first=any_jobs, then=any_jobs)
def test_any_job_comes_back_as_it_was_added_and_as_it_was_saved(store: SqlStore, first: Job, then: Job) -> None:
    first = replace(first, id=f"ftjob-{uuid4().hex}")
    status = first.status if first.ended else then.status
    # A wish to pause outlives what the worker saves; that has its own test.
    stage = Stage.PROVE if first.status is JobStatus.PAUSING else then.stage
    changed = replace(then, id=first.id, account_id=first.account_id, status=status, stage=stage)
    with store.begin() as session:
        session.jobs.add(first)
        assert session.jobs.get(first.account_id, first.id) == first
        session.jobs.save(changed, owner=None)
        wanted = replace(changed, cancel_requested=first.cancel_requested, attempts=first.attempts)
        assert session.jobs.get(None, first.id) == wanted


def test_a_taken_job_id_is_refused(store: SqlStore, a_job: Callable[..., Job]) -> None:
    add(store, a_job())
    with store.begin() as session:
        with pytest.raises(AlreadyThere):
            session.jobs.add(a_job(account_id="other"))
        assert session.jobs.get("acct", a_job().id) == a_job()


def test_a_job_is_found_in_its_account_or_in_all(store: SqlStore, a_job: Callable[..., Job]) -> None:
    add(store, a_job())
    with store.begin() as session:
        assert session.jobs.get("acct", a_job().id) == a_job()
        assert session.jobs.get(None, a_job().id) == a_job()
        assert session.jobs.get("other", a_job().id) is None
        assert session.jobs.get(None, "ftjob-unknown") is None


def test_jobs_are_listed_newest_first_and_only_the_accounts_own(store: SqlStore, a_job: Callable[..., Job]) -> None:
    add(store, *(a_job(n, created_at=NOON + timedelta(microseconds=n)) for n in (2, 3, 1)))
    add(store, a_job(4, account_id="other"))
    assert listed(store) == ([3, 2, 1], False)
    assert listed(store, "other") == ([4], False)
    assert listed(store, "third") == ([], False)


@pytest.mark.parametrize("limit", [1, 2, 5, 6])
def test_job_pages_meet_when_all_were_created_at_once(store: SqlStore, a_job: Callable[..., Job], limit: int) -> None:
    add(store, *(a_job(n) for n in (9, 4, 7, 1, 8)))
    seen: list[int] = []
    after, more = None, True
    while more:
        page, more = listed(store, after=after, limit=limit)
        assert len(page) == limit or not more
        seen += page
        after = a_job(page[-1]).id
    assert seen == [8, 1, 7, 4, 9]


def test_nothing_comes_after_an_unknown_job(store: SqlStore, a_job: Callable[..., Job]) -> None:
    add(store, a_job(1), a_job(2, account_id="other"))
    assert listed(store, after="ftjob-unknown") == ([], False)
    assert listed(store, after=a_job(2).id) == ([], False)


def test_jobs_are_listed_by_all_the_metadata_they_carry(store: SqlStore, a_job: Callable[..., Job]) -> None:
    long = "x" * 4000  # more than PostgreSQL can index
    both = {"team": "blue", "ticket": "7"}
    add(store, a_job(1, metadata=both), a_job(2, metadata={"team": "blue"}), a_job(3), a_job(4, metadata={"a": long}))
    add(store, a_job(5, metadata=both, account_id="other"))
    assert listed(store, metadata={"team": "blue"}) == ([2, 1], False)
    assert listed(store, metadata=both) == ([1], False)
    assert listed(store, metadata={"team": "blue", "ticket": "8"}) == ([], False)
    assert listed(store, metadata={"blue": "team"}) == ([], False)
    assert listed(store, metadata={"a": long}) == ([4], False)
    assert listed(store, metadata={}) == ([4, 3, 2, 1], False)
    assert listed(store, metadata={"team": "blue"}, limit=1) == ([2], True)
    assert listed(store, metadata={"team": "blue"}, after=a_job(2).id) == ([1], False)


def test_saved_metadata_is_what_jobs_are_listed_by(store: SqlStore, a_job: Callable[..., Job]) -> None:
    add(store, a_job(1, metadata={"team": "blue", "kept": "yes"}))
    with store.begin() as session:
        session.jobs.save(a_job(1, metadata={"team": "red", "kept": "yes"}), owner=None)
    assert listed(store, metadata={"team": "blue"}) == ([], False)
    assert listed(store, metadata={"team": "red", "kept": "yes"}) == ([1], False)


def test_a_wish_to_cancel_survives_a_save_of_an_older_read(store: SqlStore, a_job: Callable[..., Job]) -> None:
    add(store, a_job())
    with store.begin() as session:
        assert not session.jobs.cancel_requested(a_job().id)
        session.jobs.request_cancel(a_job().id)
        session.jobs.request_cancel(a_job().id)
        session.jobs.save(a_job(stage=Stage.TRAIN), owner=None)
        assert session.jobs.cancel_requested(a_job().id)
        assert session.jobs.get("acct", a_job().id) == a_job(stage=Stage.TRAIN, cancel_requested=True)
        assert not session.jobs.cancel_requested("ftjob-unknown")


def test_jobs_that_have_not_ended_are_counted(store: SqlStore, a_job: Callable[..., Job]) -> None:
    add(store, *(a_job(n, status=status) for n, status in enumerate(JobStatus)), a_job(99, account_id="other"))
    with store.begin() as session:
        assert session.jobs.active_count("acct") == 6
        session.jobs.save(a_job(0, status=JobStatus.FAILED), owner=None)
        assert session.jobs.active_count("acct") == 5
        assert session.jobs.active_count("third") == 0


def test_a_deleted_job_takes_its_events_along_and_leaves_its_checkpoints(
    store: SqlStore,
    a_job: Callable[..., Job],
    an_event: Callable[..., JobEvent],
    a_checkpoint: Callable[..., Checkpoint],
) -> None:
    add(store, a_job(1, metadata={"team": "blue"}), a_job(2, metadata={"team": "blue"}))
    with store.begin() as session:
        for number in (1, 2):
            session.jobs.append_event(an_event("created", number))
            session.jobs.add_checkpoint(a_checkpoint(10, number))
        assert not session.jobs.delete("other", a_job(1).id)
        assert session.jobs.delete("acct", a_job(1).id)
        assert not session.jobs.delete("acct", a_job(1).id)
    with store.begin() as session:
        assert session.jobs.get(None, a_job(1).id) is None
        assert session.jobs.events(a_job(1).id, after=None, limit=9).items == []
        assert session.jobs.events(a_job(2).id, after=None, limit=9).items == [an_event("created", 2)]
        assert session.jobs.find_checkpoint("acct", a_checkpoint(10, 1).id) == a_checkpoint(10, 1)
    assert listed(store, metadata={"team": "blue"}) == ([2], False)


# --- saving and leases ------------------------------------------------------------------------------------------------


def test_only_the_owner_of_the_lease_saves(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job]
) -> None:
    add(store, a_job())
    leases.claim("one", clock.now(), 10, 9)
    for owner in ("two", None, ""):
        with pytest.raises(LeaseLost), store.begin() as session:
            session.jobs.save(a_job(stage=Stage.DONE), owner=owner)
    with store.begin() as session:
        session.jobs.save(a_job(stage=Stage.TRAIN), owner="one")
        # `attempts` is the claim's to write.
        assert session.jobs.get("acct", a_job().id) == a_job(stage=Stage.TRAIN, attempts=1)


def test_a_lost_save_leaves_nothing_of_its_transaction(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job], an_event: Callable[..., JobEvent]
) -> None:
    add(store, a_job(metadata={"team": "blue"}))
    leases.claim("one", clock.now(), 10, 9)
    leases.claim("two", clock.pass_seconds(11), 10, 9)

    def save_late() -> None:
        with store.begin() as session:
            session.jobs.append_event(an_event("late"))
            session.jobs.save(a_job(stage=Stage.DONE, metadata={}), owner="one")

    with pytest.raises(LeaseLost):
        save_late()
    with store.begin() as session:
        assert session.jobs.get("acct", a_job().id) == a_job(metadata={"team": "blue"}, attempts=2)
        assert session.jobs.events(a_job().id, after=None, limit=9).items == []
    assert listed(store, metadata={"team": "blue"}) == ([1], False)


def test_an_owner_whose_lease_expired_saves_as_long_as_nobody_took_it(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job]
) -> None:
    add(store, a_job())
    leases.claim("one", clock.now(), 10, 9)
    clock.pass_seconds(60)
    with store.begin() as session:
        session.jobs.save(a_job(stage=Stage.PROVE), owner="one")
    claimed = leases.claim("two", clock.now(), 10, 9)
    assert claimed == a_job(stage=Stage.PROVE, attempts=2)
    with pytest.raises(LeaseLost), store.begin() as session:
        session.jobs.save(a_job(stage=Stage.DONE), owner="one")


@pytest.mark.parametrize(("seconds", "free"), [(9.999999, False), (10, True), (3600, True)])
def test_without_owner_a_job_is_saved_once_the_lease_has_expired(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job], seconds: float, free: bool
) -> None:
    add(store, a_job())
    leases.claim("one", clock.now(), 10, 9)
    clock.pass_seconds(seconds)
    cancelled = a_job(status=JobStatus.CANCELLED)
    if free:
        with store.begin() as session:
            session.jobs.save(cancelled, owner=None)
    else:
        with pytest.raises(LeaseLost), store.begin() as session:
            session.jobs.save(cancelled, owner=None)
    with store.begin() as session:
        job = session.jobs.get("acct", cancelled.id)
    assert job is not None
    assert job.ended is free


def test_a_job_that_ends_gives_its_lease_back(
    store: SqlStore, leases: SqlLeases, clock, a_job: Callable[..., Job]
) -> None:
    add(store, a_job())
    leases.claim("one", clock.now(), 10, 9)
    with store.begin() as session:
        session.jobs.save(a_job(status=JobStatus.SUCCEEDED), owner="one")
    assert not leases.beat(a_job().id, "one", clock.now(), 10)
    with pytest.raises(LeaseLost), store.begin() as session:
        session.jobs.save(a_job(status=JobStatus.SUCCEEDED), owner="one")
    assert leases.claim("two", clock.pass_seconds(60), 10, 9) is None


def test_an_ended_job_stays_ended_in_its_way(store: SqlStore, a_job: Callable[..., Job]) -> None:
    add(store, a_job(status=JobStatus.SUCCEEDED))
    for status in (JobStatus.CANCELLED, JobStatus.QUEUED):
        with pytest.raises(LeaseLost), store.begin() as session:
            session.jobs.save(a_job(status=status), owner=None)
    with store.begin() as session:
        session.jobs.save(a_job(status=JobStatus.SUCCEEDED, result_file="file-1"), owner=None)
        assert session.jobs.get("acct", a_job().id) == a_job(status=JobStatus.SUCCEEDED, result_file="file-1")


# --- events -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def an_event(a_job: Callable[..., Job]) -> Callable[..., JobEvent]:
    def make(key: str, number: int = 1, **fields: object) -> JobEvent:
        plain = JobEvent(f"ftevent-{number}-{key}", a_job(number).id, key, EventKind.METRICS, EventLevel.INFO, NOON)
        return replace(plain, **fields)

    return make


def test_an_event_comes_back_as_it_was_appended(
    store: SqlStore, a_job: Callable[..., Job], an_event: Callable[..., JobEvent]
) -> None:
    data = {"step": 10, "train_loss": 0.1 + 0.2, "big": 1e300, "none": None, "list": [1, "ß\x00"], "z": {"a": True}}
    event = an_event("step-10", kind=EventKind.FAILED, level=EventLevel.ERROR, data=data)
    add(store, a_job())
    with store.begin() as session:
        assert session.jobs.append_event(event)
        (found,) = session.jobs.events(a_job().id, after=None, limit=10).items
    assert found == event
    assert list(found.data) == list(data)


def test_a_loss_that_is_no_number_is_kept(
    store: SqlStore, a_job: Callable[..., Job], an_event: Callable[..., JobEvent]
) -> None:
    add(store, a_job())
    with store.begin() as session:
        session.jobs.append_event(an_event("step-1", data={"train_loss": math.nan, "scale": math.inf}))
        (found,) = session.jobs.events(a_job().id, after=None, limit=10).items
    assert {name: repr(value) for name, value in found.data.items()} == {"train_loss": "nan", "scale": "inf"}


def test_an_event_is_written_once_however_often_it_is_appended(
    store: SqlStore, a_job: Callable[..., Job], an_event: Callable[..., JobEvent]
) -> None:
    add(store, a_job(1), a_job(2))
    first = an_event("step-1", data={"try": 1})
    with store.begin() as session:
        assert session.jobs.append_event(first)
        assert not session.jobs.append_event(replace(first, data={"try": 2}))
    with store.begin() as session:
        assert not session.jobs.append_event(replace(first, id="ftevent-another"))
        assert session.jobs.append_event(an_event("step-1", 2))
        assert session.jobs.events(a_job(1).id, after=None, limit=10).items == [first]


def test_events_come_in_the_reverse_order_of_appending_whatever_their_times(
    store: SqlStore, a_job: Callable[..., Job], an_event: Callable[..., JobEvent]
) -> None:
    add(store, a_job(1), a_job(2))
    events = [an_event(f"k{n}", created_at=NOON + timedelta(seconds=s)) for n, s in enumerate((0, 0, -5, 9, 1))]
    for event in events:
        with store.begin() as session:
            session.jobs.append_event(event)
            session.jobs.append_event(replace(event, id=f"{event.id}-2", job_id=a_job(2).id))
    seen: list[JobEvent] = []
    after, more = None, True
    while more:
        with store.begin() as session:
            page = session.jobs.events(a_job(1).id, after=after, limit=2)
        seen += page.items
        after, more = page.items[-1].id, page.has_more
    assert seen == events[::-1]


def test_nothing_comes_after_an_event_of_another_job(
    store: SqlStore, a_job: Callable[..., Job], an_event: Callable[..., JobEvent]
) -> None:
    add(store, a_job(1), a_job(2))
    with store.begin() as session:
        session.jobs.append_event(an_event("a", 1))
        session.jobs.append_event(an_event("a", 2))
        for after in (an_event("a", 2).id, "ftevent-unknown"):
            page = session.jobs.events(a_job(1).id, after=after, limit=10)
            assert (page.items, page.has_more) == ([], False)
        assert session.jobs.events("ftjob-unknown", after=None, limit=10).items == []


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.fixture
def a_checkpoint(a_job: Callable[..., Job]) -> Callable[..., Checkpoint]:
    def make(step: int, number: int = 1, **fields: object) -> Checkpoint:
        plain = Checkpoint(
            id=f"ftchkpt-{number}-{step}",
            job_id=a_job(number).id,
            account_id="acct",
            step=step,
            name=f"gpt.ft-{number}:ckpt-step-{step}",
            openai_name=f"ft:gpt:{number}:ckpt-step-{step}",
            adapter_key=f"adapters/{number}/{step}",
            created_at=NOON,
            metrics={"train_loss": 0.25, "step": 10.0},
        )
        return replace(plain, **fields)

    return make


def test_checkpoints_come_highest_step_first_page_by_page(
    store: SqlStore, a_job: Callable[..., Job], a_checkpoint: Callable[..., Checkpoint]
) -> None:
    add(store, a_job(1), a_job(2))
    with store.begin() as session:
        for step in (100, 9, 20):
            session.jobs.add_checkpoint(a_checkpoint(step))
        session.jobs.add_checkpoint(a_checkpoint(50, 2))
        first = session.jobs.checkpoints(a_job(1).id, after=None, limit=2)
        assert first.items == [a_checkpoint(100), a_checkpoint(20)]
        assert first.has_more
        second = session.jobs.checkpoints(a_job(1).id, after=first.items[-1].id, limit=2)
        assert (second.items, second.has_more) == ([a_checkpoint(9)], False)
        for unknown in ("ftchkpt-unknown", a_checkpoint(50, 2).id):
            assert session.jobs.checkpoints(a_job(1).id, after=unknown, limit=2).items == []


def test_adding_a_checkpoint_again_replaces_it(
    store: SqlStore, a_job: Callable[..., Job], a_checkpoint: Callable[..., Checkpoint]
) -> None:
    add(store, a_job())
    final = a_checkpoint(20, name="gpt.ft-1", openai_name="ft:gpt:1", final=True, deployable=True, metrics={})
    with store.begin() as session:
        session.jobs.add_checkpoint(a_checkpoint(20))
        session.jobs.add_checkpoint(final)
        session.jobs.add_checkpoint(final)
    with store.begin() as session:
        assert session.jobs.checkpoints(a_job().id, after=None, limit=9).items == [final]
        assert session.jobs.find_checkpoint("acct", a_checkpoint(20).name) is None


def test_a_checkpoint_is_found_by_its_id_and_both_names_in_its_account(
    store: SqlStore, a_job: Callable[..., Job], a_checkpoint: Callable[..., Checkpoint]
) -> None:
    add(store, a_job())
    wanted = a_checkpoint(20)
    with store.begin() as session:
        session.jobs.add_checkpoint(a_checkpoint(10))
        session.jobs.add_checkpoint(wanted)
        for reference in (wanted.id, wanted.name, wanted.openai_name):
            assert session.jobs.find_checkpoint("acct", reference) == wanted
            assert session.jobs.find_checkpoint("other", reference) is None
        assert session.jobs.find_checkpoint("acct", wanted.adapter_key) is None
