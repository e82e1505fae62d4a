"""An import goes on where it was when the server comes back, and holds no server up that is told to stop."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.slow

LINE = b'{"prompt": "' + b"x" * 970 + b'", "completion": "y"}\n'
LINES = 40_000
SIZE = LINES * len(LINE)
MIB = 1024 * 1024


class Source(ThreadingHTTPServer):
    """Serves lines, up to `until` and then nothing until `until` is moved; keeps the ranges it was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.until = 20 * MIB
        self.asked: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/train.jsonl?sig=SECRET"


class Handler(BaseHTTPRequestHandler):
    server: Source
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "bytes=0-")
        at = int(asked.removeprefix("bytes=").removesuffix("-"))
        self.server.asked.append(at)
        self.send_response(206 if at else 200)
        self.send_header("Content-Length", str(SIZE - at))
        self.send_header("Content-Range", f"bytes {at}-{SIZE - 1}/{SIZE}")
        self.send_header("ETag", '"1"')
        self.end_headers()
        block = LINE * 100
        try:
            while at < SIZE:
                while at >= self.server.until:
                    time.sleep(0.05)
                piece = block[at % len(LINE) :]
                self.wfile.write(piece[: SIZE - at])
                at += len(piece)
        except OSError:
            return

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def source() -> Iterator[Source]:
    made = Source()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield made
    made.until = SIZE
    made.shutdown()
    made.server_close()
    thread.join()


def client(made: Any) -> httpx.Client:
    return httpx.Client(
        base_url=made.credentials["AZURE_OPENAI_ENDPOINT"].rstrip("/") + "/openai/v1",
        headers={"api-key": made.credentials["AZURE_OPENAI_API_KEY"]},
        timeout=60,
    )


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_an_import_outlives_its_server(installation: Callable[..., Any], until: Callable[..., None], source, end):
    made = installation(TAILORBIRD_IMPORT_PRIVATE="true")
    body = {"filename": "train.jsonl", "purpose": "fine-tune", "content_url": source.url}
    with client(made) as http:
        file_id = http.post("/files/import", json=body).json()["id"]
    pieces = made.folder / "blobs"
    until("the first piece", lambda: len(list(pieces.rglob("*-000000000000000"))) == 1, 60)
    time.sleep(0.5)
    getattr(made, end)()
    made.start()
    until("the second connection", lambda: len(source.asked) == 2, 60)
    source.until = SIZE
    with client(made) as http:
        until("the file", lambda: http.get(f"/files/{file_id}").json()["status"] == "processed", 60)
        assert http.get(f"/files/{file_id}").json()["bytes"] == SIZE
        with http.stream("GET", f"/files/{file_id}/content") as answer:
            assert all(line == LINE[:-1].decode() for line in answer.iter_lines())
    assert source.asked[0] == 0
    assert 16 * MIB <= source.asked[1] < 18 * MIB, "what had been kept was not fetched again"
    assert "SECRET" not in made.log()
    with closing(sqlite3.connect(made.folder / "tailorbird.db")) as database:
        assert "SECRET" not in "\n".join(database.iterdump()), "the URL is erased"
    made.stop()
