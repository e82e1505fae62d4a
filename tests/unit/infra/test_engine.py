"""What HttpEngine says and how it reads answers, against a server that speaks as vLLM does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                scripted.asked.append((self.path, json.loads(body)))
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
