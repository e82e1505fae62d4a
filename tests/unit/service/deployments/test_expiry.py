"""What the clock ends: deployments nobody uses, and the developer tier."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from tailorbird.domain.deployments import ProvisioningState

TUNED = f"gpt-4o-mini-2024-07-18.ft-{'a' * 32}-mine"
FINAL, EARLIER = (f"ftchkpt-{digit * 32}" for digit in "32")


def names(world: Any) -> list[str]:
    return [d.name for d in world.deployments.list(world.account.id)]


async def test_a_fine_tuned_deployment_unused_for_15_days_is_deleted_and_its_model_stays(world: Any) -> None:
    await world.serve("tuned", TUNED)
    await world.serve("base", "gpt-4o-mini")
    world.clock.moment += timedelta(days=15)
    await world.deployments.end_expired()
    assert names(world) == ["base", "tuned"]
    world.clock.moment += timedelta(seconds=1)
    await world.deployments.end_expired()
    assert names(world) == ["base"]
    assert world.engine.loaded == {}
    assert (await world.serve("again", TUNED)).state is ProvisioningState.SUCCEEDED


async def test_every_use_grants_15_more_days(world: Any) -> None:
    await world.serve("tuned", TUNED)
    world.clock.moment += timedelta(days=14)
    world.deployments.touch(world.account.id, "TUNED")
    world.clock.moment += timedelta(days=14)
    await world.deployments.end_expired()
    assert names(world) == ["tuned"]
    world.clock.moment += timedelta(days=1, seconds=1)
    await world.deployments.end_expired()
    assert names(world) == []


async def test_the_developer_tier_ends_after_24_hours_whatever_its_use(world: Any) -> None:
    world.put("trial", TUNED, sku_name="developertier")
    await world.deployments.provision(world.account.id, "trial")
    world.clock.moment += timedelta(hours=24)
    world.deployments.touch(world.account.id, "trial")
    await world.deployments.end_expired()
    assert names(world) == ["trial"]
    world.clock.moment += timedelta(seconds=1)
    await world.deployments.end_expired()
    assert names(world) == []


async def test_an_operator_can_stop_the_clock(world: Any) -> None:
    world.deployments.limits = replace(world.deployments.limits, idle_days=0, developer_hours=0)
    world.put("tuned", TUNED)
    world.put("trial", EARLIER, sku_name="DeveloperTier")
    world.clock.moment += timedelta(days=4000)
    await world.deployments.end_expired()
    assert names(world) == ["trial", "tuned"]


def test_a_busy_deployment_is_written_down_once_a_minute(world: Any) -> None:
    world.put("d", TUNED)
    first = world.clock.moment
    world.deployments.touch(world.account.id, "d")
    for seconds, written in ((30, first), (59, first), (60, first + timedelta(seconds=60))):
        world.clock.moment = first + timedelta(seconds=seconds)
        world.deployments.touch(world.account.id, "D")
        assert world.deployments.get(world.account.id, "d").last_used_at == written
