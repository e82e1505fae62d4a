"""Ledger, hosting, work and budgets on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from tailorbird.domain.access import Account
from tailorbird.domain.jobs import EventKind, EventLevel, Hyperparameters, Job, JobEvent, JobStatus, Stage
from tailorbird.domain.pricing import Budget, Calibration, Charge, Hosting, Meter, Period, Work
from tailorbird.infra.store import SqlStore
from tailorbird.service.ports import Total

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LINE = Charge(
    key="training/ftjob-1",
    account="a",
    meter=Meter.TRAINING_HOURS,
    quantity=2,
    unit_price=Decimal("34"),
    price_list="2023+1",
    model="babbage-002",
    at=NOON,
    job_id="ftjob-1",
)
TOKENS = replace(
    LINE,
    key="tokens/1",
    meter=Meter.INPUT_TOKENS,
    quantity=3_000_000_000,
    unit_price=Decimal("0.000000000004"),
    job_id=None,
    deployment="Bot",
)
STAND = Hosting("h1", "a", "Bot", "babbage-002", "Standard", 1, True, NOON)
BUDGET = Budget("a", Decimal("100.10"), Period.MONTH, True, False, NOON)


def test_a_key_is_charged_once_and_its_line_comes_back_as_it_was(store: SqlStore) -> None:
    with store.begin() as tx:
        assert tx.ledger.append(LINE)
        assert tx.ledger.append(TOKENS)
        assert not tx.ledger.append(replace(LINE, quantity=99))
    with store.begin() as tx:
        assert tx.ledger.page(["a"], NOON, NOON + HOUR, after=None, limit=1).items == [TOKENS]
        page = tx.ledger.page(["a"], NOON, NOON + HOUR, after=TOKENS.key, limit=1)
        assert (page.items, page.has_more) == ([LINE], False)


@pytest.mark.parametrize("change", [sa.text("UPDATE ledger SET quantity = 0"), sa.text("DELETE FROM ledger")])
def test_the_database_refuses_to_change_or_delete_a_line(store: SqlStore, engine: sa.Engine, change: sa.Text) -> None:
    with store.begin() as tx:
        tx.ledger.append(LINE)
    with pytest.raises(exc.DatabaseError, match="only grows"), engine.begin() as connection:
        connection.execute(change)  # type: ignore[call-overload]
    with store.begin() as tx:
        assert tx.ledger.page(["a"], NOON, NOON + HOUR, after=None, limit=9).items == [LINE]


def test_totals_are_exact_by_group_and_end_before_the_end(store: SqlStore) -> None:
    late = datetime(2026, 1, 5, 23, 59, 59, tzinfo=UTC)
    lines = [
        LINE,
        replace(LINE, key="2", at=late, unit_price=Decimal("68"), model="davinci-002"),
        replace(LINE, key="3", at=late + timedelta(seconds=1), quantity=1),
        replace(LINE, key="4", account="b"),
        TOKENS,
        replace(TOKENS, key="tokens/2", quantity=1),
    ]
    with store.begin() as tx:
        for line in lines:
            tx.ledger.append(line)
        everything = (NOON, NOON + 24 * HOUR)
        days = tx.ledger.totals(["a"], *everything, "day")
        assert days == [
            Total("2026-01-05", Meter.INPUT_TOKENS, Decimal("0.000000000004"), 3_000_000_001),
            Total("2026-01-05", Meter.TRAINING_HOURS, Decimal("34"), 2),
            Total("2026-01-05", Meter.TRAINING_HOURS, Decimal("68"), 2),
            Total("2026-01-06", Meter.TRAINING_HOURS, Decimal("34"), 1),
        ]
        assert {t.group for t in tx.ledger.totals(["a"], *everything, "deployment")} == {None, "Bot"}
        assert {t.group for t in tx.ledger.totals(["a", "b"], *everything, "account")} == {"a", "b"}
        assert {t.group for t in tx.ledger.totals(["a"], *everything, "model")} == {"babbage-002", "davinci-002"}
        assert [t.quantity for t in tx.ledger.totals(["b"], NOON, NOON + HOUR, "day")] == [2]
        assert tx.ledger.totals(["a"], NOON - HOUR, NOON, "day") == []
        assert tx.ledger.totals([], *everything, "day") == []
        assert tx.ledger.spent("a", NOON, late) == Decimal("17.000012000000004")


def test_charges_outlive_their_account(store: SqlStore) -> None:
    account = Account("a", "sub", "rg", "n", "l", "OpenAI", "k1", "k2", NOON, deleted_at=NOON)
    with store.begin() as tx:
        tx.accounts.add(account)
        tx.ledger.append(LINE)
        tx.hosting.open(STAND)
        tx.budgets.put(BUDGET)
        tx.accounts.purge("a")
    with store.begin() as tx:
        assert tx.ledger.spent("a", NOON, NOON + HOUR) == Decimal("17")
        assert tx.hosting.due(NOON, 10) == [STAND]
        assert tx.budgets.get("a") is None


def test_what_is_hosted_is_due_at_every_begun_hour_until_it_is_settled(store: SqlStore) -> None:
    with store.begin() as tx:
        tx.hosting.open(STAND)
        tx.hosting.open(replace(STAND, capacity=9))
        assert tx.hosting.of("a", "BOT") == [STAND]
        assert tx.hosting.due(NOON - HOUR, 10) == []
        assert tx.hosting.due(NOON, 10) == [STAND]
        tx.hosting.charged(STAND, 1)
        assert tx.hosting.due(NOON + HOUR / 2, 10) == []
        later = tx.hosting.due(NOON + HOUR, 10)
        assert later == [replace(STAND, hours=1)]
        tx.hosting.charged(STAND, 0)
        assert tx.hosting.due(NOON + HOUR, 10) == later, "another server that is behind takes nothing back"
        tx.hosting.close("h1", NOON + 1.5 * HOUR)
        tx.hosting.close("h1", NOON + 9 * HOUR)
        assert tx.hosting.of("a", "bot") == []
        ended = tx.hosting.due(NOON + 2 * HOUR, 10)
        assert ended == [replace(STAND, hours=1, ended_at=NOON + 1.5 * HOUR)]
        tx.hosting.charged(ended[0], 2)
        assert tx.hosting.due(NOON + 99 * HOUR, 10) == []


def test_work_only_grows_and_finished_runs_are_found_by_base_and_method(store: SqlStore) -> None:
    work = Work("j1", "a", "weaver", "supervised", 10, 500, 1.5)
    with store.begin() as tx:
        assert tx.work.get("j1") is None
        tx.work.put(work)
        tx.work.put(replace(work, steps=5, tokens=1))
        assert tx.work.get("j1") == work
        assert tx.work.finished("weaver", "supervised", 9) == []
        done = [
            replace(work, job_id=f"j{n}", finished_at=NOON + n * HOUR, total_seconds=9.0, cost_tokens=n)
            for n in range(1, 4)
        ]
        for one in done:
            tx.work.put(one)
        assert tx.work.finished("weaver", "supervised", 2) == [done[2], done[1]]
        assert tx.work.finished("weaver", "dpo", 2) == []


def test_a_budget_is_replaced_and_each_mark_is_told_once_in_a_period(store: SqlStore) -> None:
    with store.begin() as tx:
        assert tx.budgets.get("a") is None
        tx.budgets.put(BUDGET)
        assert tx.budgets.list() == [BUDGET]
        assert tx.budgets.warn("a", NOON, 50)
        assert not tx.budgets.warn("a", NOON, 50)
        assert tx.budgets.warn("a", NOON, 100)
        assert not tx.budgets.warn("a", NOON, 80)
        assert tx.budgets.warn("a", NOON + HOUR, 50)
        assert not tx.budgets.warn("nobody", NOON, 50)
        tx.budgets.put(replace(BUDGET, amount=Decimal("1.00")))
        assert tx.budgets.get("a") == replace(BUDGET, amount=Decimal("1.00"))
        assert tx.budgets.delete("a")
        assert not tx.budgets.delete("a")


def test_a_job_s_event_is_found_by_its_key(store: SqlStore) -> None:
    job = Job("ftjob-1", "a", JobStatus.QUEUED, Stage.TRAIN, "m", "b", "file", 1, Hyperparameters(), NOON, NOON)
    told = JobEvent("e1", job.id, "validating", EventKind.VALIDATING, EventLevel.INFO, NOON)
    with store.begin() as tx:
        tx.jobs.add(job)
        tx.jobs.append_event(told)
    with store.begin() as tx:
        assert tx.jobs.find_event(job.id, "validating") == told
        assert tx.jobs.find_event(job.id, "started") is None


def test_a_calibration_is_asked_for_once_and_taken_by_one_worker_until_it_is_stale(store: SqlStore) -> None:
    with store.begin() as tx:
        assert tx.calibrations.take(NOON, NOON - HOUR, ["weaver"]) is None
        tx.calibrations.ask("weaver")
        assert tx.calibrations.take(NOON, NOON - HOUR, ["another"]) is None
        assert tx.calibrations.take(NOON, NOON - HOUR, ["weaver"]) == Calibration("weaver")
        tx.calibrations.ask("weaver")
        assert tx.calibrations.get("weaver") == Calibration("weaver", taken_at=NOON)
        assert tx.calibrations.take(NOON + HOUR, NOON, ["weaver"]) is None
        assert tx.calibrations.take(NOON + HOUR, NOON + HOUR / 2, ["weaver"]) is not None
        measured = Calibration("weaver", NOON, NOON, "here", 0.5, 0.25, 4.0)
        tx.calibrations.put(measured)
        assert tx.calibrations.take(NOON + 9 * HOUR, NOON + 8 * HOUR, ["weaver"]) is None
    with store.begin() as tx:
        assert tx.calibrations.get("weaver") == measured
