"""Answers that take a while: server-sent events, and work that ends when the client goes away."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

import anyio
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailorbird.api.dialects import Family
from tailorbird.api.errors import error_body
from tailorbird.domain.errors import InternalFailure, ServiceError

log = logging.getLogger(__name__)

T = TypeVar("T")


class EventStream(Response):
    """`data: {json}` for each event, then `data: [DONE]`. An error in the middle is an event as well.

    The source is closed as soon as the client is gone, which stops the engine.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[Mapping[str, Any], None],
        family: Family,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **(headers or {})})
        del self.headers["content-length"]
        self._events = events
        self._family = family

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()

            group.start_soon(watch)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async with aclosing(self._lines(scope)) as lines:
                async for line in lines:
                    await send({"type": "http.response.body", "body": line, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            group.cancel_scope.cancel()

    async def _lines(self, scope: Scope) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._events) as events:
            try:
                async for event in events:
                    yield _line(event)
            except ServiceError as error:
                yield _line(error_body(error, self._family))
            except Exception:
                request_id = scope["state"]["request_id"]
                log.exception("stream failed", extra={"request_id": request_id})
                failure = InternalFailure(f"The service failed in the middle of the answer. Report id {request_id}.")
                yield _line(error_body(failure, self._family))
        yield b"data: [DONE]\n\n"


def _line(event: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the client hangs up. Raises ClientDisconnect then."""
    results: list[T] = []
    failures: list[ServiceError] = []
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        group.start_soon(watch)
        try:
            results.append(await work)
        except ServiceError as error:
            # Carried out by hand: a task group would wrap it in a group of its own.
            failures.append(error)
        group.cancel_scope.cancel()
    if failures:
        raise failures[0]
    if not results:
        raise ClientDisconnect
    return results[0]
