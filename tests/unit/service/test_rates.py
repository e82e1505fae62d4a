"""Rate limits: what a capacity lets through, when it lets more through, and how it refuses."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tailorbird.domain.deployments import Deployment, ProvisioningState
from tailorbird.domain.errors import TooManyRequests
from tailorbird.service.rates import Allowance, Rates, estimated_tokens

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ONE = Deployment(
    account_id="acct",
    name="Dep",
    model_name="gpt-4o",
    model_format="OpenAI",
    model_version="1",
    served_model="gpt-4o",
    base="weaver",
    checkpoint_id=None,
    catalogue_name="gpt-4o",
    sku_name="Standard",
    capacity=1,
    state=ProvisioningState.SUCCEEDED,
    created_at=NOON,
    updated_at=NOON,
    created_by="somebody",
)


class HandClock:
    def __init__(self) -> None:
        self.time = NOON

    def now(self) -> datetime:
        return self.time

    def pass_seconds(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def rates(clock: HandClock) -> Rates:
    return Rates(clock)


def test_a_capacity_of_1_is_1000_tokens_and_6_requests_a_minute(rates: Rates) -> None:
    assert rates.admit(ONE, 100) == Allowance(6, 5, 1000, 900, 10, 6)


def test_the_seventh_small_request_of_a_moment_is_refused_in_azures_words(rates: Rates) -> None:
    for _ in range(6):
        rates.admit(ONE, 1)
    with pytest.raises(TooManyRequests) as caught:
        rates.admit(ONE, 1, version="2024-10-21")
    assert caught.value.retry_after == pytest.approx(10)
    assert caught.value.message == (
        "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded call "
        "rate limit of your current OpenAI S0 pricing tier. Please retry after 10 seconds. Please go here: "
        "https://aka.ms/oai/quotaincrease if you would like to further increase the default rate limit."
    )


def test_tokens_beyond_the_minutes_allowance_are_refused_until_they_have_leaked_away(
    rates: Rates, clock: HandClock
) -> None:
    rates.admit(ONE, 900)
    with pytest.raises(TooManyRequests, match="exceeded token rate limit") as caught:
        rates.admit(ONE, 400)
    assert caught.value.retry_after == pytest.approx(18)
    clock.pass_seconds(17.9)
    with pytest.raises(TooManyRequests):
        rates.admit(ONE, 400)
    clock.pass_seconds(0.2)
    assert rates.admit(ONE, 400) is not None


def test_a_refused_request_costs_nothing(rates: Rates) -> None:
    rates.admit(ONE, 900)
    for _ in range(20):
        with pytest.raises(TooManyRequests):
            rates.admit(ONE, 200)
    assert rates.admit(ONE, 100) is not None


def test_a_request_larger_than_a_whole_minute_passes_alone_and_is_paid_off_afterwards(
    rates: Rates, clock: HandClock
) -> None:
    allowance = rates.admit(ONE, 3000)
    assert allowance is not None
    assert (allowance.remaining_tokens, allowance.reset_tokens) == (0, 180)
    clock.pass_seconds(120)
    with pytest.raises(TooManyRequests) as caught:
        rates.admit(ONE, 3000)
    assert caught.value.retry_after == pytest.approx(60)
    clock.pass_seconds(60)
    assert rates.admit(ONE, 3000) is not None


def test_a_changed_capacity_counts_from_the_next_request(rates: Rates) -> None:
    rates.admit(ONE, 1000)
    bigger = replace(ONE, capacity=2, name="DEP")
    allowance = rates.admit(bigger, 1000)
    assert allowance is not None
    assert (allowance.limit_tokens, allowance.remaining_tokens) == (2000, 0)


def test_deployments_do_not_share_their_allowance(rates: Rates) -> None:
    rates.admit(ONE, 1000)
    assert rates.admit(replace(ONE, name="other"), 1000) is not None
    assert rates.admit(replace(ONE, account_id="other"), 1000) is not None


@pytest.mark.parametrize("sku", ["ProvisionedManaged", "GlobalProvisionedManaged", "DataZoneProvisionedManaged"])
def test_provisioned_throughput_is_not_limited(rates: Rates, sku: str) -> None:
    assert [rates.admit(replace(ONE, sku_name=sku), 10**9) for _ in range(10)] == [None] * 10


def test_an_operator_can_switch_limits_off(clock: HandClock) -> None:
    rates = Rates(clock, enabled=False)
    assert [rates.admit(ONE, 10**9) for _ in range(10)] == [None] * 10


def test_a_clock_that_steps_back_lets_nothing_extra_through(rates: Rates, clock: HandClock) -> None:
    rates.admit(ONE, 1000)
    clock.pass_seconds(-3600)
    with pytest.raises(TooManyRequests):
        rates.admit(ONE, 1)


def test_deployments_nobody_uses_are_forgotten(rates: Rates, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailorbird.service.rates._MOST_IDLE", 3)
    for number in range(4):
        rates.admit(replace(ONE, name=f"d{number}"), 1)
    clock.pass_seconds(61)
    rates.admit(ONE, 1)
    assert set(rates._meters) == {("acct", "dep")}


def test_a_request_is_estimated_by_its_prompt_and_its_longest_answers() -> None:
    assert estimated_tokens(100, 50, 3) == 250
    assert estimated_tokens(100, None, 2) == 132
