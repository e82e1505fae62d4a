"""500 MB through each of the three ways in: the server streams, so it hardly grows."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import psutil
import pytest

pytestmark = pytest.mark.slow

SIZE = 500 * 1000 * 1000
MIB = 1024 * 1024
MOST_GROWTH = 200 * MIB
PART = 64 * MIB
_WORDS = b"the quick brown fox jumps over the lazy dog and other animals too " * 14
LINE = b'{"messages": [{"role": "user", "content": "' + _WORDS + b'"}, {"role": "assistant", "content": "a"}]}\n'
_BLOCK = LINE * 1000


def stream(size: int = SIZE) -> Iterator[bytes]:
    """Whole lines, and spaces at the end of the last so that the size is exact."""
    lines = (size - 1) // len(LINE)
    for _ in range(lines // 1000):
        yield _BLOCK
    yield LINE * (lines % 1000)
    rest = size - lines * len(LINE)
    if rest:
        yield b" " * rest


def expected_tail() -> bytes:
    rest = SIZE - (SIZE - 1) // len(LINE) * len(LINE)
    return (LINE + b" " * rest)[-1000:]


class Growth:
    """The largest resident size of a process above what it was at the beginning."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._before = process.memory_info().rss
        self.peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.peak = max(self.peak, self._process.memory_info().rss - self._before)

    def __enter__(self) -> Growth:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture
def server(installation: Callable[..., Any]) -> Iterator[tuple[httpx.Client, psutil.Process]]:
    made = installation(TAILORBIRD_IMPORT_PRIVATE="true")
    key = made.credentials["AZURE_OPENAI_API_KEY"]
    with httpx.Client(
        base_url=made.credentials["AZURE_OPENAI_ENDPOINT"].rstrip("/") + "/openai/v1",
        headers={"api-key": key},
        timeout=600,
    ) as client:
        client.get("/files")
        # `up` is the server itself; worker and engine are its children.
        yield client, psutil.Process(made.process.pid)
    made.stop()


def ended(client: httpx.Client, file_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 300
    while (body := client.get(f"/files/{file_id}").json())["status"] not in ("processed", "error"):
        assert time.monotonic() < deadline, body
        time.sleep(0.1)
    return body


def form(name: str, fields: dict[str, str], data: Iterator[bytes]) -> Iterator[bytes]:
    for field, value in fields.items():
        yield f'--b\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
    yield f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="a.jsonl"\r\n\r\n'.encode()
    yield from data
    yield b"\r\n--b--\r\n"


FORM = {"Content-Type": "multipart/form-data; boundary=b"}


class Source(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(SIZE))
        self.send_header("ETag", '"1"')
        self.end_headers()
        for block in stream():
            self.wfile.write(block)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def source() -> Generator[str]:
    web = ThreadingHTTPServer(("127.0.0.1", 0), Source)
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{web.server_address[1]}/large.jsonl"
    web.shutdown()
    web.server_close()
    thread.join()


def report(way: str, growth: Growth, seconds: float) -> None:
    print(f"\n{way}: 500 MB in {seconds:.1f} s, the server grew by {growth.peak / MIB:.0f} MiB")
    assert growth.peak < MOST_GROWTH


def upload(client: httpx.Client) -> str:
    answer = client.post("/files", content=form("file", {"purpose": "fine-tune"}, stream()), headers=FORM)
    assert answer.is_success, answer.text
    file_id: str = answer.json()["id"]
    return file_id


def fetch(client: httpx.Client) -> str:
    with source() as url:
        body = {"filename": "a.jsonl", "purpose": "batch", "content_url": url}
        file_id: str = client.post("/files/import", json=body).json()["id"]
        ended(client, file_id)
        return file_id


def upload_parts(client: httpx.Client) -> str:
    body = {"filename": "a.jsonl", "purpose": "batch", "bytes": SIZE, "mime_type": "text/jsonl"}
    path = f"/uploads/{client.post('/uploads', json=body).json()['id']}"
    data, parts = stream(), list[str]()
    while blocks := list(itertools.islice(data, PART // len(_BLOCK))):
        answer = client.post(f"{path}/parts", content=form("data", {}, iter(blocks)), headers=FORM)
        assert answer.is_success, answer.text
        parts.append(answer.json()["id"])
    answer = client.post(f"{path}/complete", json={"part_ids": parts})
    assert answer.is_success, answer.text
    file_id: str = answer.json()["file"]["id"]
    return file_id


@pytest.mark.parametrize("way", [upload, fetch, upload_parts], ids=["upload", "import", "parts"])
def test_500_mb_hardly_grow_the_server(server, way):
    client, process = server
    began = time.monotonic()
    with Growth(process) as growth:
        file_id = way(client)
        seconds = time.monotonic() - began
        body = ended(client, file_id)
    assert (body["status"], body["bytes"]) == ("processed", SIZE), body
    tail = client.get(f"/files/{file_id}/content", headers={"Range": "bytes=-1000"})
    assert (tail.status_code, tail.content) == (206, expected_tail())
    report(way.__name__, growth, seconds)
