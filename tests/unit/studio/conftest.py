"""A service that answers what a test tells it to, behind the Studio's own client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tailorbird.studio.client import Wire
from tailorbird.studio.session import Sessions

Answer = Callable[[httpx.Request], httpx.Response]
CALLER: dict[str, Any] = {
    "object": "caller",
    "name": "anna@example.org",
    "kind": "token",
    "roles": [],
    "accounts": [
        {
            "name": name,
            "id": f"/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/{name}",
            "subscription": "s",
            "resource_group": "g",
            "location": "local",
            "path": path,
            "actions": ["Microsoft.CognitiveServices/accounts/OpenAI/files/read"],
        }
        for name, path in (("first", ""), ("second", "/accounts/second"))
    ],
}


class Service:
    """`service.answers["GET /path"]` is a body, a response or a function of the request; `seen` is what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "GET /tailorbird/v1/caller": CALLER,
            "GET /metadata/endpoints": {"authentication": {"audiences": ["https://control.test"]}},
        }
        self.seen: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read() if isinstance(request.stream, httpx.SyncByteStream) else None
        self.seen.append(request)
        told = self.answers.get(f"{request.method} {request.url.path}")
        if callable(told):
            told = told(request)
        if told is None:
            return httpx.Response(404, json={"error": {"code": "notFound", "message": "There is nothing there."}})
        return told if isinstance(told, httpx.Response) else httpx.Response(200, json=told)

    def asked(self) -> list[str]:
        return [f"{one.method} {one.url.path}" for one in self.seen]


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def wire(service: Service) -> Wire:
    made = Wire("http://service.test")
    made.http = httpx.AsyncClient(transport=httpx.MockTransport(service), base_url="http://service.test")
    return made


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path / "sessions")
