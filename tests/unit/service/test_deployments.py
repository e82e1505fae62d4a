"""Deployments on a real store (SQLite) and real blobs in memory, with a fake engine of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from tailorbird.domain.access import Account
from tailorbird.domain.deployments import Deployment, ProvisioningState
from tailorbird.domain.errors import (
    Conflict,
    DeploymentNotFound,
    InvalidRequest,
    ModelNotFound,
    NotFound,
    ServiceError,
    Unavailable,
)
from tailorbird.domain.jobs import Checkpoint, Hyperparameters, Job, JobStatus, Stage
from tailorbird.domain.models import BaseModel, CatalogueEntry, TunedModel
from tailorbird.infra.blobs import open_blobs
from tailorbird.infra.schema import make_engine, migrate
from tailorbird.infra.store import SqlStore
from tailorbird.protocol.generation import Generation, GenerationChunk, GenerationRequest
from tailorbird.service.adapters import Adapters
from tailorbird.service.deployments import SKUS, Deployments, Target
from tailorbird.service.models import Catalogue
from tailorbird.service.ports import Blobs, Engine, EngineDown, EngineRefused

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
JOB = "ftjob-" + "a" * 32
TUNED = f"gpt-4o-mini-2024-07-18.ft-{'a' * 32}-mine"
TUNED_OPENAI = "ft:gpt-4o-mini-2024-07-18:tailorbird:mine:aaaaaaaa"
FINAL, EARLIER, EARLIEST = (f"ftchkpt-{digit * 32}" for digit in "321")


class StoppedClock:
    def __init__(self) -> None:
        self.moment = NOW

    def now(self) -> datetime:
        return self.moment


@dataclass
class FakeEngine:
    """Remembers what is loaded; `down` makes so many calls fail, `refusal` every load."""

    loaded: dict[str, Path] = field(default_factory=dict[str, Path])
    loads: int = 0
    down: int = 0
    refusal: str | None = None

    def _answer(self) -> None:
        if self.down > 0:
            self.down -= 1
            raise EngineDown("connection refused")

    async def load_adapter(self, name: str, folder: Path) -> None:
        self._answer()
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise EngineRefused(self.refusal)
        self.loads += 1
        self.loaded[name] = folder

    async def unload_adapter(self, name: str) -> None:
        self._answer()
        self.loaded.pop(name, None)

    async def ready(self) -> bool:
        try:
            self._answer()
        except EngineDown:
            return False
        return True

    async def complete(self, request: GenerationRequest) -> Generation:
        raise AssertionError("deployments never ask for text")

    def stream(self, request: GenerationRequest) -> AsyncIterator[GenerationChunk]:
        raise AssertionError("deployments never ask for text")


@dataclass
class OneEngine:
    engine: FakeEngine
    configured: bool = True

    def of(self, base: str) -> Engine:
        if not self.configured:
            raise EngineDown(f"no engine for {base}")
        return self.engine


@dataclass
class World:
    store: SqlStore
    blobs: Blobs
    engines: OneEngine
    clock: StoppedClock
    deployments: Deployments
    folder: Path
    account: Account
    naps: list[float]

    @property
    def engine(self) -> FakeEngine:
        return self.engines.engine

    def put(self, name: str, model: str, **more: object) -> Deployment:
        return self.deployments.create(self.account, name, model_name=model, by="tester", **more)[0]  # pyright: ignore[reportArgumentType]

    async def serve(self, name: str, model: str) -> Deployment:
        self.put(name, model)
        await self.deployments.provision(self.account.id, name)
        return self.deployments.get(self.account.id, name)


def account(number: int) -> Account:
    return Account(f"acc{number}", "sub", "rg", f"name{number}", "local", "OpenAI", f"k1-{number}", f"k2-{number}", NOW)


def entry(name: str, short: str | None, version: str, until: date | None = None) -> CatalogueEntry:
    return CatalogueEntry(name, "weaver", short, version, True, False, NOW, inference_until=until)


CATALOGUE = Catalogue(
    (
        entry("gpt-4o-mini-2024-07-18", "gpt-4o-mini", "2024-07-18"),
        entry("gpt-4-0613", "gpt-4", "0613", date(2026, 11, 20)),
        entry("gpt-4o-2024-08-06", "gpt-4o", "2024-08-06", date(2026, 11, 21)),
    ),
    {"weaver": BaseModel("weaver", "nowhere", 2e-3, 1024, 16, 32)},
)


def seed(store: SqlStore, blobs: Blobs, owner: Account) -> None:
    """A finished job with three deployable checkpoints and an older one that is not."""
    job = Job(
        id=JOB,
        account_id=owner.id,
        status=JobStatus.SUCCEEDED,
        stage=Stage.DONE,
        model="gpt-4o-mini-2024-07-18",
        base="weaver",
        training_file="file-1",
        seed=1,
        asked=Hyperparameters(),
        created_at=NOW,
        estimated_finish=NOW,
    )
    with store.begin() as tx:
        tx.accounts.add(owner)
        tx.jobs.add(job)
        for step, (name, deployable) in enumerate([(EARLIEST, False), (EARLIER, True), (FINAL, True)], 1):
            final = name == FINAL
            suffix = "" if final else f":ckpt-step-{step}"
            key = f"accounts/{owner.id}/adapters/{name}"
            tx.jobs.add_checkpoint(
                Checkpoint(
                    name, JOB, owner.id, step, TUNED + suffix, TUNED_OPENAI + suffix, key, NOW, {}, final, deployable
                )
            )
            blobs.put(f"{key}/adapter_model.safetensors", [name.encode()])
            blobs.put(f"{key}/adapter_config.json", [b"{}"])
        tx.models.add(
            TunedModel(TUNED, TUNED_OPENAI, owner.id, JOB, FINAL, "gpt-4o-mini-2024-07-18", "weaver", "hash", NOW)
        )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("db") / "t.db"
    migrate(f"sqlite:///{path}")
    engine = make_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    return path.read_bytes()


@pytest.fixture
def world(tmp_path: Path, template: bytes):
    (tmp_path / "t.db").write_bytes(template)
    engine = make_engine(f"sqlite:///{tmp_path / 't.db'}")
    store, blobs, engines, clock = SqlStore(engine), open_blobs("memory://"), OneEngine(FakeEngine()), StoppedClock()
    naps: list[float] = []

    async def sleep(seconds: float) -> None:
        naps.append(seconds)

    seed(store, blobs, account(1))
    folder = tmp_path / "adapters"
    deployments = Deployments(
        store, Adapters(blobs, folder), engines, CATALOGUE, clock, sleep=sleep, patience_seconds=60
    )
    yield World(store, blobs, engines, clock, deployments, folder, account(1), naps)
    engine.dispose()


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
def test_every_name_of_a_model_can_be_deployed(world: World, model: str, checkpoint: str | None, served: str) -> None:
    made, created = world.deployments.create(world.account, "d", model_name=model, by="tester")
    assert created
    assert (made.checkpoint_id, made.served_model, made.base) == (checkpoint, served, "weaver")
    assert (made.model_name, made.model_format) == (model, "OpenAI")
    assert made.model_version == ("1" if checkpoint else "2024-07-18")
    assert (made.state, made.created_by) == (ProvisioningState.CREATING, "tester")
    assert world.deployments.get(world.account.id, "D") == made
    assert world.deployments.list(world.account.id) == [made]


@pytest.mark.parametrize("model", ["nothing", EARLIEST, f"{TUNED}:ckpt-step-1", f"{TUNED}x", ""])
def test_an_unknown_or_superseded_model_is_refused_by_name(world: World, model: str) -> None:
    with pytest.raises(InvalidRequest, match=f"Name:{model},") as caught:
        world.put("d", model)
    assert caught.value.code == "DeploymentModelNotSupported"
    assert world.deployments.list(world.account.id) == []


def test_a_model_of_another_account_does_not_exist(world: World) -> None:
    with pytest.raises(InvalidRequest) as caught:
        world.deployments.create(account(2), "d", model_name=TUNED, by="thief")
    assert caught.value.code == "DeploymentModelNotSupported"


def test_a_checkpoint_whose_model_was_deleted_cannot_be_deployed(world: World) -> None:
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
def test_a_wrong_format_or_version_is_refused(world: World, model: str, format_: str, version: str, good: bool) -> None:
    if good:
        assert world.put("d", model, model_format=format_, model_version=version)
        return
    with pytest.raises(InvalidRequest, match=f"Format:{format_},Name:{model},Version:{version}'"):
        world.put("d", model, model_format=format_, model_version=version)


def test_a_retired_base_model_is_refused_from_the_day_after(world: World) -> None:
    assert world.put("last-day", "gpt-4o")
    with pytest.raises(InvalidRequest, match="retired on 2026-11-20") as caught:
        world.put("too-late", "gpt-4")
    assert caught.value.code == "ServiceModelDeprecated"


@pytest.mark.parametrize("sku", SKUS)
def test_skus_are_compared_without_case_and_answered_as_azure_writes_them(world: World, sku: str) -> None:
    assert world.put("d", TUNED, sku_name=sku.upper()).sku_name == sku


def test_az_s_name_of_the_developer_tier_is_understood(world: World) -> None:
    assert world.put("d", TUNED, sku_name="Developer").sku_name == "DeveloperTier"


def test_an_unknown_sku_is_refused_in_azures_words(world: World) -> None:
    with pytest.raises(
        InvalidRequest, match=r"specified SKU 'Premium' of account deployment is not supported"
    ) as error:
        world.put("d", TUNED, sku_name="Premium")
    assert (error.value.param, error.value.code) == ("sku.name", "InvalidResourceProperties")


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_capacity_below_one_is_refused(world: World, capacity: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        world.put("d", TUNED, capacity=capacity)
    assert caught.value.param == "sku.capacity"


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "ä", "x" * 65])
def test_a_name_that_is_none_is_refused(world: World, name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        world.put(name, TUNED)
    assert caught.value.code == "InvalidResourceName"


@pytest.mark.parametrize("second", [TUNED, TUNED_OPENAI, FINAL])
def test_a_second_deployment_of_a_tuned_model_is_refused_and_names_the_first(world: World, second: str) -> None:
    world.put("first", TUNED)
    with pytest.raises(Conflict, match="already served by the deployment 'first'") as caught:
        world.put("second", second)
    assert caught.value.code == "DeploymentAlreadyExists"
    assert [d.name for d in world.deployments.list(world.account.id)] == ["first"]


def test_an_earlier_checkpoint_and_any_number_of_base_deployments_stand_beside_it(world: World) -> None:
    for name, model in (("a", TUNED), ("b", EARLIER), ("c", "gpt-4o-mini"), ("d", "gpt-4o-mini")):
        world.put(name, model)
    assert [d.name for d in world.deployments.list(world.account.id)] == ["a", "b", "c", "d"]


async def test_putting_the_same_again_is_an_update_without_provisioning(world: World) -> None:
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


async def test_putting_another_model_provisions_again(world: World) -> None:
    await world.serve("d", TUNED)
    made, created = world.deployments.create(world.account, "d", model_name=EARLIER, by="tester")
    assert (created, made.state) == (False, ProvisioningState.CREATING)
    with pytest.raises(DeploymentNotFound):
        world.deployments.target(world.account.id, "d")
    await world.deployments.provision(world.account.id, "d")
    assert world.deployments.target(world.account.id, "d").engine_model == EARLIER
    assert world.put("e", TUNED)


def test_another_model_while_creating_has_to_wait(world: World) -> None:
    world.put("d", TUNED)
    with pytest.raises(Conflict, match="still being created") as caught:
        world.put("d", EARLIER)
    assert caught.value.code == "RequestConflict"
    assert world.put("d", TUNED, capacity=7).capacity == 7


def test_a_deployment_being_deleted_cannot_be_put(world: World) -> None:
    world.put("d", TUNED)
    world.deployments.mark_deleting(world.account.id, "d")
    with pytest.raises(Conflict, match="being deleted"):
        world.put("d", TUNED)


# --- provision --------------------------------------------------------------------------------------------------------


async def test_provisioning_loads_the_adapter_from_the_blobs_and_succeeds(world: World) -> None:
    done = await world.serve("d", TUNED)
    assert (done.state, done.failure) == (ProvisioningState.SUCCEEDED, None)
    folder = world.engine.loaded[FINAL]
    assert folder == world.folder / FINAL
    assert (folder / "adapter_model.safetensors").read_text() == FINAL
    assert world.naps == []


async def test_provisioning_a_base_model_waits_for_its_engine_only(world: World) -> None:
    world.engine.down = 2
    assert (await world.serve("d", "gpt-4o-mini")).state is ProvisioningState.SUCCEEDED
    assert len(world.naps) == 2
    assert world.engine.loads == 0


async def test_an_engine_that_comes_back_gets_the_adapter_and_pauses_grow(world: World) -> None:
    world.engine.down = 6
    assert (await world.serve("d", TUNED)).state is ProvisioningState.SUCCEEDED
    assert world.naps == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0]


async def test_an_engine_that_stays_away_fails_the_deployment_and_a_second_put_mends_it(world: World) -> None:
    world.engine.down = 1000
    failed = await world.serve("d", TUNED)
    assert failed.state is ProvisioningState.FAILED
    assert failed.failure is not None
    assert "could not be reached for 60 seconds" in failed.failure
    assert 60 <= sum(world.naps) <= 70
    world.engine.down = 0
    mended = await world.serve("d", TUNED)
    assert (mended.state, mended.failure) == (ProvisioningState.SUCCEEDED, None)


async def test_a_base_without_an_engine_fails_too(world: World) -> None:
    world.engines.configured = False
    assert (await world.serve("d", "gpt-4o-mini")).state is ProvisioningState.FAILED


async def test_a_refused_adapter_fails_at_once_with_the_engines_reason(world: World) -> None:
    world.engine.refusal = "rank 512 is above 64"
    failed = await world.serve("d", TUNED)
    assert failed.failure == "The engine refused the adapter: rank 512 is above 64"
    assert world.naps == []


async def test_missing_weights_fail_at_once(world: World) -> None:
    for key in world.blobs.list(f"accounts/acc1/adapters/{FINAL}"):
        world.blobs.delete(key)
    failed = await world.serve("d", TUNED)
    assert failed.failure is not None
    assert "not in the blob store" in failed.failure


async def test_provisioning_twice_is_provisioning_once(world: World) -> None:
    world.put("d", TUNED)
    await asyncio.gather(*(world.deployments.provision(world.account.id, "d") for _ in range(3)))
    before = world.deployments.get(world.account.id, "d")
    await world.deployments.provision(world.account.id, "d")
    await world.deployments.provision(world.account.id, "missing")
    assert world.deployments.get(world.account.id, "d") == before
    assert before.state is ProvisioningState.SUCCEEDED


async def test_a_deployment_deleted_while_it_is_provisioned_stays_deleted(world: World) -> None:
    world.put("d", TUNED)

    async def delete_meanwhile(_seconds: float) -> None:
        world.engine.down = 0
        await world.deployments.delete(world.account.id, "d")

    world.engine.down = 1
    world.deployments._sleep = delete_meanwhile
    await world.deployments.provision(world.account.id, "d")
    assert world.deployments.list(world.account.id) == []
    assert world.engine.loaded == {}


async def test_a_name_given_to_another_model_while_the_first_loads_ends_with_the_other(world: World) -> None:
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


async def test_of_two_deployments_made_at_once_by_two_servers_the_later_gives_way(world: World) -> None:
    first = world.put("first", TUNED)
    with world.store.begin() as tx:  # what the other server wrote before it could see ours
        tx.deployments.add(replace(first, name="second"))
    for name in ("second", "first"):
        await world.deployments.provision(world.account.id, name)
    states = {d.name: d.state for d in world.deployments.list(world.account.id)}
    assert states == {"first": ProvisioningState.SUCCEEDED, "second": ProvisioningState.FAILED}


async def test_a_restarted_server_finishes_what_was_begun(world: World) -> None:
    world.put("creating", TUNED)
    world.put("deleting", EARLIER)
    world.deployments.mark_deleting(world.account.id, "deleting")
    await world.deployments.resume_unfinished()
    assert [(d.name, d.state) for d in world.deployments.list(world.account.id)] == [
        ("creating", ProvisioningState.SUCCEEDED)
    ]


# --- delete -----------------------------------------------------------------------------------------------------------


async def test_deleting_unloads_the_adapter_and_frees_the_model(world: World) -> None:
    await world.serve("d", TUNED)
    assert await world.deployments.delete(world.account.id, "D")
    assert world.engine.loaded == {}
    with pytest.raises(NotFound, match="deployments/d' was not found"):
        world.deployments.get(world.account.id, "d")
    assert (await world.serve("again", TUNED)).state is ProvisioningState.SUCCEEDED


async def test_deleting_works_while_the_engine_is_down(world: World) -> None:
    await world.serve("d", TUNED)
    world.engine.down = 1
    assert await world.deployments.delete(world.account.id, "d")
    world.put("e", EARLIER)
    world.engines.configured = False
    assert await world.deployments.delete(world.account.id, "e")
    assert world.deployments.list(world.account.id) == []


async def test_deleting_what_is_not_there_says_so(world: World) -> None:
    assert not await world.deployments.delete(world.account.id, "d")
    assert world.deployments.mark_deleting(world.account.id, "d") is None


async def test_a_deployment_of_the_same_name_made_since_is_not_removed(world: World) -> None:
    await world.serve("d", TUNED)
    seen = world.deployments.mark_deleting(world.account.id, "d")
    assert seen is not None
    await world.deployments.delete(world.account.id, "d")
    world.clock.moment += timedelta(seconds=1)
    world.put("d", TUNED)
    world.deployments._remove(seen)
    assert world.deployments.get(world.account.id, "d").state is ProvisioningState.CREATING


# --- targets ----------------------------------------------------------------------------------------------------------


async def test_a_target_says_where_a_request_goes_and_what_the_answer_is_called(world: World) -> None:
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
def test_a_deployment_that_is_not_ready_does_not_exist_for_chat(world: World, state: ProvisioningState) -> None:
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
    world: World, name: str, engine_model: str, served: str
) -> None:
    target = world.deployments.target_of_model(world.account.id, name)
    assert (target.engine_model, target.served_model, target.deployment) == (engine_model, served, None)
    assert target.catalogue_name == "gpt-4o-mini-2024-07-18"


@pytest.mark.parametrize("name", ["nothing", EARLIEST])
def test_an_unknown_model_has_openais_text(world: World, name: str) -> None:
    with pytest.raises(ModelNotFound, match=f"The model `{name}` does not exist or you do not have access to it"):
        world.deployments.target_of_model(world.account.id, name)


async def test_without_an_engine_a_target_is_unavailable(world: World) -> None:
    await world.serve("d", "gpt-4o-mini")
    world.engines.configured = False
    for ask in (
        lambda: world.deployments.target(world.account.id, "d"),
        lambda: world.deployments.target_of_model(world.account.id, "gpt-4o-mini"),
    ):
        with pytest.raises(Unavailable):
            ask()


async def test_an_adapter_the_engine_lost_is_loaded_again_even_without_its_folder(world: World) -> None:
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
    world: World, spoil: Callable[[World], object], raised: type[ServiceError]
) -> None:
    target = world.deployments.target_of_model(world.account.id, TUNED)
    spoil(world)
    with pytest.raises(raised):
        await world.deployments.ensure_loaded(target)


def test_use_is_remembered(world: World) -> None:
    world.put("d", TUNED)
    world.clock.moment += timedelta(minutes=5)
    world.deployments.touch(world.account.id, "D")
    assert world.deployments.get(world.account.id, "d").last_used_at == world.clock.moment
