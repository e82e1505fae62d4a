"""What a PUT of a deployment makes of its row: names, versions, SKUs, conflicts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tailorbird.domain.deployments import SKUS, ProvisioningState
from tailorbird.domain.errors import (
    Conflict,
    DeploymentNotFound,
    IllegalState,
    InvalidRequest,
    NotFound,
    QuotaExceeded,
)

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


def test_of_two_servers_that_deploy_a_model_at_once_the_later_is_refused(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("first", TUNED)
    # What a server sees that looked before the other one had written.
    monkeypatch.setattr("tailorbird.service.deployments.rules.refuse_second", lambda tx, made: None)
    with pytest.raises(Conflict, match="another one of the model") as caught:
        world.put("second", TUNED)
    assert caught.value.code == "RequestConflict"
    assert [d.name for d in world.deployments.list(world.account.id)] == ["first"]


# --- limits -----------------------------------------------------------------------------------------------------------


def test_the_standard_deployments_of_an_account_are_limited_and_provisioned_ones_do_not_count(world: Any) -> None:
    for number in range(6):
        world.put(f"d{number}", "gpt-4o-mini")
    with pytest.raises(QuotaExceeded, match="has 6 standard deployments and may have 6"):
        world.put("d6", "gpt-4o-mini")
    assert world.put("d5", "gpt-4o-mini", capacity=2).capacity == 2
    assert world.put("ptu", "gpt-4o-mini", sku_name="ProvisionedManaged")
    world.deployments.mark_deleting(world.account.id, "d0")
    assert world.put("d6", "gpt-4o-mini")


def test_deployments_of_fine_tuned_models_have_a_limit_of_their_own(world: Any) -> None:
    world.deployments.limits = replace(world.deployments.limits, tuned_deployments=1)
    world.put("first", TUNED)
    with pytest.raises(QuotaExceeded, match="has 1 fine-tuned model deployments and may have 1"):
        world.put("second", EARLIER)
    assert world.put("base", "gpt-4o-mini")


def test_capacity_beyond_the_locations_quota_is_refused_in_azures_words(world: Any) -> None:
    world.put("a", "gpt-4o-mini", capacity=60)
    with pytest.raises(QuotaExceeded) as caught:
        world.put("b", TUNED, capacity=41)
    quota = "Tokens Per Minute (thousands) - gpt-4o-mini"
    assert caught.value.message == (
        f"This operation require 41 new capacity in quota {quota}, which is bigger than the current available capacity "
        f"40. The current quota usage is 60 and the quota limit is 100 for quota {quota}."
    )
    assert world.put("b", TUNED, capacity=40)
    assert world.put("c", "gpt-4o", capacity=100), "another model has a quota of its own"
    assert world.put("d", "gpt-4o-mini", sku_name="GlobalStandard", capacity=100), "and so has another SKU"
    assert world.put("a", "gpt-4o-mini", capacity=10), "less is always possible"
    with pytest.raises(QuotaExceeded, match=r"require 51 new capacity .* usage is 50 and"):
        world.put("a", "gpt-4o-mini", capacity=61)


def test_the_developer_tier_is_for_fine_tuned_models(world: Any) -> None:
    with pytest.raises(InvalidRequest, match="SKU 'DeveloperTier' of account deployment is not supported") as caught:
        world.put("d", "gpt-4o-mini", sku_name="DeveloperTier")
    assert caught.value.code == "InvalidResourceProperties"


def test_a_model_trained_with_another_chat_template_is_refused_with_the_remedy(world: Any) -> None:
    with world.store.begin() as tx:
        tx.models.add(replace(tx.models.find(world.account.id, TUNED), template_hash="older"))
    with pytest.raises(InvalidRequest, match="chat template of the base model 'weaver' has changed") as caught:
        world.put("d", TUNED)
    assert caught.value.code == "DeploymentModelNotSupported"
    assert "Fine-tune it again" in caught.value.message


# --- update, pause ----------------------------------------------------------------------------------------------------


async def test_an_update_changes_what_is_given_and_leaves_the_rest(world: Any) -> None:
    first = await world.serve("d", TUNED)
    world.clock.moment += timedelta(hours=1)
    changed = world.deployments.update(world.account, "D", capacity=7, by="other")
    assert changed == replace(first, capacity=7, updated_at=world.clock.moment, updated_by="other")
    changed = world.deployments.update(world.account, "d", sku_name="globalstandard", tags={"a": "b"}, by="other")
    assert (changed.sku_name, changed.capacity, changed.tags) == ("GlobalStandard", 7, {"a": "b"})
    assert world.deployments.get(world.account.id, "d") == changed
    with pytest.raises(QuotaExceeded):
        world.deployments.update(world.account, "d", capacity=101, by="other")
    with pytest.raises(InvalidRequest):
        world.deployments.update(world.account, "d", capacity=0, by="other")
    with pytest.raises(NotFound):
        world.deployments.update(world.account, "e", capacity=1, by="other")


async def test_a_deployment_cannot_slip_into_the_developer_tier(world: Any) -> None:
    await world.serve("d", TUNED)
    for change in (
        lambda: world.deployments.update(world.account, "d", sku_name="Developer", by="other"),
        lambda: world.put("d", TUNED, sku_name="DeveloperTier"),
    ):
        with pytest.raises(InvalidRequest, match="cannot change from Standard to DeveloperTier"):
            change()


async def test_a_paused_deployment_answers_nobody_until_it_is_resumed(world: Any) -> None:
    await world.serve("d", TUNED)
    assert world.deployments.set_paused(world.account.id, "D", True, by="other").paused
    with pytest.raises(IllegalState, match=r"The deployment 'd' is paused\. Resume it"):
        world.deployments.target(world.account.id, "d")
    assert world.put("d", TUNED, capacity=2).paused, "a PUT that does not say leaves it paused"
    assert not world.deployments.set_paused(world.account.id, "d", False, by="other").paused
    assert world.deployments.target(world.account.id, "d").engine_model == FINAL
    world.deployments.mark_deleting(world.account.id, "d")
    with pytest.raises(Conflict):
        world.deployments.set_paused(world.account.id, "d", True, by="other")
