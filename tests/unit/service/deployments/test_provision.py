"""Deployments and their engine: provisioned, deleted, found by a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tailorbird.domain.deployments import ProvisioningState
from tailorbird.domain.errors import (
    DeploymentNotFound,
    IllegalState,
    ModelNotFound,
    NotFound,
    ServiceError,
    Unavailable,
)
from tailorbird.service.deployments import Target

JOB = "ftjob-" + "a" * 32
TUNED = f"gpt-4o-mini-2024-07-18.ft-{'a' * 32}-mine"
TUNED_OPENAI = "ft:gpt-4o-mini-2024-07-18:tailorbird:mine:aaaaaaaa"
FINAL, EARLIER, EARLIEST = (f"ftchkpt-{digit * 32}" for digit in "321")


# --- provision --------------------------------------------------------------------------------------------------------


async def test_provisioning_loads_the_adapter_from_the_blobs_and_succeeds(world: Any) -> None:
    done = await world.serve("d", TUNED)
    assert (done.state, done.failure) == (ProvisioningState.SUCCEEDED, None)
    folder = world.engine.loaded[FINAL]
    assert folder == world.folder / FINAL
    assert (folder / "adapter_model.safetensors").read_text() == FINAL
    assert world.naps == []


async def test_provisioning_a_base_model_waits_for_its_engine_only(world: Any) -> None:
    world.engine.down = 2
    assert (await world.serve("d", "gpt-4o-mini")).state is ProvisioningState.SUCCEEDED
    assert len(world.naps) == 2
    assert world.engine.loads == 0


async def test_an_engine_that_comes_back_gets_the_adapter_and_pauses_grow(world: Any) -> None:
    world.engine.down = 6
    assert (await world.serve("d", TUNED)).state is ProvisioningState.SUCCEEDED
    assert world.naps == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0]


async def test_an_engine_that_stays_away_fails_the_deployment_and_a_second_put_mends_it(world: Any) -> None:
    world.engine.down = 1000
    failed = await world.serve("d", TUNED)
    assert failed.state is ProvisioningState.FAILED
    assert failed.failure is not None
    assert "could not be reached for 60 seconds" in failed.failure
    assert 60 <= sum(world.naps) <= 70
    world.engine.down = 0
    mended = await world.serve("d", TUNED)
    assert (mended.state, mended.failure) == (ProvisioningState.SUCCEEDED, None)


async def test_a_base_without_an_engine_fails_too(world: Any) -> None:
    world.engines.configured = False
    assert (await world.serve("d", "gpt-4o-mini")).state is ProvisioningState.FAILED


async def test_a_refused_adapter_fails_at_once_with_the_engines_reason(world: Any) -> None:
    world.engine.refusal = "rank 512 is above 64"
    failed = await world.serve("d", TUNED)
    assert failed.failure == "The engine refused the adapter: rank 512 is above 64"
    assert world.naps == []


async def test_missing_weights_fail_at_once(world: Any) -> None:
    for key in world.blobs.list(f"accounts/acc1/adapters/{FINAL}"):
        world.blobs.delete(key)
    failed = await world.serve("d", TUNED)
    assert failed.failure is not None
    assert "not in the blob store" in failed.failure


async def test_provisioning_twice_is_provisioning_once(world: Any) -> None:
    world.put("d", TUNED)
    await asyncio.gather(*(world.deployments.provision(world.account.id, "d") for _ in range(3)))
    before = world.deployments.get(world.account.id, "d")
    await world.deployments.provision(world.account.id, "d")
    await world.deployments.provision(world.account.id, "missing")
    assert world.deployments.get(world.account.id, "d") == before
    assert before.state is ProvisioningState.SUCCEEDED


async def test_a_deployment_deleted_while_it_is_provisioned_stays_deleted(world: Any) -> None:
    world.put("d", TUNED)

    async def delete_meanwhile(_seconds: float) -> None:
        world.engine.down = 0
        await world.deployments.delete(world.account.id, "d")

    world.engine.down = 1
    world.deployments._sleep = delete_meanwhile
    await world.deployments.provision(world.account.id, "d")
    assert world.deployments.list(world.account.id) == []
    assert world.engine.loaded == {}


async def test_a_name_given_to_another_model_while_the_first_loads_ends_with_the_other(world: Any) -> None:
    world.put("d", TUNED)
    first_load = world.engine.load_adapter

    async def load_and_move(name: str, folder: Path) -> None:
        await first_load(name, folder)
        if name == FINAL:
            await world.deployments.delete(world.account.id, "d")
            world.put("d", EARLIER)

    world.engine.load_adapter = load_and_move
    await world.deployments.provision(world.account.id, "d")
    assert world.deployments.target(world.account.id, "d").engine_model == EARLIER
    assert list(world.engine.loaded) == [EARLIER]


async def test_a_restarted_server_finishes_what_was_begun(world: Any) -> None:
    world.put("creating", TUNED)
    world.put("deleting", EARLIER)
    world.deployments.mark_deleting(world.account.id, "deleting")
    await world.deployments.resume_unfinished()
    assert [(d.name, d.state) for d in world.deployments.list(world.account.id)] == [
        ("creating", ProvisioningState.SUCCEEDED)
    ]


# --- delete -----------------------------------------------------------------------------------------------------------


async def test_deleting_unloads_the_adapter_and_frees_the_model(world: Any) -> None:
    await world.serve("d", TUNED)
    assert await world.deployments.delete(world.account.id, "D")
    assert world.engine.loaded == {}
    with pytest.raises(NotFound, match="deployments/d' was not found"):
        world.deployments.get(world.account.id, "d")
    assert (await world.serve("again", TUNED)).state is ProvisioningState.SUCCEEDED


async def test_deleting_works_while_the_engine_is_down(world: Any) -> None:
    await world.serve("d", TUNED)
    world.engine.down = 1
    assert await world.deployments.delete(world.account.id, "d")
    world.put("e", EARLIER)
    world.engines.configured = False
    assert await world.deployments.delete(world.account.id, "e")
    assert world.deployments.list(world.account.id) == []


async def test_deleting_what_is_not_there_says_so(world: Any) -> None:
    assert not await world.deployments.delete(world.account.id, "d")
    assert world.deployments.mark_deleting(world.account.id, "d") is None


async def test_a_deployment_of_the_same_name_made_since_is_not_removed(world: Any) -> None:
    await world.serve("d", TUNED)
    seen = world.deployments.mark_deleting(world.account.id, "d")
    assert seen is not None
    await world.deployments.delete(world.account.id, "d")
    world.clock.moment += timedelta(seconds=1)
    world.put("d", TUNED)
    world.deployments._remove(seen)
    assert world.deployments.get(world.account.id, "d").state is ProvisioningState.CREATING


# --- targets ----------------------------------------------------------------------------------------------------------


async def test_a_target_says_where_a_request_goes_and_what_the_answer_is_called(world: Any) -> None:
    row = await world.serve("d", TUNED)
    target = world.deployments.target(world.account.id, "D")
    assert target == Target(
        world.engine, FINAL, "weaver", TUNED, row, world.account.id, FINAL, "gpt-4o-mini-2024-07-18"
    )
    base = await world.serve("b", "gpt-4o-mini")
    assert world.deployments.target(world.account.id, "b") == Target(
        world.engine, "weaver", "weaver", base.served_model, base, world.account.id, None, base.catalogue_name
    )


@pytest.mark.parametrize("state", [s for s in ProvisioningState if s is not ProvisioningState.SUCCEEDED])
def test_a_deployment_that_is_not_ready_does_not_exist_for_chat(world: Any, state: ProvisioningState) -> None:
    row = world.put("d", TUNED)
    with world.store.begin() as tx:
        tx.deployments.save(replace(row, state=state))
    with pytest.raises(DeploymentNotFound, match="created the deployment within the last 5 minutes"):
        world.deployments.target(world.account.id, "d")
    with pytest.raises(DeploymentNotFound):
        world.deployments.target(world.account.id, "other")


@pytest.mark.parametrize(
    ("name", "engine_model", "served"),
    [
        (TUNED, FINAL, TUNED_OPENAI),
        (TUNED_OPENAI, FINAL, TUNED_OPENAI),
        (f"{TUNED_OPENAI}:ckpt-step-2", EARLIER, f"{TUNED_OPENAI}:ckpt-step-2"),
        ("gpt-4o-mini", "weaver", "gpt-4o-mini-2024-07-18"),
    ],
)
def test_a_model_is_served_by_its_own_name_without_a_deployment(
    world: Any, name: str, engine_model: str, served: str
) -> None:
    target = world.deployments.target_of_model(world.account.id, name)
    assert (target.engine_model, target.served_model, target.deployment) == (engine_model, served, None)
    assert target.catalogue_name == "gpt-4o-mini-2024-07-18"


@pytest.mark.parametrize("name", ["nothing", EARLIEST])
def test_an_unknown_model_has_openais_text(world: Any, name: str) -> None:
    with pytest.raises(ModelNotFound, match=f"The model `{name}` does not exist or you do not have access to it"):
        world.deployments.target_of_model(world.account.id, name)


async def test_without_an_engine_a_target_is_unavailable(world: Any) -> None:
    await world.serve("d", "gpt-4o-mini")
    world.engines.configured = False
    for ask in (
        lambda: world.deployments.target(world.account.id, "d"),
        lambda: world.deployments.target_of_model(world.account.id, "gpt-4o-mini"),
    ):
        with pytest.raises(Unavailable):
            ask()


async def test_an_adapter_the_engine_lost_is_loaded_again_even_without_its_folder(world: Any) -> None:
    await world.serve("d", TUNED)
    world.engine.loaded.clear()
    for file in (world.folder / FINAL).iterdir():
        file.unlink()
    (world.folder / FINAL).rmdir()
    await world.deployments.ensure_loaded(world.deployments.target(world.account.id, "d"))
    assert (world.engine.loaded[FINAL] / "adapter_config.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("spoil", "raised"),
    [
        (lambda w: setattr(w.engine, "down", 1), Unavailable),
        (lambda w: setattr(w.engine, "refusal", "no room"), Unavailable),
        (lambda w: [w.blobs.delete(k) for k in w.blobs.list(f"accounts/acc1/adapters/{FINAL}")], ModelNotFound),
    ],
)
async def test_what_goes_wrong_while_loading_for_chat_is_told_to_the_caller(
    world: Any, spoil: Callable[[Any], object], raised: type[ServiceError]
) -> None:
    target = world.deployments.target_of_model(world.account.id, TUNED)
    spoil(world)
    with pytest.raises(raised):
        await world.deployments.ensure_loaded(target)


def test_use_is_remembered(world: Any) -> None:
    world.put("d", TUNED)
    world.clock.moment += timedelta(minutes=5)
    world.deployments.touch(world.account.id, "D")
    assert world.deployments.get(world.account.id, "d").last_used_at == world.clock.moment


async def test_a_template_that_changed_since_the_training_stops_a_model_wherever_it_is_named(world: Any) -> None:
    row = await world.serve("d", TUNED)
    with world.store.begin() as tx:
        tx.deployments.save(replace(row, template_hash="older"))
        tx.models.add(replace(tx.models.find(world.account.id, TUNED), template_hash="older"))
    for ask in (
        lambda: world.deployments.target(world.account.id, "d"),
        lambda: world.deployments.target_of_model(world.account.id, TUNED),
    ):
        with pytest.raises(IllegalState, match=r"has changed since .* was fine-tuned on it"):
            ask()
    assert world.deployments.target_of_model(world.account.id, "gpt-4o-mini").engine_model == "weaver"
