"""What a deployment costs, what it may, and when the clock ends it: before it is made and while it stands."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tailorbird.domain.deployments import EndReason, ending_of
from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.pricing import PriceList, Prices
from tailorbird.service.deployments.quotes import Quotes

TUNED = f"gpt-4o-mini-2024-07-18.ft-{'a' * 32}-mine"
PRICES = PriceList(
    "test",
    "EUR",
    {
        "gpt-4o-mini": Prices(
            hosting_hour=Decimal("1.70"),
            provisioned_hour=Decimal(2),
            input_tokens=Decimal("0.1"),
            output_tokens=Decimal("0.2"),
        )
    },
)


def quotes(world: Any) -> Quotes:
    d = world.deployments
    return Quotes(world.store, world.catalogue, d.offers, world.clock, d.limits, PRICES)


@pytest.mark.parametrize(
    ("model", "sku", "hour", "token"),
    [
        (TUNED, "Standard", "1.70", "0.1"),
        (TUNED, "DeveloperTier", "0", "0.1"),
        (TUNED, "ProvisionedManaged", "10", "0"),
        ("gpt-4o-mini", "Standard", "0", "0.1"),
        ("gpt-4o-mini", "ProvisionedManaged", "10", "0"),
    ],
)
def test_the_hour_is_paid_for_tuned_models_and_units_and_tokens_wherever_units_are_not(
    world: Any, model: str, sku: str, hour: str, token: str
) -> None:
    told = quotes(world).before(world.account, model, sku, 5)
    assert (told.price.hour, told.price.input_tokens) == (Decimal(hour), Decimal(token))
    assert told.price.currency == "EUR"


def test_a_quote_tells_what_the_capacity_allows_and_what_the_quota_leaves(world: Any) -> None:
    world.put("base", "gpt-4o-mini", capacity=30)
    told = quotes(world).before(world.account, TUNED, "standard", 7)
    assert (told.sku_name, told.tokens_per_minute, told.requests_per_minute) == ("Standard", 7000, 42)
    assert (told.quota, told.left) == (100, 70)
    assert quotes(world).before(world.account, TUNED, "GlobalStandard").left == 100


def test_a_quote_names_the_deployment_that_serves_the_model_already(world: Any) -> None:
    assert quotes(world).before(world.account, TUNED).taken_by is None
    world.put("mine", TUNED)
    assert quotes(world).before(world.account, TUNED).taken_by == "mine"


def test_a_quote_says_which_clocks_will_run(world: Any) -> None:
    asked = quotes(world)
    assert (asked.before(world.account, TUNED).idle_days, asked.before(world.account, "gpt-4o-mini").idle_days) == (
        15.0,
        None,
    )
    assert asked.before(world.account, TUNED, "DeveloperTier").developer_hours == 24.0
    assert asked.before(world.account, TUNED).developer_hours is None


def test_what_cannot_be_deployed_has_no_quote(world: Any) -> None:
    with pytest.raises(InvalidRequest, match="nobody"):
        quotes(world).before(world.account, "nobody")
    with pytest.raises(InvalidRequest, match="Supported are"):
        quotes(world).before(world.account, "gpt-4o-mini", "DeveloperTier")


async def test_the_announced_end_is_the_moment_the_clock_ends_it(world: Any) -> None:
    limits = world.deployments.limits
    await world.serve("tuned", TUNED)
    world.clock.moment += timedelta(days=3)
    world.deployments.touch(world.account.id, "tuned")
    ending = ending_of(world.deployments.get(world.account.id, "tuned"), limits)
    assert ending is not None
    assert ending.why is EndReason.IDLE
    world.clock.moment = ending.at
    await world.deployments.end_expired()
    assert [d.name for d in world.deployments.list(world.account.id)] == ["tuned"]
    world.clock.moment += timedelta(seconds=1)
    await world.deployments.end_expired()
    assert world.deployments.list(world.account.id) == []


def test_the_clock_that_ends_first_is_told_and_base_models_have_none(world: Any) -> None:
    limits = world.deployments.limits
    trial = world.put("trial", TUNED, sku_name="DeveloperTier")
    ending = ending_of(trial, limits)
    assert ending is not None
    assert (ending.why, ending.at) == (EndReason.DEVELOPER_TIER, trial.created_at + timedelta(hours=24))
    assert ending_of(trial, replace(limits, idle_days=0, developer_hours=0)) is None
    assert ending_of(world.put("base", "gpt-4o-mini"), limits) is None
