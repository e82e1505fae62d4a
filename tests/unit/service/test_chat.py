from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from tailorbird.domain.errors import DeploymentNotFound, InvalidRequest, ModelNotFound, Unavailable
from tailorbird.domain.models import BaseModel, CatalogueEntry
from tailorbird.domain.pricing import PriceList
from tailorbird.infra.journal import FileJournals
from tailorbird.protocol.generation import Generation, GenerationChoice, GenerationChunk, GenerationRequest
from tailorbird.service.answers import ChatAsk, CompletionAsk, Delta, Sampling, Usage
from tailorbird.service.chat import Chat
from tailorbird.service.deployments import Deployments, Target
from tailorbird.service.inference import Inference
from tailorbird.service.models import Catalogue
from tailorbird.service.ports import AdapterUnknown, EngineDown
from tailorbird.service.prompts import Prompts
from tailorbird.service.rates import Rates
from tailorbird.service.usage.tokens import TokenMeter

AT = datetime(2026, 11, 20, tzinfo=UTC)


class StoppedClock:
    def now(self) -> datetime:
        return AT


class LetterRenderer:
    """One token a character; every message is its first letter and its content."""

    vocab_size = 128
    template_hash = "0123456789abcdef"
    stop_token_ids = (1, 2)
    eos_token_ids = (1,)

    def render_chat(self, messages: list[dict[str, Any]], *, tools: None, add_generation_prompt: bool) -> list[int]:
        assert add_generation_prompt
        assert tools is None
        return [ord(char) for message in messages for char in message["role"][0] + message["content"]]

    def encode_completion_prompt(self, text: str) -> list[int]:
        return [ord(char) for char in text]

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


@dataclass
class CountingEngine:
    """Answers "ok"; `lost` requests meet a missing adapter first, a prompt with `bad` in it breaks the engine."""

    lost: int = 0
    asked: list[GenerationRequest] = field(default_factory=list[GenerationRequest])
    running: int = 0
    closed: int = 0

    async def complete(self, request: GenerationRequest) -> Generation:
        self._count(request)
        self.running += 1
        try:
            if request.prompt == [ord("!")]:
                raise EngineDown("broken")
            await asyncio.sleep(5 if request.prompt == [ord("z")] else 0)
        finally:
            self.running -= 1
        choices = [GenerationChoice(i, "ok", [111, 107], "stop") for i in reversed(range(request.n))]
        return Generation(choices, len(request.prompt), 2 * request.n)

    async def stream(self, request: GenerationRequest) -> AsyncIterator[GenerationChunk]:
        self._count(request)
        try:
            for token in (111, 107):
                yield GenerationChunk(0, chr(token), [token], None, "stop" if token == 107 else None)
        finally:
            self.closed += 1

    def _count(self, request: GenerationRequest) -> None:
        self.asked.append(request)
        if self.lost:
            self.lost -= 1
            raise AdapterUnknown(request.model)


@dataclass
class OneDeployment:
    """Knows the deployment `dep` and the model `tuned`, both of an adapter."""

    engine: CountingEngine
    loads: int = 0
    touched: list[str] = field(default_factory=list[str])

    def target(self, account_id: str, name: str) -> Target:
        if name != "dep":
            raise DeploymentNotFound("no such deployment")
        return self._target("azure-name")

    def target_of_model(self, account_id: str, model_name: str) -> Target:
        if model_name != "tuned":
            raise ModelNotFound("no such model")
        return self._target("openai-name")

    async def ensure_loaded(self, target: Target) -> None:
        self.loads += 1

    def touch(self, account_id: str, name: str) -> None:
        self.touched.append(name)

    def _target(self, served: str) -> Target:
        return Target(cast(Any, self.engine), "ckpt", "base", served, None, "acc", "ckpt", "both")


@pytest.fixture
def engine() -> CountingEngine:
    return CountingEngine()


@pytest.fixture
def deployments(engine: CountingEngine) -> OneDeployment:
    return OneDeployment(engine)


@pytest.fixture
def inference(deployments: OneDeployment, tmp_path: Path) -> Inference:
    entry = CatalogueEntry("both", "base", None, "1", True, True, AT)
    catalogue = Catalogue((entry,), {"base": BaseModel("base", str(tmp_path), 1e-3, 20, 8, 16)})
    catalogue._renderers["base"] = cast(Any, LetterRenderer())
    clock = StoppedClock()
    # Nothing is charged here, so there is no store to charge it in.
    meter = TokenMeter(cast(Any, None), PriceList(), FileJournals(tmp_path / "usage"), clock)
    return Inference(catalogue, cast(Deployments, deployments), Rates(clock), clock, lambda: "f" * 32, meter)


@pytest.fixture
def chat(inference: Inference) -> Chat:
    return Chat(inference, cast(Any, None))


@pytest.fixture
def prompts(inference: Inference) -> Prompts:
    return Prompts(inference)


def ask(text: str = "Hi", **fields: Any) -> ChatAsk:
    return ChatAsk("dep", [{"role": "user", "content": text}], Sampling(), **fields)


async def test_a_chat_is_rendered_asked_and_counted(chat, engine):
    answer = await chat.chat("acc", ask(), direct_models=False)
    assert engine.asked[0].prompt == [ord(char) for char in "uHi"]
    assert engine.asked[0].model == "ckpt"
    assert engine.asked[0].stop_token_ids == [1, 2]
    assert (answer.choices[0].text, answer.head.model, answer.head.created_at) == ("ok", "azure-name", AT)
    assert answer.usage == Usage(3, 2)
    assert answer.head.fingerprint == "fp_0123456789"


async def test_choices_are_put_in_order(prompts):
    answer = await prompts.complete("acc", CompletionAsk("dep", ["a", "b"], Sampling(n=2)), direct_models=False)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]


async def test_a_model_s_own_name_works_only_where_the_surface_allows_it(chat):
    by_name = ChatAsk("tuned", [{"role": "user", "content": "x"}], Sampling())
    assert (await chat.chat("acc", by_name, direct_models=True)).head.model == "openai-name"
    with pytest.raises(DeploymentNotFound):
        await chat.chat("acc", by_name, direct_models=False)
    with pytest.raises(ModelNotFound):
        await chat.chat("acc", ChatAsk("none", [], Sampling()), direct_models=True)


async def test_a_lost_adapter_is_loaded_once_and_asked_again(chat, engine, deployments):
    engine.lost = 1
    assert (await chat.chat("acc", ask(), direct_models=False)).choices[0].text == "ok"
    assert (deployments.loads, len(engine.asked)) == (1, 2)
    engine.lost = 1
    stream = await chat.stream_chat("acc", ask(), direct_models=False)
    assert [part async for part in stream.parts][-1] == Usage(3, 2)
    assert deployments.loads == 2
    engine.lost = 2
    with pytest.raises(Unavailable):
        await chat.chat("acc", ask(), direct_models=False)


async def test_one_prompt_that_fails_stops_the_others(prompts, engine):
    with pytest.raises(Unavailable):
        await prompts.complete("acc", CompletionAsk("dep", ["z", "!"], Sampling()), direct_models=False)
    await asyncio.sleep(0.01)
    assert engine.running == 0


async def test_a_stream_ends_with_the_usage_and_closes_the_engine_s(prompts, engine):
    stream = await prompts.stream_completion(
        "acc", CompletionAsk("dep", ["a", "b"], Sampling(), echo=True), direct_models=False
    )
    parts = [part async for part in stream.parts]
    assert parts == [
        Delta(0, "ao"), Delta(0, "k", "stop"), Delta(1, "bo"), Delta(1, "k", "stop"), Usage(2, 4),
    ]  # fmt: skip
    assert engine.closed == 2


async def test_a_stream_closed_early_closes_the_engine_s(chat, engine):
    stream = await chat.stream_chat("acc", ask(), direct_models=False)
    assert await anext(stream.parts) == Delta(0, "o")
    await stream.parts.aclose()
    assert engine.closed == 1


@pytest.mark.parametrize(
    ("text", "limit", "numbers"),
    [("x" * 19, None, "resulted in 20 tokens"), ("x" * 9, 11, "21 tokens (10 in the messages, 11 in the completion)")],
)
async def test_what_does_not_fit_is_refused_with_the_numbers(chat, text, limit, numbers):
    with pytest.raises(InvalidRequest) as caught:
        await chat.chat("acc", ask(text, max_tokens=limit), direct_models=False)
    assert caught.value.code == "context_length_exceeded"
    assert numbers in caught.value.message


async def test_the_last_free_token_can_be_used(chat, engine):
    await chat.chat("acc", ask("x" * 18), direct_models=False)
    assert engine.asked[0].max_tokens == 1
    await chat.chat("acc", ask("x" * 9, max_tokens=10), direct_models=False)
    assert engine.asked[1].max_tokens == 10


class ForgetfulRenderer(LetterRenderer):
    """A template that shows contents, of some roles only, and no calls."""

    def render_text(self, messages: list[dict[str, Any]], **how: Any) -> str:
        return "".join(message["content"] for message in messages if message["role"] in self.shows)

    shows = ("user", "tool")


@pytest.mark.parametrize(
    ("shows", "param"), [(("user", "tool"), "messages[1].tool_calls"), (("user", "assistant"), "messages[2].content")]
)
async def test_calls_and_results_the_model_would_not_see_are_refused(chat, inference, engine, shows, param):
    renderer = ForgetfulRenderer()
    renderer.shows = shows
    inference.catalogue._renderers["base"] = cast(Any, renderer)
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "f" if "assistant" in shows else "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "sunny"},
    ]
    with pytest.raises(InvalidRequest) as caught:
        await chat.chat("acc", ChatAsk("dep", turns, Sampling()), direct_models=False)
    assert caught.value.param == param
    assert engine.asked == []
