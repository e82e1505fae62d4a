"""Deployments on a real store (SQLite) and real blobs in memory, with a fake engine of ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from tailorbird.domain.access import Account
from tailorbird.domain.deployments import Deployment, Limits
from tailorbird.domain.jobs import Checkpoint, Hyperparameters, Job, JobStatus, Stage
from tailorbird.domain.models import BaseModel, CatalogueEntry, TunedModel
from tailorbird.infra.blobs import open_blobs
from tailorbird.infra.schema import make_engine, migrate
from tailorbird.infra.store import SqlStore
from tailorbird.protocol.generation import (
    EmbeddingRequest,
    Embeddings,
    Generation,
    GenerationChunk,
    GenerationRequest,
)
from tailorbird.service.adapters import Adapters
from tailorbird.service.deployments import Deployments
from tailorbird.service.models import Catalogue
from tailorbird.service.ports import Blobs, Engine, EngineDown, EngineRefused

LIMITS = Limits(standard_deployments=6, tuned_deployments=2, quota=100)
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

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        raise AssertionError("deployments never ask for vectors")

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
    catalogue: Catalogue

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


def write_base(folder: Path, template: str) -> None:
    """The smallest base model with a chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    Tokenizer(models.BPE(vocab={"a": 0}, merges=[])).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "a", "chat_template": template}))


def catalogue_of(folder: Path) -> Catalogue:
    return Catalogue(
        (
            entry("gpt-4o-mini-2024-07-18", "gpt-4o-mini", "2024-07-18"),
            entry("gpt-4-0613", "gpt-4", "0613", date(2026, 11, 20)),
            entry("gpt-4o-2024-08-06", "gpt-4o", "2024-08-06", date(2026, 11, 21)),
        ),
        {"weaver": BaseModel("weaver", str(folder), 2e-3, 1024, 16, 32)},
    )


def seed(store: SqlStore, blobs: Blobs, owner: Account, template_hash: str) -> None:
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
            TunedModel(
                TUNED, TUNED_OPENAI, owner.id, JOB, FINAL, "gpt-4o-mini-2024-07-18", "weaver", template_hash, NOW
            )
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

    write_base(tmp_path / "weaver", "{{ messages }}")
    catalogue = catalogue_of(tmp_path / "weaver")
    seed(store, blobs, account(1), catalogue.renderer("weaver").template_hash)
    folder = tmp_path / "adapters"
    deployments = Deployments(
        store, Adapters(blobs, folder), engines, catalogue, clock, limits=LIMITS, sleep=sleep, patience_seconds=60
    )
    yield World(store, blobs, engines, clock, deployments, folder, account(1), naps, catalogue)
    engine.dispose()
