"""Models of another account: copied into this one, then served and kept without the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tailorbird.domain.deployments import ProvisioningState
from tailorbird.domain.errors import Conflict, InvalidRequest, ModelNotFound
from tailorbird.service.adapters import Adapters
from tailorbird.service.copies import Copies, copy_id
from tailorbird.service.models import Models

TUNED = f"gpt-4o-mini-2024-07-18.ft-{'a' * 32}-mine"
FINAL, EARLIER = (f"ftchkpt-{digit * 32}" for digit in "32")


@pytest.fixture
def other(world: Any) -> Any:
    """An account in another subscription and location that has nothing yet."""
    other = replace(
        world.account, id="acc2", subscription_id="sub2", name="name2", location="east", key1="k3", key2="k4"
    )
    with world.store.begin() as tx:
        tx.accounts.add(other)
    return other


@pytest.fixture
def copies(world: Any) -> Copies:
    return Copies(world.store, Adapters(world.blobs, world.folder), world.catalogue, world.clock)


async def served(world: Any, owner: Any, model: str) -> Any:
    made, _ = world.deployments.create(owner, "d", model_name=model, source=world.account, by="tester")
    await world.deployments.provision(owner.id, "d")
    return made, world.deployments.get(owner.id, "d")


async def test_a_model_of_another_account_is_copied_and_served(world: Any, other: Any) -> None:
    made, done = await served(world, other, TUNED)
    assert (made.state, done.state) == (ProvisioningState.CREATING, ProvisioningState.SUCCEEDED)
    assert (done.source, done.served_model) == (world.account.resource_id, TUNED)
    assert done.checkpoint_id == copy_id(FINAL, other.id) != FINAL
    folder = world.engine.loaded[done.checkpoint_id]
    assert (folder / "adapter_model.safetensors").read_text() == FINAL
    assert world.put("own", TUNED).checkpoint_id == FINAL, "the original can be deployed beside its copy"


async def test_a_copy_outlives_its_original(world: Any, other: Any) -> None:
    await served(world, other, TUNED)
    Models(world.store, world.blobs, world.catalogue, world.clock).delete(world.account.id, TUNED)
    await world.deployments.delete(other.id, "d")
    again, _ = world.deployments.create(other, "again", model_name=TUNED, by="tester")
    await world.deployments.provision(other.id, "again")
    assert world.deployments.get(other.id, "again").state is ProvisioningState.SUCCEEDED
    assert again.checkpoint_id == copy_id(FINAL, other.id)


async def test_deleting_a_copy_leaves_the_original_alone(world: Any, other: Any) -> None:
    await served(world, other, EARLIER)
    await world.deployments.delete(other.id, "d")
    Models(world.store, world.blobs, world.catalogue, world.clock).delete(other.id, f"{TUNED}:ckpt-step-2")
    for model in (TUNED, EARLIER):
        assert (await world.serve(f"own-{model[-1]}", model)).state is ProvisioningState.SUCCEEDED
    assert world.blobs.list(f"accounts/{other.id}/adapters") == []


async def test_a_copy_whose_original_vanished_before_it_was_made_fails_and_says_so(world: Any, other: Any) -> None:
    world.deployments.create(other, "d", model_name=TUNED, source=world.account, by="tester")
    Models(world.store, world.blobs, world.catalogue, world.clock).delete(world.account.id, TUNED)
    await world.deployments.provision(other.id, "d")
    failed = world.deployments.get(other.id, "d")
    assert failed.state is ProvisioningState.FAILED
    assert failed.failure.startswith(f"The model could not be copied from '{world.account.resource_id}'")


async def test_a_restarted_server_makes_the_copy_it_had_begun(world: Any, other: Any) -> None:
    made, _ = world.deployments.create(other, "d", model_name=TUNED, source=world.account, by="tester")
    # The server died between the first byte and the rows.
    world.blobs.put(f"accounts/{other.id}/adapters/{made.checkpoint_id}/adapter_model.safetensors", [b"half"])
    await world.deployments.resume_unfinished()
    folder = world.engine.loaded[made.checkpoint_id]
    assert (folder / "adapter_model.safetensors").read_text() == FINAL


def test_a_base_model_has_no_source(world: Any, other: Any) -> None:
    with pytest.raises(InvalidRequest, match="every account can deploy") as caught:
        world.deployments.create(other, "d", model_name="gpt-4o-mini", source=world.account, by="tester")
    assert caught.value.param == "properties.model.source"


def test_copying_twice_is_copying_once(world: Any, other: Any, copies: Copies) -> None:
    first = copies.copy_checkpoint(world.account, f"{TUNED}:ckpt-step-2", other)
    assert copies.copy_checkpoint(world.account, EARLIER, other) == first
    with world.store.begin() as tx:
        assert tx.models.list(other.id) == [first.model]
        assert tx.jobs.find_checkpoint(other.id, EARLIER) is None
    assert (first.model.name, first.checkpoint.step) == (f"{TUNED}:ckpt-step-2", 2)


def test_what_cannot_be_copied_is_refused(world: Any, other: Any, copies: Copies) -> None:
    with pytest.raises(ModelNotFound):
        copies.copy_checkpoint(world.account, "nothing", other)
    with pytest.raises(ModelNotFound):
        copies.copy_checkpoint(other, TUNED, world.account)
    with pytest.raises(InvalidRequest, match="base model"):
        copies.copy_checkpoint(world.account, "gpt-4o-mini", other)
    with pytest.raises(InvalidRequest, match="same account"):
        copies.copy_checkpoint(world.account, TUNED, world.account)


def test_a_copy_never_takes_the_place_of_another_model(world: Any, other: Any, copies: Copies) -> None:
    copies.copy_checkpoint(world.account, TUNED, other)
    with pytest.raises(Conflict, match="another model called"):
        copies.copy_checkpoint(other, TUNED, world.account)
