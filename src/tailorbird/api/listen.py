"""Serves one app on http and on https until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Scope]], Callable[[Scope], Awaitable[None]]], Awaitable[None]]
"""What ASGI calls an application."""

# Within the ten seconds that `up` has to stop everything.
_GRACE_SECONDS = 4


class _Quiet(uvicorn.Server):
    """Leaves signals to the process that runs two of these."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 picks a free one. Raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named asyncio turns Nagle's algorithm off on each connection. Left on, it makes the second
    # packet of an answer wait for the client's delayed acknowledgement of the first: 40 ms a request.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    bound.listen(1024)
    bound.setblocking(False)
    return bound


async def listen(
    app: App,
    plain: socket.socket,
    secure: socket.socket,
    certificate: Path,
    key: Path,
    stop: asyncio.Event,
    on_ready: Callable[[], None],
) -> None:
    """Returns once `stop` is set and both servers have drained; `on_ready` is called when both accept."""
    # Named, because uvicorn would take another parser wherever some package has brought one along.
    shared = {
        "http": "h11",
        "log_config": None,
        "log_level": "warning",
        "access_log": False,
        "timeout_graceful_shutdown": _GRACE_SECONDS,
    }
    servers = [
        _Quiet(uvicorn.Config(app, **shared)),  # pyright: ignore[reportArgumentType]
        # The app's start-up and shut-down run once, with the first server.
        _Quiet(uvicorn.Config(app, lifespan="off", ssl_certfile=str(certificate), ssl_keyfile=str(key), **shared)),  # pyright: ignore[reportArgumentType]
    ]
    first = asyncio.create_task(servers[0].serve(sockets=[plain]))
    await _started(servers[0], first)
    second = asyncio.create_task(servers[1].serve(sockets=[secure]))
    await _started(servers[1], second)
    on_ready()
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({first, second, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    for server in servers:
        server.should_exit = True
    await asyncio.gather(first, second)


async def _started(server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    while not server.started and not task.done():
        await asyncio.sleep(0.01)
    if task.done():
        task.result()
        raise RuntimeError("the server ended while starting; its log says why")
