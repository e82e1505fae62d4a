"""What every request passes first and last: one path form, ids, limits on bodies, and the net under all handlers."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable
from time import monotonic

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailorbird.api.dialects import family_of
from tailorbird.api.errors import error_response
from tailorbird.domain.errors import InternalFailure

log = logging.getLogger(__name__)

MAX_JSON_BYTES = 64 * 1024 * 1024
"""Bodies other than uploads are held whole; 2,048 long messages fit."""
_DRAIN_BYTES = 2 * 1024 * 1024 * 1024
_DRAIN_SECONDS = 30.0
_SCOPED = re.compile(
    r"(?P<prefix>/openai|/openai/v1|/v1|/api/projects/[^/]+/openai/v1)/deployments/(?P<deployment>[^/]+)(?P<rest>/.+)"
)
_ACCOUNT = re.compile(r"/accounts/(?P<account>[^/]+)(?P<rest>/(?:openai|v1|api/projects|tailorbird)(?:/.*)?)")
_SLASHES = re.compile(r"/{2,}")


def _new_hex() -> str:
    return uuid.uuid4().hex


class Transport:
    """`is_upload` tells the paths whose bodies are streamed and have their own limit."""

    def __init__(
        self, app: ASGIApp, is_upload: Callable[[str, str], bool], new_hex: Callable[[], str] = _new_hex
    ) -> None:
        self._app = app
        self._is_upload = is_upload
        self._new_hex = new_hex

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        _normalise(scope)
        request_id = self._new_hex()
        scope.setdefault("state", {})["request_id"] = request_id
        body = _Body(scope, receive, None if self._is_upload(scope["method"], scope["path"]) else MAX_JSON_BYTES)
        answer = _Answer(scope, send, body, request_id)
        try:
            await self._app(scope, body.receive, answer.send)
        except ClientDisconnect:
            log.info("client went away", extra={"request_id": request_id, "path": scope["path"]})
        except Exception:
            log.exception("request failed", extra={"request_id": request_id, "path": scope["path"]})
            if answer.ended:
                # The answer is out; what failed is work after it, and the log has it.
                return
            if answer.started:
                # Breaking the connection is the only way left to say that the answer is not whole.
                raise
            failure = InternalFailure(
                f"The service failed; nothing in the request is at fault. Report id {request_id}."
            )
            await error_response(failure, family_of(scope["path"]))(scope, receive, answer.send)


def _normalise(scope: Scope) -> None:
    """`//` becomes `/`, a slash at the end goes; `/accounts/{a}` and `/deployments/{d}` before a path become state.

    Documentation prints double slashes, base URLs end in one, SDKs put the deployment before files and jobs too, and
    an account made through the control plane has its own endpoint.
    """
    path = _SLASHES.sub("/", scope["path"])
    path = path.rstrip("/") or "/"
    owned = _ACCOUNT.fullmatch(path)
    state = scope.setdefault("state", {})
    state["account"] = None
    if owned is not None:
        state["account"] = owned["account"]
        path = owned["rest"]
    scoped = _SCOPED.fullmatch(path)
    state["deployment"] = None
    if scoped is not None:
        state["deployment"] = scoped["deployment"]
        path = scoped["prefix"] + scoped["rest"]
    scope["path"] = path


class _Body:
    """The request's body on its way in: counted against its limit, and emptied when nobody read it."""

    def __init__(self, scope: Scope, receive: Receive, limit: int | None) -> None:
        headers = Headers(scope=scope)
        self._receive = receive
        self._limit = limit
        self._read = 0
        # Without either header there is no body.
        self._unread = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        self._declared = int(length) if (length := headers.get("content-length", "")).isdecimal() else 0
        # A client that asks before it sends needs no emptying: it is told not to send.
        self._asks_first = headers.get("expect", "").lower() == "100-continue"

    async def receive(self) -> Message:
        if self._limit is not None and max(self._declared, self._read) > self._limit:
            raise HTTPException(413, f"The body is larger than {self._limit // 2**20} MB.")
        message = await self._receive()
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            self._unread = message.get("more_body", False)
            if self._limit is not None and self._read > self._limit:
                raise HTTPException(413, f"The body is larger than {self._limit // 2**20} MB.")
        elif message["type"] == "http.disconnect":
            self._unread = False
        return message

    async def drain(self) -> None:
        """Reads on, within bounds: a client still sending when the connection closes sees a reset, not our answer."""
        begin, drained = monotonic(), 0
        if self._asks_first and self._read == 0:
            return
        while self._unread and drained < _DRAIN_BYTES and monotonic() - begin < _DRAIN_SECONDS:
            message = await self._receive()
            drained += len(message.get("body", b""))
            self._unread = message["type"] == "http.request" and message.get("more_body", False)


class _Answer:
    """The answer on its way out: gets its ids, and knows how far it is."""

    def __init__(self, scope: Scope, send: Send, body: _Body, request_id: str) -> None:
        self._send = send
        self._body = body
        self._request_id = request_id
        self._client_id = Headers(scope=scope).get("x-ms-client-request-id")
        self.started = False
        self.ended = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if message["status"] >= 400:
                await self._body.drain()
            self.started = True
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self._request_id
            headers["apim-request-id"] = self._request_id
            if self._client_id is not None:
                headers["x-ms-client-request-id"] = self._client_id
        elif message["type"] == "http.response.body":
            self.ended = not message.get("more_body", False)
        await self._send(message)
