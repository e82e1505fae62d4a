"""What every request leaves behind: figures, and a line in the engine's log with what of the server it was made for."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any

from tailorbird.protocol.logs import JOB_HEADER, REQUEST_HEADER, belonging

log = logging.getLogger("tailorbird.access")

_QUIET = frozenset({"/health", "/metrics"})
_LONGEST_ID = 128

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Observed:
    """Around the whole application (ASGI), so that what its handlers log belongs to the request as well.

    `answered` is told path, status and seconds of each request to one of `paths`: others would each be a time series.
    """

    def __init__(self, app: App, answered: Callable[[str, int, float], None], paths: frozenset[str]) -> None:
        self._app = app
        self._answered = answered
        self._paths = paths

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with belonging(request_id=_header(scope, REQUEST_HEADER), job=_header(scope, JOB_HEADER)):
            await self._observe(scope, receive, send)

    async def _observe(self, scope: Message, receive: Receive, send: Send) -> None:
        status, began, told = 500, perf_counter(), False

        def tell() -> None:
            nonlocal told
            if not told:
                told = True
                self._tell(scope, status, perf_counter() - began)

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                # Before the last bytes leave: who has the answer finds its line in the log.
                tell()
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            tell()

    def _tell(self, scope: Message, status: int, seconds: float) -> None:
        path = scope["path"]
        if path in self._paths:
            self._answered(path, status, seconds)
        level = logging.DEBUG if path in _QUIET else logging.INFO
        if log.isEnabledFor(level):
            facts = {"method": scope["method"], "path": path, "status": status, "ms": round(seconds * 1000, 1)}
            log.log(level, "request", extra=facts)


def _header(scope: Message, name: str) -> str:
    wanted = name.encode()
    found = next((value for key, value in scope["headers"] if key == wanted), b"")
    return found.decode("latin-1")[:_LONGEST_ID]
