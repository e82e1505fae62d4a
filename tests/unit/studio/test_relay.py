"""Files on their way between browser and service: streamed, under their own names, refusals told as they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlencode

import httpx
import pytest
from fastapi import FastAPI

from tailorbird.api.multipart import open_form
from tailorbird.studio import relay
from tailorbird.studio.client import Wire
from tailorbird.studio.session import COOKIE, Session, Sessions

SECOND = "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/second"
WAIT = 60


@dataclass
class StreamingService(httpx.AsyncBaseTransport):
    """Answers as it is told, and takes a body piece by piece; `came` is set with the first piece that has a file's."""

    caller: dict[str, Any]
    answer: Callable[[httpx.Request], httpx.Response] = lambda _: httpx.Response(200, json={"id": "file-1"})
    received: bytes = b""
    came: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list[str])

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        if request.url.path == "/tailorbird/v1/caller":
            return httpx.Response(200, json=self.caller)
        assert isinstance(request.stream, httpx.AsyncByteStream)
        async for piece in request.stream:
            self.received += piece
            if b"first" in self.received:
                self.came.set()
        return self.answer(request)

    def file(self) -> tuple[str, str, bytes]:
        """Name, purpose and bytes of the form, as the service's own reader takes it apart."""
        boundary = self.received.split(b"\r\n", 1)[0].removeprefix(b"--").decode()
        kind = f"multipart/form-data; boundary={boundary}"
        with open_form(kind, iter([self.received]), lambda _: None, lambda _: None) as form:
            return form.filename, form.fields["purpose"], b"".join(form.chunks)


@pytest.fixture
def streaming(service: Any) -> StreamingService:
    return StreamingService(service.answers["GET /tailorbird/v1/caller"])


@pytest.fixture
async def browser(streaming: StreamingService, sessions: Sessions) -> AsyncIterator[httpx.AsyncClient]:
    """Signed in; speaks to the relay, which speaks to the service."""
    wire = Wire("http://service.test")
    await wire.close()
    wire.http = httpx.AsyncClient(transport=streaming, base_url="http://service.test")
    app = FastAPI()
    relay.add_routes(app, wire, sessions)
    cookies = {COOKIE: sessions.begin(Session("token", "anna", "tok"))}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://studio.test", cookies=cookies) as client:
        yield client
    await wire.close()


async def put(browser: httpx.AsyncClient, name: str, content: Any, **more: str) -> httpx.Response:
    return await browser.put(f"/relay/files?{urlencode({'filename': name, **more})}", content=content)


async def test_a_file_reaches_the_service_while_the_browser_still_sends_it(
    browser: httpx.AsyncClient, streaming: StreamingService
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"first\n"
        await asyncio.wait_for(streaming.came.wait(), WAIT)
        yield b"second\n"

    answer = await put(browser, "train.jsonl", pieces())
    assert (answer.status_code, answer.json()) == (200, {"id": "file-1"})
    assert streaming.file() == ("train.jsonl", "fine-tune", b"first\nsecond\n")
    assert streaming.asked[-1] == "POST /openai/v1/files"


@pytest.mark.parametrize("name", ['say "hi".jsonl', "予約データ 30%.jsonl", "a;b=c.jsonl", "100%22.jsonl", "é'`.jsonl"])
async def test_a_file_keeps_its_name(browser: httpx.AsyncClient, streaming: StreamingService, name: str) -> None:
    await put(browser, name, b"first\n")
    assert streaming.file()[0] == name


async def test_no_name_breaks_out_of_the_form(browser: httpx.AsyncClient, streaming: StreamingService) -> None:
    evil = 'x"\r\nContent-Type: text/plain\r\n\r\nrobbed\r\n--\\".jsonl'
    await put(browser, evil, b"first\n", purpose="evals")
    name, purpose, content = streaming.file()
    assert (purpose, content) == ("evals", b"first\n")
    assert "\n" not in name


async def test_bytes_that_look_like_a_form_stay_bytes(browser: httpx.AsyncClient, streaming: StreamingService) -> None:
    content = b'first\r\n--boundary--\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nevals\r\n'
    await put(browser, "x.jsonl", content)
    assert streaming.file() == ("x.jsonl", "fine-tune", content)


async def test_a_refusal_of_the_service_is_told_in_its_words(
    browser: httpx.AsyncClient, streaming: StreamingService
) -> None:
    error = {"error": {"code": "invalidPayload", "message": "The file is empty.", "param": "file"}}
    streaming.answer = lambda _: httpx.Response(400, json=error)
    answer = await put(browser, "x.jsonl", b"")
    assert answer.status_code == 400
    assert answer.json() == {"message": "The file is empty.", "param": "file"}


async def test_a_service_that_is_away_is_a_bad_gateway(browser: httpx.AsyncClient, streaming: StreamingService) -> None:
    def gone(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route", request=request)

    streaming.answer = gone
    answer = await put(browser, "x.jsonl", b"first")
    assert answer.status_code == 502
    assert "did not answer" in answer.json()["message"]


async def test_nobody_sends_or_fetches_without_a_session(
    browser: httpx.AsyncClient, streaming: StreamingService
) -> None:
    browser.cookies.clear()
    assert (await put(browser, "x.jsonl", b"first")).status_code == 401
    assert (await browser.get("/relay/files/file-1/content")).status_code == 401
    assert streaming.asked == []


async def test_a_file_goes_to_the_account_of_its_page_not_to_the_last_one_chosen(
    browser: httpx.AsyncClient, streaming: StreamingService
) -> None:
    await put(browser, "x.jsonl", b"first", account=SECOND.upper())
    assert streaming.asked[-1] == "POST /accounts/second/openai/v1/files"
    await put(browser, "x.jsonl", b"first")
    assert streaming.asked[-1] == "POST /openai/v1/files"
    refused = await put(browser, "x.jsonl", b"first", account=f"{SECOND}-of-somebody-else")
    assert refused.status_code == 403


async def test_a_download_has_the_name_and_is_never_shown_as_a_page(
    browser: httpx.AsyncClient, streaming: StreamingService
) -> None:
    streaming.answer = lambda _: httpx.Response(200, content=b"<script>alert(1)</script>")
    name = 'say "予約".csv'
    answer = await browser.get(f"/relay/files/file-1/content?{urlencode({'filename': name})}")
    disposition = answer.headers["content-disposition"]
    assert disposition.startswith("attachment; filename*=UTF-8''")
    assert unquote(disposition.split("''")[1]) == name
    assert (answer.headers["content-type"], answer.headers["x-content-type-options"]) == (
        "application/octet-stream",
        "nosniff",
    )
    assert answer.content == b"<script>alert(1)</script>"
    assert streaming.asked[-1] == "GET /openai/v1/files/file-1/content"


async def test_a_download_that_is_refused_says_why(browser: httpx.AsyncClient, streaming: StreamingService) -> None:
    streaming.answer = lambda _: httpx.Response(404, json={"error": {"code": "notFound", "message": "No such file."}})
    answer = await browser.get("/relay/files/file-1/content")
    assert (answer.status_code, answer.json()) == (404, {"message": "No such file."})


async def test_a_file_id_stays_one_segment_of_the_path(browser: httpx.AsyncClient, streaming: StreamingService) -> None:
    await browser.get("/relay/files/..%2Fmodels/content")
    assert not any(path.startswith("GET /openai/v1/models") for path in streaming.asked)


async def test_a_download_reaches_the_browser_while_the_service_still_sends_it(
    browser: httpx.AsyncClient, streaming: StreamingService
) -> None:
    arrived = asyncio.Event()

    async def content() -> AsyncIterator[bytes]:
        yield b"x" * relay._CHUNK
        await asyncio.wait_for(arrived.wait(), WAIT)
        yield b"last"

    streaming.answer = lambda _: httpx.Response(200, content=content())
    sent: list[bytes] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body" and message["body"]:
            sent.append(message["body"])
            arrived.set()

    pieces = iter([{"type": "http.request", "body": b"", "more_body": False}])
    never = asyncio.Event()

    async def receive() -> dict[str, Any]:
        for piece in pieces:
            return piece
        await never.wait()
        return {"type": "http.disconnect"}

    transport: Any = browser._transport
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": "/relay/files/file-1/content", "raw_path": b"/relay/files/file-1/content", "query_string": b"",
        "root_path": "", "headers": [(b"cookie", cookie.encode())], "server": ("studio.test", 80), "client": ("b", 1),
    }  # fmt: skip
    await transport.app(scope, receive, send)
    assert b"".join(sent) == b"x" * relay._CHUNK + b"last"
