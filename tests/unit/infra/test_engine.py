"""What HttpEngine says and how it reads answers, against a server that speaks as vLLM does."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tailorbird.infra.engine import HttpEngine
from tailorbird.protocol.generation import EmbeddingRequest, Embeddings
from tailorbird.service.ports import EngineDown


class Scripted:
    """Answers every POST with `reply`; keeps what it was asked."""

    def __init__(self) -> None:
        self.reply: dict[str, Any] = {}
        self.asked: list[tuple[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.hold = threading.Event()
        self.hold.set()
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                scripted.asked.append((self.path, json.loads(body)))
                scripted.headers.append({name.lower(): value for name, value in self.headers.items()})
                assert scripted.hold.wait(30)
                answer = json.dumps(scripted.reply).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=lambda: self.server.serve_forever(0.01))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.server.shutdown()
    scripted.server.server_close()
    scripted.thread.join(5)


async def embed(scripted: Scripted, *embeddings: object) -> Embeddings:
    rows = [{"index": index, "embedding": embedding} for index, embedding in enumerate(embeddings)]
    scripted.reply = {"data": rows[::-1], "usage": {"prompt_tokens": 3}}
    engine = HttpEngine(scripted.url)
    try:
        return await engine.embed(EmbeddingRequest("m", [[1, 2], [3]]))
    finally:
        await engine.close()


async def test_texts_go_out_as_token_ids_and_vectors_come_back_in_order(scripted: Scripted) -> None:
    found = await embed(scripted, "AACAPwAAAAA=", "AAAAAAAAgL8=")  # 1.0, 0.0 and 0.0, -1.0 as float32
    assert found == Embeddings([[1.0, 0.0], [0.0, -1.0]], 3)
    asked = {"model": "m", "input": [[1, 2], [3]], "encoding_format": "base64"}
    assert scripted.asked == [("/v1/embeddings", asked)]


async def test_vectors_written_as_numbers_are_read_too(scripted: Scripted) -> None:
    assert (await embed(scripted, [0.6, 0.8], [1, 0])).vectors == [[0.6, 0.8], [1.0, 0.0]]


@pytest.mark.parametrize("broken", ["no base64!", "AACA"])
async def test_a_vector_that_cannot_be_read_is_the_engine_s_fault(scripted: Scripted, broken: str) -> None:
    with pytest.raises(EngineDown, match="embedding"):
        await embed(scripted, broken)


async def test_a_request_says_for_which_request_and_job_of_ours_it_is_made(scripted: Scripted) -> None:
    told = {"request_id": "r1", "job": "ftjob-1", "account": "a"}
    engine = HttpEngine(scripted.url, lambda: told)
    await engine.load_adapter("a", Path("/a"))
    told.update(request_id="", job="")
    await engine.unload_adapter("a")
    await engine.close()
    first, second = scripted.headers
    assert (first["x-request-id"], first["x-tailorbird-job"]) == ("r1", "ftjob-1")
    assert not {"x-request-id", "x-tailorbird-job"} & set(second)


async def test_requests_made_at_once_for_one_request_of_ours_have_ids_of_their_own(scripted: Scripted) -> None:
    engine = HttpEngine(scripted.url, lambda: {"request_id": "r1"})
    scripted.hold.clear()
    calls = [asyncio.create_task(engine.unload_adapter("a")) for _ in range(3)]
    async with asyncio.timeout(30):
        while len(scripted.headers) < 3:
            await asyncio.sleep(0.01)
        scripted.hold.set()
        await asyncio.gather(*calls)
        await engine.unload_adapter("a")
    await engine.close()
    assert sorted(one["x-request-id"] for one in scripted.headers[:3]) == ["r1", "r1-2", "r1-3"]
    assert scripted.headers[3]["x-request-id"] == "r1"
