from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import httpx
import pytest

released = threading.Event()
"""Lets the answer to /slow go."""


class Source(BaseHTTPRequestHandler):
    """Azurite's path style: /account/container/blob?signature."""

    protocol_version = "HTTP/1.1"
    blobs: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        body = self.blobs.get(path)
        if path == "/slow":
            released.wait(5)
        status = 404 if body is None else 200 if query == "sv=2024&sig=SE%2BCRET%3D" else 403
        self.send_response(status)
        sent = (body or b"") if status == 200 else b""
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def source() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Source)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def start(call, url: str, **extra: object) -> httpx.Response:
    body = {"filename": "train.jsonl", "purpose": "fine-tune", "content_url": url} | extra
    return call("POST", "/files/import", json=body)


def wait(call, file_id: str) -> dict:
    deadline = time.monotonic() + 10
    while (body := call("GET", f"/files/{file_id}").json())["status"] not in ("processed", "error"):
        assert time.monotonic() < deadline, body
        time.sleep(0.02)
    return body


def test_a_blob_s_signed_url_becomes_a_file(call, source, chat_lines):
    Source.blobs["/devstoreaccount1/data/train.jsonl"] = chat_lines(10)
    answer = start(call, f"{source}/devstoreaccount1/data/train.jsonl?sv=2024&sig=SE%2BCRET%3D")
    created = call.surface == "azure"
    assert answer.status_code == (201 if created else 200), answer.text
    body = answer.json()
    assert body["status"] == ("uploaded" if call.is_openai else "pending")
    assert ("location" in answer.headers) == created
    if created:
        assert answer.headers["location"] == f"http://data.test/openai/files/{body['id']}"
    done = wait(call, body["id"])
    assert (done["status"], done["bytes"]) == ("processed", len(chat_lines(10)))
    assert call("GET", f"/files/{body['id']}/content").content == chat_lines(10)


def test_a_failed_import_ends_in_error_and_says_why_without_the_signature(call, source, caplog):
    for path, status in (("/c/none", "404"), ("/devstoreaccount1/data/train.jsonl", "403")):
        Source.blobs["/devstoreaccount1/data/train.jsonl"] = b"x"
        body = wait(call, start(call, f"{source}{path}?sv=2024&sig=SECRET").json()["id"])
        assert body["status"] == "error"
        assert body["status_details"].startswith("fileImportFailed: 127.0.0.1")
        assert status in body["status_details"]
        assert "SECRET" not in str(body)
        answer = call("GET", f"/files/{body['id']}/content")
        assert answer.status_code == 400
    assert "SECRET" not in caplog.text


def test_an_import_above_the_limit_ends_in_error(call, source):
    Source.blobs["/big"] = b"x" * 1_000_001
    body = wait(call, start(call, f"{source}/big?sv=2024&sig=SE%2BCRET%3D").json()["id"])
    assert "larger than" in body["status_details"]


def test_an_import_takes_an_expiry(call, source, chat_lines):
    Source.blobs["/a"] = chat_lines(10)
    life = {"anchor": "created_at", "seconds": 1_209_600}
    body = start(call, f"{source}/a?sv=2024&sig=SE%2BCRET%3D", expires_after=life).json()
    assert body["expires_at"] == body["created_at"] + 1_209_600
    assert wait(call, body["id"])["expires_at"] == body["expires_at"]


def test_each_fault_of_an_import_is_named_by_its_field_and_never_shows_the_url(call):
    url = "https://example.com/a?sig=SECRET"
    cases: dict[str, list[dict[str, object]]] = {
        "content_url": [
            {"content_url": "ftp://example.com/a?sig=SECRET"},
            {"content_url": ["https://x/?sig=SECRET"]},
            {"content_url": "https://user:SECRET@example.com/"},
            {"content_url": ""},
        ],
        "filename": [{"filename": ""}, {"filename": 5}],
        "purpose": [{"purpose": "fine-tune-results"}],
        "expires_after.seconds": [
            {"expires_after": {"anchor": "created_at", "seconds": 60}},
            {"expires_after": {"anchor": "created_at"}},
        ],
        "expires_after.anchor": [{"expires_after": {"anchor": "now", "seconds": 3600}}],
        "mode": [{"mode": "fast"}],
    }
    for param, bodies in cases.items():
        for body in bodies:
            answer = start(call, url, **body)
            assert answer.status_code == 400, body
            assert answer.json()["error"]["param"] == param
            assert "SECRET" not in answer.text
    assert call("GET", "/files").json()["data"] == []


def test_a_job_waits_for_no_import(call, source, chat_lines):
    Source.blobs["/slow"] = chat_lines(10)
    released.clear()
    file_id = start(call, f"{source}/slow?sv=2024&sig=SE%2BCRET%3D").json()["id"]
    job = {"model": "gpt-4o-mini", "training_file": file_id}
    try:
        answer = call("POST", "/fine_tuning/jobs", json=job)
        content = call("GET", f"/files/{file_id}/content")
    finally:
        released.set()
    for refused in (answer, content):
        assert refused.status_code == 400
        assert "still being imported" in refused.json()["error"]["message"]
    wait(call, file_id)
    assert call("POST", "/fine_tuning/jobs", json=job).is_success
