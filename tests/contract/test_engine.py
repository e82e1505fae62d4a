"""The port Engine over HTTP against our own engine, with the built-in base model."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import uvicorn

import tailorbird
from tailorbird.infra.engine import HttpEngine
from tailorbird.protocol.generation import EmbeddingRequest, GenerationRequest, Structure
from tailorbird.service.ports import AdapterUnknown, EngineDown, EngineRefused
from tailorbird.serving import server
from tailorbird.serving.__main__ import Options, build

WEAVER = Path(tailorbird.__file__).parent / "weaver"
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["leaf", "nest"]}, "paid": {"type": "boolean"}},
    "required": ["kind", "paid"],
    "additionalProperties": False,
}
JSON = Structure("json_schema", json.dumps(SCHEMA))
PROMPT = [40, 41, 42, 43]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    listener = server.listen("127.0.0.1", 0)
    config = uvicorn.Config(
        build(Options(WEAVER, "weaver", threads=1)).app(), loop="asyncio", http="h11", log_level="warning"
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    running.should_exit = True
    thread.join(10)


@pytest.fixture
async def engine(url: str) -> AsyncIterator[HttpEngine]:
    engine = HttpEngine(url)
    yield engine
    await engine.close()


def ask(structure: Structure | None = None, model: str = "weaver") -> GenerationRequest:
    return GenerationRequest(model, PROMPT, max_tokens=200, temperature=1.0, seed=3, n=2, structure=structure)


async def test_a_structure_is_kept_in_whole_answers_and_in_streams(engine: HttpEngine) -> None:
    whole = await engine.complete(ask(JSON))
    for choice in whole.choices:
        assert choice.finish_reason == "stop"
        assert set(json.loads(choice.text)) == {"kind", "paid"}
    pieces = ["", ""]
    async for chunk in engine.stream(ask(JSON)):
        pieces[chunk.index] += chunk.text
    assert pieces == [choice.text for choice in whole.choices]


async def test_a_tool_call_s_special_tokens_can_be_asked_for_by_name(engine: HttpEngine) -> None:
    grammar = f"start: <|tool_call|> %json {json.dumps(SCHEMA)} <|/tool_call|>"
    for choice in (await engine.complete(ask(Structure("grammar", grammar)))).choices:
        assert (choice.token_ids[0], choice.token_ids[-1]) == (3, 4)
        assert set(json.loads(choice.text)) == {"kind", "paid"}, "special tokens have no text"


async def test_a_structure_that_cannot_be_followed_is_refused_with_the_reason(engine: HttpEngine) -> None:
    with pytest.raises(EngineRefused, match="structured_outputs: Invalid type: nope"):
        await engine.complete(ask(Structure("json_schema", '{"type": "nope"}')))
    with pytest.raises(EngineRefused, match="structured_outputs"):
        async for _ in engine.stream(ask(Structure("grammar", 'start: "{'))):
            pass


async def test_each_text_is_embedded_in_its_place(engine: HttpEngine) -> None:
    found = await engine.embed(EmbeddingRequest("weaver", [PROMPT, [40], PROMPT]))
    assert found.prompt_tokens == 9
    first, second, third = found.vectors
    assert first == pytest.approx(third, abs=1e-5)
    assert first != pytest.approx(second, abs=1e-2)
    for vector in found.vectors:
        assert sum(value * value for value in vector) == pytest.approx(1.0, abs=1e-5)


async def test_texts_that_do_not_fit_are_refused(engine: HttpEngine) -> None:
    with pytest.raises(EngineRefused, match="maximum context length"):
        await engine.embed(EmbeddingRequest("weaver", [[40] * 5000]))


async def test_a_name_the_engine_does_not_know_is_unknown(engine: HttpEngine) -> None:
    with pytest.raises(AdapterUnknown):
        await engine.complete(ask(model="who"))
    with pytest.raises(AdapterUnknown):
        await engine.embed(EmbeddingRequest("who", [PROMPT]))


async def test_an_engine_that_is_not_there_is_down() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        engine = HttpEngine(f"http://127.0.0.1:{free.getsockname()[1]}")
        assert not await engine.ready()
        with pytest.raises(EngineDown):
            await engine.embed(EmbeddingRequest("weaver", [PROMPT]))
        await engine.close()
