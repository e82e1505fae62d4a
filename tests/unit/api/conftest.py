"""A live server over a real store (SQLite) and memory blobs; only the engine is ours to script."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import uvicorn
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tailorbird.api.app import Addresses, Services, create_app
from tailorbird.api.listen import bind
from tailorbird.domain.access import Account
from tailorbird.domain.safety import Category, Scores, Severity, Thresholds
from tailorbird.infra.blobs import ObstoreBlobs, open_blobs
from tailorbird.infra.journal import FileJournals
from tailorbird.infra.sandbox import Bubblewrap
from tailorbird.infra.schema import make_engine, migrate
from tailorbird.infra.store import SqlStore
from tailorbird.infra.web import HttpWeb
from tailorbird.protocol.generation import (
    EmbeddingRequest,
    Embeddings,
    Generation,
    GenerationChoice,
    GenerationChunk,
    GenerationRequest,
    TokenLogprob,
    TopLogprob,
)
from tailorbird.service.access import Access
from tailorbird.service.adapters import Adapters
from tailorbird.service.asking import ChatAsker
from tailorbird.service.audit import Audit
from tailorbird.service.chat import Chat
from tailorbird.service.completions import StoredCompletions
from tailorbird.service.copies import Copies
from tailorbird.service.deployments import Deployments
from tailorbird.service.embeddings import Embedder
from tailorbird.service.evals import Evals
from tailorbird.service.evals.running import EvalRuns
from tailorbird.service.files import Files
from tailorbird.service.filtering import ContentFilter
from tailorbird.service.graders import Graders
from tailorbird.service.imports import Imports
from tailorbird.service.inference import Inference
from tailorbird.service.jobs import Jobs
from tailorbird.service.models import Catalogue, Models, load_catalogue
from tailorbird.service.ports import AdapterUnknown, EngineDown, ModeratorDown
from tailorbird.service.previews import Previews
from tailorbird.service.prompts import Prompts
from tailorbird.service.rates import Rates
from tailorbird.service.sharing import Sharing
from tailorbird.service.uploads import Uploads
from tailorbird.service.usage import Cost
from tailorbird.service.usage.budgets import Budgets
from tailorbird.service.usage.estimates import Estimator
from tailorbird.service.usage.hosting import HostingMeter
from tailorbird.service.usage.prices import load_prices
from tailorbird.service.usage.reports import Reports
from tailorbird.service.usage.tariff import Tariff
from tailorbird.service.usage.tokens import TokenMeter

PRICES = Path(__file__).parents[3] / "src" / "tailorbird" / "prices.toml"
MAX_BYTES = 1_000_000
MAX_PART_BYTES = 400_000
CONTEXT = 256

TEMPLATE = (
    "{% if tools %}<|system|>Tools:{% for tool in tools %} {{ tool.function.name }}{% endfor %}<|end|>{% endif %}"
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}"
    "{% for call in message.tool_calls or [] %}"
    '<|call|>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}<|/call|>'
    "{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIALS = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>", "<|call|>", "<|/call|>")

CATALOGUE = """
[base.tiny]
folder = "tiny"
max_tokens = 256
learning_rate = 1e-3

[model."gpt-4o-mini-2024-07-18"]
base = "tiny"
short = "gpt-4o-mini"
version = "2024-07-18"
inference_until = 2099-01-01
fine_tune_until = 2098-01-01

[model."babbage-002"]
base = "tiny"
chat = false

[model."text-embedding-3-small"]
base = "tiny"
chat = false
embeddings = true
"""


def write_base(folder: Path) -> None:
    """A byte-level tokenizer (one token a byte) with a chat template, in Hugging Face's format."""
    folder.mkdir(parents=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIALS])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>", "chat_template": TEMPLATE}))


@dataclass
class ScriptedEngine:
    """Says `reply`, one token a character; keeps what it was asked."""

    tokenizer: Tokenizer
    reply: str = "Hello there!"
    replies: dict[int, tuple[str, float]] = field(default_factory=dict[int, tuple[str, float]])
    """By choice, a text and the log-probability of each of its tokens."""
    asked: list[GenerationRequest] = field(default_factory=list[GenerationRequest])
    embedded: list[EmbeddingRequest] = field(default_factory=list[EmbeddingRequest])
    loaded: set[str] = field(default_factory=lambda: {"tiny"})
    failure: Exception | None = None
    break_after: int | None = None
    pause: float = 0.0
    closed: int = 0
    cancelled: int = 0

    async def complete(self, request: GenerationRequest) -> Generation:
        self._accept(request)
        await self._sleep()
        if self.replies:
            return self._scripted(request)
        tokens = self._tokens(request)
        reason = "length" if len(tokens) == request.max_tokens else "stop"
        choices = [
            GenerationChoice(index, self.tokenizer.decode(tokens), tokens, reason, self._logprobs(tokens, request))
            for index in range(request.n)
        ]
        scored = [None, *[-0.25] * (len(request.prompt) - 1)] if request.score_prompt else None
        return Generation(choices, len(request.prompt), len(tokens) * request.n, scored)

    async def stream(self, request: GenerationRequest) -> AsyncIterator[GenerationChunk]:
        self._accept(request)
        tokens = self._tokens(request)
        try:
            for place, index in itertools.product(range(len(tokens)), range(request.n)):
                await self._sleep()
                if place == self.break_after:
                    raise EngineDown("the wire was cut")
                reason = "stop" if place == len(tokens) - 1 else None
                one = [tokens[place]]
                yield GenerationChunk(index, self.tokenizer.decode(one), one, self._logprobs(one, request), reason)
        finally:
            self.closed += 1

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Of length 1, and told apart by the number of tokens."""
        self.embedded.append(request)
        if self.failure is not None:
            raise self.failure
        vectors = [[0.6, 0.8 if len(ids) % 2 else -0.8, 0.0, 0.0] for ids in request.inputs]
        return Embeddings(vectors, sum(map(len, request.inputs)))

    async def load_adapter(self, name: str, folder: Path) -> None:
        self.loaded.add(name)

    async def unload_adapter(self, name: str) -> None:
        self.loaded.discard(name)

    async def ready(self) -> bool:
        return self.failure is None

    def of(self, base: str) -> ScriptedEngine:
        return self

    async def _sleep(self) -> None:
        try:
            await asyncio.sleep(self.pause)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def _accept(self, request: GenerationRequest) -> None:
        self.asked.append(request)
        if self.failure is not None:
            raise self.failure
        if request.model not in self.loaded:
            raise AdapterUnknown(request.model)

    def _tokens(self, request: GenerationRequest) -> list[int]:
        return self.tokenizer.encode(self.reply).ids[: request.max_tokens]

    def _scripted(self, request: GenerationRequest) -> Generation:
        choices: list[GenerationChoice] = []
        for index in range(request.n):
            text, logprob = self.replies[index]
            tokens = self.tokenizer.encode(text).ids
            scores = None if request.top_logprobs is None else [TokenLogprob(token, logprob) for token in tokens]
            choices.append(GenerationChoice(index, text, tokens, "stop", scores))
        return Generation(choices, len(request.prompt), sum(len(choice.token_ids) for choice in choices))

    def _logprobs(self, tokens: list[int], request: GenerationRequest) -> list[TokenLogprob] | None:
        if request.top_logprobs is None:
            return None
        others = [TopLogprob(other, -1.0 - other) for other in range(request.top_logprobs)]
        return [TokenLogprob(token, -0.5, others) for token in tokens]


class WordModerator:
    """Finds `violence` where a text says "forbidden", low where it says "rude"; is down where it says "outage"."""

    async def score(self, texts: Sequence[str]) -> list[Scores]:
        if any("outage" in text for text in texts):
            raise ModeratorDown("gone")
        safe = dict.fromkeys(Category, Severity.SAFE)
        found = ((Severity.HIGH, "forbidden"), (Severity.LOW, "rude"), (Severity.SAFE, ""))
        return [safe | {Category.VIOLENCE: next(s for s, word in found if word in text)} for text in texts]


class WallClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass
class World:
    """Everything behind one running server."""

    url: str
    services: Services
    store: SqlStore
    blobs: ObstoreBlobs
    engine: ScriptedEngine
    catalogue: Catalogue

    def new_account(self) -> Account:
        name = f"a{uuid.uuid4().hex[:8]}"
        account = Account(
            uuid.uuid4().hex,
            "sub",
            "rg",
            name,
            "local",
            "OpenAI",
            uuid.uuid4().hex,
            uuid.uuid4().hex,
            datetime.now(UTC),
        )
        with self.store.begin() as tx:
            tx.accounts.add(account)
        return account


def build_services(
    folder: Path, store: SqlStore, blobs: ObstoreBlobs, engine: ScriptedEngine
) -> tuple[Services, Catalogue]:
    (folder / "catalog.toml").write_text(CATALOGUE)
    catalogue = load_catalogue(folder / "catalog.toml")
    clock = WallClock()

    def new_hex() -> str:
        return uuid.uuid4().hex

    prices = load_prices(PRICES)
    deployments = Deployments(store, Adapters(blobs, folder / "adapters"), engine, catalogue, clock, prices=prices)
    jobs = Jobs(store, catalogue, clock, new_hex, 20, prices=prices)
    cost = Cost(
        tokens=TokenMeter(store, prices, FileJournals(folder / "usage"), clock),
        hosting=HostingMeter(store, prices, clock),
        budgets=Budgets(store, prices, clock),
        estimator=Estimator(store, blobs, catalogue, jobs.draft, prices),
        reports=Reports(store, prices),
        tariff=Tariff(catalogue, prices),
        deployments=deployments,
        charge_seconds=0.05,
    )
    access = Access(store, clock, new_hex)
    files = Files(store, blobs, clock, new_hex, MAX_BYTES)
    web = HttpWeb(private=True)
    models = Models(store, blobs, catalogue, clock)
    content = ContentFilter(store, WordModerator(), Thresholds.parse("medium"))
    inference = Inference(catalogue, deployments, Rates(clock), clock, new_hex, cost.tokens, content)
    stored = StoredCompletions(store)
    chat = Chat(inference, stored)
    asker = ChatAsker(chat)
    graders = Graders(asker, Bubblewrap(allowed=False))
    services = Services(
        access=access,
        audit=Audit(store),
        files=files,
        imports=Imports(store, blobs, clock, new_hex, files, web, pause=lambda seconds: None),
        previews=Previews(files, models, catalogue),
        uploads=Uploads(store, blobs, clock, new_hex, files, MAX_BYTES, max_part_bytes=MAX_PART_BYTES),
        jobs=jobs,
        cost=cost,
        models=models,
        deployments=deployments,
        chat=chat,
        prompts=Prompts(inference),
        embedder=Embedder(inference),
        stored=stored,
        graders=graders,
        evals=Evals(store, graders, clock, new_hex),
        eval_runs=EvalRuns(store, blobs, graders, asker, clock),
        sharing=Sharing(
            store, access, Copies(store, Adapters(blobs, folder / "adapters"), catalogue, clock), models, clock
        ),
        addresses=Addresses("http://data.test", "https://control.test"),
    )
    return services, catalogue


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    write_base(folder / "tiny")
    url = f"sqlite:///{folder / 'test.db'}"
    migrate(url)
    sql = make_engine(url)
    store, blobs = SqlStore(sql), open_blobs("memory://")
    engine = ScriptedEngine(Tokenizer.from_file(str(folder / "tiny" / "tokenizer.json")))
    services, catalogue = build_services(folder, store, blobs, engine)
    with live(create_app(services)) as address:
        yield World(address, services, store, blobs, engine, catalogue)
    sql.dispose()


class live:  # noqa: N801 - used as a with-statement's word
    """The app on a free port, in a thread of its own."""

    def __init__(self, app: object) -> None:
        self._socket = bind("127.0.0.1", 0)
        config = uvicorn.Config(cast(Any, app), loop="asyncio", http="h11", log_level="warning", access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __exit__(self, *exc: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()


@pytest.fixture
def account(world: World) -> Account:
    """A fresh account, so that tests share a server and nothing else."""
    return world.new_account()


@pytest.fixture
def engine(world: World) -> Iterator[ScriptedEngine]:
    """The engine as it came, whatever the test before made of it."""
    fresh = ScriptedEngine(world.engine.tokenizer)
    for name in (f.name for f in dataclasses.fields(fresh)):
        setattr(world.engine, name, getattr(fresh, name))
    yield world.engine
    for name in (f.name for f in dataclasses.fields(fresh)):
        setattr(world.engine, name, getattr(ScriptedEngine(fresh.tokenizer), name))


SURFACES = {
    "azure": "/openai",
    "azure-v1": "/openai/v1",
    "azure-project": "/api/projects/p1/openai/v1",
    "openai": "/v1",
}


@dataclass
class Caller:
    """Raw HTTP on one surface."""

    surface: str
    http: httpx.Client
    key: str

    @property
    def is_openai(self) -> bool:
        return self.surface == "openai"

    def __call__(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> httpx.Response:
        query = dict(params or {})
        if self.surface == "azure":
            query.setdefault("api-version", "2024-10-21")
        sent = {"api-key": self.key} | (headers or {})
        return self.http.request(method, SURFACES[self.surface] + path, params=query, headers=sent, **options)


@pytest.fixture(scope="session")
def http(world: World) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=world.url, timeout=20, verify=False) as client:
        yield client


@pytest.fixture
def on(http: httpx.Client, account: Account) -> Callable[[str], Caller]:
    """`on("azure")("GET", "/files")`: a request with the account's key."""
    return lambda surface: Caller(surface, http, account.key1)


@pytest.fixture(params=list(SURFACES))
def call(request: pytest.FixtureRequest, on: Callable[[str], Caller]) -> Caller:
    """The same test on every surface."""
    return on(request.param)


@pytest.fixture
def chat_lines() -> Callable[[int], bytes]:
    def lines(count: int) -> bytes:
        rows = [
            {"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}]}
            for n in range(count)
        ]
        return b"".join(json.dumps(row).encode() + b"\n" for row in rows)

    return lines


@pytest.fixture
def deployed(world: World, account: Account) -> Iterator[str]:
    """A deployment of the plain chat model, ready; gone afterwards, as all tests share one subscription's quota."""
    name = "dep"
    world.services.deployments.create(account, name, model_name="gpt-4o-mini", by="test")
    asyncio.run(world.services.deployments.provision(account.id, name))
    yield name
    asyncio.run(world.services.deployments.delete(account.id, name))
