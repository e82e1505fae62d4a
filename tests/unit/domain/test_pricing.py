"""Meters, quantities, amounts, hours of hosting, periods and marks of budgets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tailorbird.domain.deployments import Deployment, ProvisioningState
from tailorbird.domain.pricing import (
    FREE,
    Budget,
    BudgetState,
    Charge,
    Hosting,
    Meter,
    Period,
    PriceList,
    Prices,
    Work,
    cents,
    goes_on,
    hosting_of,
    period_end,
    period_start,
    shown,
    training_quantity,
)

NOON = datetime(2026, 2, 5, 12, 30, tzinfo=UTC)
TURBO = Prices(training_hour=Decimal(102), hosting_hour=Decimal("7.00"))
MINI = Prices(training_tokens=Decimal("0.0033"))
LIST = PriceList("1", "USD", {"gpt-35-turbo": TURBO, "gpt-4o": FREE, "gpt-4o-mini": MINI, "babbage-002": MINI})
DEPLOYMENT = Deployment(
    "a", "Bot", "m", "OpenAI", "1", "m", "weaver", "ckpt", "gpt-35-turbo-0613", "Standard", 3,
    ProvisioningState.SUCCEEDED, NOON, NOON, "me",
)  # fmt: skip


def changed(**fields: object) -> Deployment:
    from dataclasses import replace

    return replace(DEPLOYMENT, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "quarters"),
    [(0, 0), (0.0000001, 0), (0.1, 1), (899.9, 1), (900, 1), (900.000001, 2), (1800, 2), (3600 * 720, 2880)],
)
def test_training_is_billed_in_begun_quarters_of_an_hour(seconds: float, quarters: int) -> None:
    work = Work("j", "a", "weaver", "supervised", seconds=seconds, tokens=77)
    assert training_quantity(Meter.TRAINING_HOURS, work) == quarters
    assert training_quantity(Meter.TRAINING_TOKENS, work) == 77


def test_amounts_are_exact_and_rounded_to_cents_only_when_shown() -> None:
    line = Charge("k", "a", Meter.INPUT_TOKENS, 1, Decimal("0.0004"), "1", "m", NOON)
    assert line.amount == Decimal("0.0000004")
    hours = Charge("k", "a", Meter.TRAINING_HOURS, 3, Decimal("34"), "1", "m", NOON)
    assert hours.amount == Decimal("25.50")
    assert str(shown(Meter.TRAINING_HOURS, 2)) == "0.500"
    assert str(shown(Meter.INPUT_TOKENS, 2)) == "2"
    assert [cents(Decimal(text)) for text in ("0.005", "0.0049", "1.015")] == [
        Decimal("0.01"),
        Decimal("0.00"),
        Decimal("1.02"),
    ]


def test_a_price_is_found_by_name_or_without_the_version_and_never_by_a_name_that_only_begins_alike() -> None:
    assert LIST.find("GPT-35-Turbo-0613") is TURBO
    assert LIST.find("gpt-4o-mini-2024-07-18") is MINI
    assert LIST.find("babbage-002") is MINI
    assert LIST.find("gpt-4o-max") is None
    assert LIST.of("weaver").training_meter is Meter.TRAINING_TOKENS
    assert LIST.of("weaver").of(Meter.TRAINING_TOKENS) == 0


def test_only_fine_tuned_deployments_that_stand_ready_are_paid_by_the_hour() -> None:
    def meter(deployment: Deployment) -> Meter | None:
        hosting = hosting_of(deployment, NOON)
        return None if hosting is None else hosting.meter

    assert meter(DEPLOYMENT) is Meter.HOSTING_HOURS
    assert meter(changed(paused=True)) is Meter.HOSTING_HOURS
    assert meter(changed(checkpoint_id=None)) is None
    assert meter(changed(sku_name="DeveloperTier")) is None
    assert meter(changed(sku_name="GlobalProvisionedManaged", checkpoint_id=None)) is Meter.PROVISIONED_HOURS
    for state in set(ProvisioningState) - {ProvisioningState.SUCCEEDED}:
        assert meter(changed(state=state)) is None


@pytest.mark.parametrize(
    ("minutes", "hours"), [(0, 1), (1, 1), (60, 1), (60.001, 2), (120, 2), (48 * 60, 48), (48 * 60 + 30, 49)]
)
def test_each_begun_hour_is_a_whole_one(minutes: float, hours: int) -> None:
    stand = Hosting("h", "a", "Bot", "m", "Standard", 3, True, NOON, ended_at=NOON + timedelta(minutes=minutes))
    assert stand.begun_hours(NOON + timedelta(days=99)) == hours
    assert Hosting("h", "a", "Bot", "m", "Standard", 3, True, NOON).begun_hours(stand.ended_at or NOON) == hours


def test_a_change_that_costs_the_same_does_not_begin_another_hour() -> None:
    running = hosting_of(DEPLOYMENT, NOON)
    assert running is not None
    later = NOON + timedelta(minutes=5)
    assert goes_on(running, hosting_of(changed(capacity=9, sku_name="GlobalStandard"), later))
    assert not goes_on(running, hosting_of(changed(sku_name="ProvisionedManaged"), later))
    assert not goes_on(running, hosting_of(changed(catalogue_name="babbage-002"), later))
    assert not goes_on(running, None)


def test_periods_begin_and_end_in_utc() -> None:
    assert period_start(Period.MONTH, NOON) == datetime(2026, 2, 1, tzinfo=UTC)
    assert period_end(Period.MONTH, NOON) == datetime(2026, 3, 1, tzinfo=UTC)
    assert period_end(Period.DAY, datetime(2026, 2, 28, 23, tzinfo=UTC)) == datetime(2026, 3, 1, tzinfo=UTC)
    assert period_end(Period.YEAR, datetime(2028, 12, 31, tzinfo=UTC)) == datetime(2029, 1, 1, tzinfo=UTC)
    assert period_end(Period.YEAR, datetime(2028, 1, 1, tzinfo=UTC)) == datetime(2029, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("spent", "reached", "exceeded"),
    [("0", 0, False), ("4.99", 0, False), ("5", 50, False), ("9.99", 80, False), ("10", 100, True), ("99", 100, True)],
)
def test_marks_of_a_budget(spent: str, reached: int, exceeded: bool) -> None:
    budget = Budget("a", Decimal(10), Period.MONTH, stop_jobs=True, retire_deployments=True, updated_at=NOON)
    state = BudgetState(budget, NOON, NOON, Decimal(spent))
    assert (state.reached, state.exceeded) == (reached, exceeded)
