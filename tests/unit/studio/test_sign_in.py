"""The forms to sign in and out, and the door beside the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi import FastAPI

from tailorbird.studio import app as studio_app
from tailorbird.studio import sign_in
from tailorbird.studio.client import Wire
from tailorbird.studio.session import COOKIE, Sessions

APPLICATION = "104d40cc-60ee-4614-b3fa-b0a29d0c31b2"


@pytest.fixture
async def http(wire: Wire, sessions: Sessions) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    sign_in.add_routes(app, wire, sessions)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://studio.test") as client:
        yield client


def error_of(answer: httpx.Response) -> str:
    return parse_qs(urlsplit(answer.headers["location"]).query)["error"][0]


async def test_a_key_opens_a_session_that_scripts_cannot_read(http: httpx.AsyncClient, sessions: Sessions) -> None:
    answer = await http.post("/sign-in", data={"way": "key", "key": " k1 ", "then": "/files?x=1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/files?x=1")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Max-Age=43200" in cookie
    assert "k1" not in cookie
    found = sessions.find(answer.cookies[COOKIE])
    assert found is not None
    assert (found.kind, found.credential, found.name) == ("key", "k1", "anna@example.org")


async def test_over_https_the_cookie_stays_on_https(wire: Wire, sessions: Sessions) -> None:
    app = FastAPI()
    sign_in.add_routes(app, wire, sessions)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://studio.test") as client:
        answer = await client.post("/sign-in", data={"way": "key", "key": "k1"})
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize(("name", "grant"), [("anna@example.org", "password"), (APPLICATION, "client_credentials")])
async def test_a_name_is_a_user_s_and_a_guid_an_application_s(
    http: httpx.AsyncClient, service: Any, name: str, grant: str
) -> None:
    service.answers["POST /common/oauth2/v2.0/token"] = {"access_token": "t", "expires_in": 3600}
    answer = await http.post("/sign-in", data={"way": "user", "name": name, "secret": "s3cret"})
    assert answer.status_code == 303
    assert COOKIE in answer.cookies
    sent = parse_qs(next(one for one in service.seen if one.method == "POST").content.decode())
    assert sent["grant_type"] == [grant]


async def test_a_refused_credential_shows_the_service_s_words_and_no_cookie(
    http: httpx.AsyncClient, service: Any
) -> None:
    refused = httpx.Response(401, json={"error": {"message": "Access denied <b>here</b>."}})
    service.answers["GET /tailorbird/v1/caller"] = refused
    answer = await http.post("/sign-in", data={"way": "token", "bearer": "x", "then": "/jobs"})
    assert COOKIE not in answer.cookies
    assert error_of(answer) == "Access denied <b>here</b>."
    page = await http.get(answer.headers["location"])
    assert "Access denied &lt;b&gt;here" in page.text
    assert 'value="/jobs"' in page.text


async def test_an_empty_form_says_so_in_the_language_of_the_browser(http: httpx.AsyncClient) -> None:
    answer = await http.post("/sign-in", data={"way": "key"}, headers={"accept-language": "nl"})
    assert error_of(answer) == "Vul elk veld in."


@pytest.mark.parametrize(
    "then",
    ["//evil.test", "https://evil.test/", "/\\evil.test", "javascript:alert(1)", "/a//b", "", "/x\r\nSet-Cookie: a"],
)
async def test_signing_in_never_leads_out_of_the_studio(http: httpx.AsyncClient, then: str) -> None:
    answer = await http.post("/sign-in", data={"way": "key", "key": "k", "then": then})
    assert answer.headers["location"] == "/"


async def test_who_is_signed_in_is_not_asked_again(http: httpx.AsyncClient) -> None:
    await http.post("/sign-in", data={"way": "key", "key": "k"})
    answer = await http.get("/sign-in", params={"then": "/jobs"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs")


async def test_signing_out_ends_the_session_itself(http: httpx.AsyncClient, sessions: Sessions) -> None:
    cookie = (await http.post("/sign-in", data={"way": "key", "key": "k"})).cookies[COOKIE]
    answer = await http.post("/sign-out")
    assert answer.headers["location"] == "/sign-in"
    assert sessions.find(cookie) is None


# --- the door ---------------------------------------------------------------------------------------------------------


def scope_of(method: str, path: str, kind: str = "http", **headers: str) -> dict[str, Any]:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": kind, "method": method, "path": path, "headers": pairs}


class Door:
    def __init__(self) -> None:
        self.reached: list[str] = []
        self.sent: list[dict[str, Any]] = []
        studio = object.__new__(studio_app.Studio)
        studio._host = self._named("studio")
        self._door = studio.beside(self._named("api"))

    def _named(self, name: str) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            self.reached.append(name)

        return app

    async def __call__(self, scope: dict[str, Any]) -> list[str]:
        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            self.sent.append(message)

        await self._door(scope, receive, send)
        return self.reached


async def test_the_studio_has_its_prefix_and_the_api_the_rest() -> None:
    door = Door()
    for path in ("/studio/files", "/v1/files", "/studios", "/openai/files"):
        await door(scope_of("GET", path))
    assert door.reached == ["studio", "api", "api", "api"]
    assert await Door()({"type": "lifespan"}) == ["api"]


async def test_a_browser_at_the_root_is_sent_to_the_studio_and_a_script_is_not() -> None:
    door = Door()
    await door(scope_of("GET", "/", accept="text/html,*/*"))
    assert door.sent[0]["status"] == 307
    assert (b"location", b"/studio/") in door.sent[0]["headers"]
    assert await Door()(scope_of("GET", "/", accept="application/json")) == ["api"]


async def test_a_page_of_another_site_changes_nothing_and_opens_no_socket() -> None:
    door = Door()
    foreign = {"host": "studio.test", "origin": "https://evil.test"}
    await door(scope_of("POST", "/studio/sign-out", **foreign))
    assert door.sent[0]["status"] == 403
    await door(scope_of("GET", "/studio/_nicegui_ws/", "websocket", **foreign))
    assert door.sent[-1] == {"type": "websocket.close", "code": 1008}
    assert door.reached == []
    own = {"host": "studio.test", "origin": "https://studio.test"}
    assert await door(scope_of("POST", "/studio/sign-out", **own)) == ["studio"]
