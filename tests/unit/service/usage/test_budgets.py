"""Budgets: what they refuse, when they warn, what they retire."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tailorbird.domain.errors import InvalidRequest, NotFound, QuotaExceeded
from tailorbird.domain.pricing import BudgetAction, Charge, Meter, Period, PriceList
from tailorbird.service.intake import NewJob
from tailorbird.service.usage.budgets import Budgets

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
BOTH = (BudgetAction.STOP_JOBS, BudgetAction.RETIRE_DEPLOYMENTS)


@pytest.fixture
def budgets(house: Any) -> Budgets:
    return Budgets(house.store, PriceList(), house.clock)


def spend(house: Any, amount: str, at: datetime | None = None) -> None:
    house.counter += 1
    line = Charge(
        f"k{house.counter}", "acc", Meter.HOSTING_HOURS, 1, Decimal(amount), "v", "m", at or house.clock.now()
    )
    with house.store.begin() as tx:
        tx.ledger.append(line)


def test_a_spent_budget_refuses_new_jobs_with_the_sums_and_the_way_out(house: Any, budgets: Budgets, rows: Any) -> None:
    new = NewJob("gpt-35-turbo-0613", house.upload(rows(12)))
    budgets.put("acc", Decimal("10.00"), Period.MONTH, [BudgetAction.STOP_JOBS])
    spend(house, "9.99")
    house.jobs.create("acc", new)
    spend(house, "0.01")
    with pytest.raises(QuotaExceeded, match=r"10\.00 of 10\.00 USD for this month.*2026-12-01.*Raise the budget"):
        house.jobs.create("acc", new)
    budgets.put("acc", Decimal("10.01"), Period.MONTH, [BudgetAction.STOP_JOBS])
    house.jobs.create("acc", new)


def test_a_budget_without_actions_only_warns(house: Any, budgets: Budgets) -> None:
    budgets.put("acc", Decimal(1), Period.DAY, [])
    spend(house, "2")
    with house.store.begin() as tx:
        budgets.refuse_job(tx, "acc")
        budgets.refuse_deployment(tx, "acc")
        budgets.refuse_job(tx, "somebody without a budget")
    assert budgets.warn() == []
    assert budgets.get("acc").exceeded


def test_what_was_spent_before_the_period_does_not_count(house: Any, budgets: Budgets) -> None:
    state = budgets.put("acc", Decimal(1), Period.DAY, BOTH)
    spend(house, "5", state.start - timedelta(seconds=1))
    assert budgets.get("acc").spent == 0
    spend(house, "0.5", state.start)
    assert budgets.get("acc").reached == 50


def test_each_mark_is_told_once_and_the_deployments_of_an_overspent_account_are_named(
    house: Any, budgets: Budgets, caplog: pytest.LogCaptureFixture
) -> None:
    budgets.put("acc", Decimal(10), Period.MONTH, BOTH)
    told: list[list[int]] = []
    with caplog.at_level(logging.WARNING):
        for amount in ("4", "1", "1", "3", "1"):
            spend(house, amount)
            retired = [budgets.warn(), budgets.warn()][-1]
            told.append([getattr(record, "reached", 0) for record in caplog.records])
            caplog.clear()
    assert told == [[], [50], [], [80], [100]]
    assert retired == ["acc"]
    with house.store.begin() as tx, pytest.raises(QuotaExceeded, match="no new deployment"):
        budgets.refuse_deployment(tx, "acc")


@pytest.mark.parametrize("amount", ["0", "-1", "0.001", "NaN", "Infinity"])
def test_an_amount_that_is_no_money_is_refused(budgets: Budgets, amount: str) -> None:
    with pytest.raises(InvalidRequest, match="'amount'"):
        budgets.put("acc", Decimal(amount), Period.MONTH, [])


def test_a_budget_that_is_not_there_is_not_found(budgets: Budgets) -> None:
    assert budgets.find("acc") is None
    for call in (budgets.get, budgets.delete):
        with pytest.raises(NotFound, match="no budget"):
            call("acc")
