"""Mounts the Studio beside the API, and holds what pages cannot do: cookies, uploads and downloads as streams."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.responses import FileResponse
from nicegui import app as pages
from nicegui import ui
from nicegui.storage import Storage

from tailorbird.studio import relay, shell, sign_in
from tailorbird.studio.client import Wire
from tailorbird.studio.session import Sessions

PREFIX = "/studio"
STATIC = Path(__file__).parent / "static"

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


class Studio:
    """`base` is where the API listens (`http://127.0.0.1:8080`); `folder` keeps sessions and drafts.

    NiceGUI is one for each process, and so is this."""

    def __init__(self, base: str, folder: Path) -> None:
        self.wire = Wire(base)
        self.sessions = Sessions(folder / "sessions")
        self._host = FastAPI(openapi_url=None)
        Storage.path = folder / "drafts"
        pages.add_static_files("/static", STATIC, max_cache_age=3600)
        # Before the pages, whose pattern takes every path; browsers ask for this one by themselves.
        pages.add_api_route("/favicon.ico", _favicon, methods=["GET"])
        sign_in.add_routes(pages, self.wire, self.sessions)
        relay.add_routes(pages, self.wire, self.sessions)
        shell.add_pages(self.wire, self.sessions)
        ui.run_with(
            self._host,
            mount_path=PREFIX,
            title="Tailorbird Studio",
            favicon=STATIC / "favicon.svg",
            tailwind=False,
            dark=None,
            reconnect_timeout=10.0,
            # Nothing is bound to a value that changes by itself; pages say what they change.
            binding_refresh_interval=None,
            storage_secret=_secret(folder / "storage.key"),
            session_middleware_kwargs={"session_cookie": "tailorbird_browser", "max_age": 90 * 24 * 3600},
            show_welcome_message=False,
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        async with self._host.router.lifespan_context(self._host):
            yield
        await self.wire.close()

    def beside(self, api: Asgi) -> Asgi:
        """One app: the Studio below its prefix, the API everywhere else; a browser at `/` is sent to the Studio."""

        async def door(scope: Scope, receive: Receive, send: Send) -> None:
            kind, path = scope["type"], scope.get("path", "")
            if (kind == "http" and path == "/" and _is_browser(scope)) or (kind == "http" and path == PREFIX):
                await _redirect(f"{PREFIX}/", send)
            elif kind in ("http", "websocket") and path.startswith(f"{PREFIX}/"):
                await (self._host if _is_own(scope) else _refuse)(scope, receive, send)
            else:
                await api(scope, receive, send)

        return door


def _favicon() -> FileResponse:
    return FileResponse(STATIC / "favicon.svg", media_type="image/svg+xml", headers={"cache-control": "max-age=86400"})


def _secret(path: Path) -> str:
    """Signs the cookie that names a browser's drafts; made once."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(32))
    return path.read_text()


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _is_browser(scope: Scope) -> bool:
    return scope["method"] in ("GET", "HEAD") and "text/html" in _header(scope, b"accept")


def _is_own(scope: Scope) -> bool:
    """Whether a request that changes something, or a socket, comes from a page of this very host."""
    if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
        return True
    origin = _header(scope, b"origin")
    # Browsers name the origin of every socket and of every request that is no plain look; other clients send no cookie.
    return not origin or urlsplit(origin).netloc == _header(scope, b"host")


async def _redirect(where: str, send: Send) -> None:
    headers = [(b"location", where.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 307, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    text = b"This request came from a page of another site."
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": text})
