"""What a PUT of a deployment makes of its row: names, versions, SKUs, conflicts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tailorbird.domain.deployments import ProvisioningState
from tailorbird.domain.errors import (
    Conflict,
    DeploymentNotFound,
    InvalidRequest,
)
from tailorbird.service.deployments import SKUS

JOB = "ftjob-" + "a" * 32
TUNED = f"gpt-4o-mini-2024-07-18.ft-{'a' * 32}-mine"
TUNED_OPENAI = "ft:gpt-4o-mini-2024-07-18:tailorbird:mine:aaaaaaaa"
FINAL, EARLIER, EARLIEST = (f"ftchkpt-{digit * 32}" for digit in "321")


# --- create -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "checkpoint", "served"),
    [
        (TUNED, FINAL, TUNED),
        (TUNED_OPENAI, FINAL, TUNED),
        (FINAL, FINAL, TUNED),
        (EARLIER, EARLIER, f"{TUNED}:ckpt-step-2"),
        (f"{TUNED}:ckpt-step-2", EARLIER, f"{TUNED}:ckpt-step-2"),
        (f"{TUNED_OPENAI}:ckpt-step-2", EARLIER, f"{TUNED}:ckpt-step-2"),
        ("gpt-4o-mini-2024-07-18", None, "gpt-4o-mini-2024-07-18"),
        ("GPT-4o-mini", None, "gpt-4o-mini-2024-07-18"),
    ],
)
def test_every_name_of_a_model_can_be_deployed(world: Any, model: str, checkpoint: str | None, served: str) -> None:
    made, created = world.deployments.create(world.account, "d", model_name=model, by="tester")
    assert created
    assert (made.checkpoint_id, made.served_model, made.base) == (checkpoint, served, "weaver")
    assert (made.model_name, made.model_format) == (model, "OpenAI")
    assert made.model_version == ("1" if checkpoint else "2024-07-18")
    assert (made.state, made.created_by) == (ProvisioningState.CREATING, "tester")
    assert world.deployments.get(world.account.id, "D") == made
    assert world.deployments.list(world.account.id) == [made]


@pytest.mark.parametrize("model", ["nothing", EARLIEST, f"{TUNED}:ckpt-step-1", f"{TUNED}x", ""])
def test_an_unknown_or_superseded_model_is_refused_by_name(world: Any, model: str) -> None:
    with pytest.raises(InvalidRequest, match=f"Name:{model},") as caught:
        world.put("d", model)
    assert caught.value.code == "DeploymentModelNotSupported"
    assert world.deployments.list(world.account.id) == []


def test_a_model_of_another_account_does_not_exist(world: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        world.deployments.create(replace(world.account, id="acc2", name="name2"), "d", model_name=TUNED, by="thief")
    assert caught.value.code == "DeploymentModelNotSupported"


def test_a_checkpoint_whose_model_was_deleted_cannot_be_deployed(world: Any) -> None:
    with world.store.begin() as tx:
        tx.models.delete(world.account.id, TUNED)
    with pytest.raises(InvalidRequest):
        world.put("d", FINAL)


@pytest.mark.parametrize(
    ("model", "format_", "version", "good"),
    [
        (TUNED, "openai", "1", True),
        (TUNED, "OpenAI", "", True),
        (TUNED, "OpenAI", "2", False),
        (TUNED, "Cohere", "1", False),
        ("gpt-4o-mini", "OpenAI", "2024-07-18", True),
        ("gpt-4o-mini", "OpenAI", "1", False),
    ],
)
def test_a_wrong_format_or_version_is_refused(world: Any, model: str, format_: str, version: str, good: bool) -> None:
    if good:
        assert world.put("d", model, model_format=format_, model_version=version)
        return
    with pytest.raises(InvalidRequest, match=f"Format:{format_},Name:{model},Version:{version}'"):
        world.put("d", model, model_format=format_, model_version=version)


def test_a_retired_base_model_is_refused_from_the_day_after(world: Any) -> None:
    assert world.put("last-day", "gpt-4o")
    with pytest.raises(InvalidRequest, match="retired on 2026-11-20") as caught:
        world.put("too-late", "gpt-4")
    assert caught.value.code == "ServiceModelDeprecated"


@pytest.mark.parametrize("sku", SKUS)
def test_skus_are_compared_without_case_and_answered_as_azure_writes_them(world: Any, sku: str) -> None:
    assert world.put("d", TUNED, sku_name=sku.upper()).sku_name == sku


def test_az_s_name_of_the_developer_tier_is_understood(world: Any) -> None:
    assert world.put("d", TUNED, sku_name="Developer").sku_name == "DeveloperTier"


def test_an_unknown_sku_is_refused_in_azures_words(world: Any) -> None:
    with pytest.raises(
        InvalidRequest, match=r"specified SKU 'Premium' of account deployment is not supported"
    ) as error:
        world.put("d", TUNED, sku_name="Premium")
    assert (error.value.param, error.value.code) == ("sku.name", "InvalidResourceProperties")


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_capacity_below_one_is_refused(world: Any, capacity: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        world.put("d", TUNED, capacity=capacity)
    assert caught.value.param == "sku.capacity"


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "ä", "x" * 65])
def test_a_name_that_is_none_is_refused(world: Any, name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        world.put(name, TUNED)
    assert caught.value.code == "InvalidResourceName"


@pytest.mark.parametrize("second", [TUNED, TUNED_OPENAI, FINAL])
def test_a_second_deployment_of_a_tuned_model_is_refused_and_names_the_first(world: Any, second: str) -> None:
    world.put("first", TUNED)
    with pytest.raises(Conflict, match="already served by the deployment 'first'") as caught:
        world.put("second", second)
    assert caught.value.code == "DeploymentAlreadyExists"
    assert [d.name for d in world.deployments.list(world.account.id)] == ["first"]


def test_an_earlier_checkpoint_and_any_number_of_base_deployments_stand_beside_it(world: Any) -> None:
    for name, model in (("a", TUNED), ("b", EARLIER), ("c", "gpt-4o-mini"), ("d", "gpt-4o-mini")):
        world.put(name, model)
    assert [d.name for d in world.deployments.list(world.account.id)] == ["a", "b", "c", "d"]


async def test_putting_the_same_again_is_an_update_without_provisioning(world: Any) -> None:
    first = await world.serve("d", TUNED)
    world.clock.moment += timedelta(hours=1)
    made, created = world.deployments.create(
        world.account, "D", model_name=TUNED, sku_name="globalstandard", capacity=5, tags={"a": "b"}, by="other"
    )
    assert not created
    assert made.state is ProvisioningState.SUCCEEDED
    assert (made.name, made.sku_name, made.capacity, made.tags) == ("d", "GlobalStandard", 5, {"a": "b"})
    assert (made.created_at, made.created_by) == (first.created_at, "tester")
    assert made.updated_at == world.clock.moment
    assert world.deployments.get(world.account.id, "d") == made


async def test_putting_another_model_provisions_again(world: Any) -> None:
    await world.serve("d", TUNED)
    made, created = world.deployments.create(world.account, "d", model_name=EARLIER, by="tester")
    assert (created, made.state) == (False, ProvisioningState.CREATING)
    with pytest.raises(DeploymentNotFound):
        world.deployments.target(world.account.id, "d")
    await world.deployments.provision(world.account.id, "d")
    assert world.deployments.target(world.account.id, "d").engine_model == EARLIER
    assert world.put("e", TUNED)


def test_another_model_while_creating_has_to_wait(world: Any) -> None:
    world.put("d", TUNED)
    with pytest.raises(Conflict, match="still being created") as caught:
        world.put("d", EARLIER)
    assert caught.value.code == "RequestConflict"
    assert world.put("d", TUNED, capacity=7).capacity == 7


def test_a_deployment_being_deleted_cannot_be_put(world: Any) -> None:
    world.put("d", TUNED)
    world.deployments.mark_deleting(world.account.id, "d")
    with pytest.raises(Conflict, match="being deleted"):
        world.put("d", TUNED)
