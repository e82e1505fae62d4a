"""The whole server over https on a free port: real stores, a certificate of the local authority, a fake engine."""

from __future__ import annotations

import dataclasses
import json
import threading
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import requests
import uvicorn
from tokenizers import Tokenizer
from tokenizers import models as token_models

from tailorbird import wiring
from tailorbird.api.app import Addresses, create_app
from tailorbird.api.listen import bind
from tailorbird.domain.access import Account
from tailorbird.domain.deployments import Limits
from tailorbird.domain.jobs import Checkpoint, Hyperparameters, Job, JobStatus, Stage
from tailorbird.domain.models import TunedModel
from tailorbird.infra.blobs import open_blobs
from tailorbird.infra.certificates import Certificates, ensure_certificates
from tailorbird.infra.store import SqlStore
from tailorbird.protocol.generation import (
    EmbeddingRequest,
    Embeddings,
    Generation,
    GenerationChunk,
    GenerationRequest,
)
from tailorbird.service.access import Access, Credentials
from tailorbird.service.adapters import Adapters
from tailorbird.service.deployments import Deployments
from tailorbird.service.ports import Blobs, Engine, EngineDown, EngineRefused
from tailorbird.settings import Settings

BASE = "gpt-4o-mini-2024-07-18"


@dataclass
class FakeEngine:
    """While `hold` is set it is not there; `refusal` makes it refuse adapters."""

    loaded: dict[str, Path] = field(default_factory=dict[str, Path])
    refusal: str | None = None
    hold: bool = False

    async def load_adapter(self, name: str, folder: Path) -> None:
        if self.hold:
            raise EngineDown("still starting")
        if self.refusal is not None:
            raise EngineRefused(self.refusal)
        self.loaded[name] = folder

    async def unload_adapter(self, name: str) -> None:
        self.loaded.pop(name, None)

    async def ready(self) -> bool:
        return not self.hold

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        raise AssertionError("the control plane never asks for vectors")

    async def complete(self, request: GenerationRequest) -> Generation:
        raise AssertionError("the control plane never asks for text")

    def stream(self, request: GenerationRequest) -> AsyncIterator[GenerationChunk]:
        raise AssertionError("the control plane never asks for text")


@dataclass
class OneEngine:
    engine: FakeEngine

    def of(self, base: str) -> Engine:
        return self.engine


@dataclass
class Cloud:
    """A running installation and a client for it; `url` is the control plane."""

    url: str
    certificates: Certificates
    credentials: Credentials
    access: Access
    store: SqlStore
    blobs: Blobs
    engine: FakeEngine
    session: requests.Session
    template_hash: str
    deployments: Deployments

    @property
    def account(self) -> Account:
        return self.credentials.account

    def token(self, scope: str = "https://management.azure.com/.default") -> str:
        assert self.credentials.client_secret is not None
        return self.access.logins.by_secret(
            self.credentials.client_id, self.credentials.client_secret, [scope], authority=self.url
        ).access_token

    def call(self, method: str, path: str, *, token: str | None = None, **more: Any) -> requests.Response:
        """With a good token unless told otherwise; "" sends none."""
        bearer = self.token() if token is None else token
        headers = {**({"Authorization": f"Bearer {bearer}"} if bearer else {}), **more.pop("headers", {})}
        url = path if path.startswith("https://") else self.url + path
        params = None if "api-version" in url else {"api-version": "2024-10-01"}
        return self.session.request(method, url, params=params, headers=headers, timeout=10, **more)

    def path(self, rest: str = "") -> str:
        return self.account.resource_id + rest

    def tuned(self) -> TunedModel:
        """A finished job with a fine-tuned model nobody has deployed."""
        code = uuid.uuid4().hex
        now, key = datetime.now(UTC), f"accounts/{self.account.id}/adapters/{code}"
        job = Job(
            f"ftjob-{code}", self.account.id, JobStatus.SUCCEEDED, Stage.DONE, BASE, "weaver", "file-1", 1,
            Hyperparameters(), now, now,
        )  # fmt: skip
        model = TunedModel(
            f"{BASE}.ft-{code}", f"ft:{BASE}:org::{code[:8]}", self.account.id, job.id, f"ftchkpt-{code}", BASE,
            "weaver", self.template_hash, now,
        )  # fmt: skip
        with self.store.begin() as tx:
            tx.jobs.add(job)
            tx.jobs.add_checkpoint(
                Checkpoint(model.checkpoint_id, job.id, self.account.id, 9, model.name, model.openai_name, key, now,
                           final=True, deployable=True)
            )  # fmt: skip
            tx.models.add(model)
        self.blobs.put(f"{key}/adapter_config.json", [b"{}"])
        return model

    def settled(self, name: str) -> dict[str, Any]:
        """The deployment once it is no longer `Creating`."""
        end = monotonic() + 10
        while monotonic() < end:
            shown: dict[str, Any] = self.call("GET", self.path(f"/deployments/{name}")).json()
            if shown["properties"]["provisioningState"] != "Creating":
                return shown
            sleep(0.02)
        raise AssertionError(f"{name} is still Creating after ten seconds")


def write_catalogue(folder: Path) -> Path:
    """The smallest base model with a chat template, under one name."""
    (folder / "weaver").mkdir()
    Tokenizer(token_models.BPE(vocab={"a": 0}, merges=[])).save(str(folder / "weaver" / "tokenizer.json"))
    config = {"eos_token": "a", "chat_template": "{{ messages }}"}
    (folder / "weaver" / "tokenizer_config.json").write_text(json.dumps(config))
    path = folder / "catalog.toml"
    path.write_text(
        '[base.weaver]\nfolder = "weaver"\nmax_tokens = 1024\nlearning_rate = 2e-3\n'
        f'[model."{BASE}"]\nbase = "weaver"\nshort = "gpt-4o-mini"\nversion = "2024-07-18"\n'
        "fine_tune_until = 2098-01-01\ninference_until = 2099-01-01\n"
    )
    return path


@pytest.fixture(scope="package")
def cloud(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("cloud")
    settings = Settings(data_dir=str(folder), catalog=str(write_catalogue(folder)))
    wiring.migrate_database(settings)
    catalogue = wiring.build_catalogue(settings)
    store, blobs, engine = wiring.build_store(settings), open_blobs("memory://"), FakeEngine()
    certificates = ensure_certificates(folder / "tls", "localhost")
    listener = bind("127.0.0.1", 0)
    url = f"https://localhost:{listener.getsockname()[1]}"
    deployments = Deployments(
        store,
        Adapters(blobs, folder / "adapters"),
        OneEngine(engine),
        catalogue,
        wiring.SystemClock(),
        limits=Limits(standard_deployments=10_000, tuned_deployments=10_000, quota=10_000),
    )
    wired = wiring.build_services(settings, Addresses("http://localhost:1", url))
    services = dataclasses.replace(wired, deployments=deployments, sweeps=())
    access = services.access
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(services),
            loop="asyncio",
            http="h11",
            log_config=None,
            ssl_certfile=str(certificates.cert),
            ssl_keyfile=str(certificates.key),
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    with requests.Session() as session:
        # A bundle or proxy named in the environment would win over what the test says.
        session.trust_env = False
        session.verify = str(certificates.bundle)
        yield Cloud(
            url,
            certificates,
            access.first_run(),
            access,
            store,
            blobs,
            engine,
            session,
            catalogue.renderer("weaver").template_hash,
            deployments,
        )
    server.should_exit = True
    thread.join(10)
