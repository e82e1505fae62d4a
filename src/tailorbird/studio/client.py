"""The Studio's only way to the service: its public HTTP API, with the credential of whoever is signed in."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import httpx

from tailorbird.studio.session import Session, Sessions

ARM_VERSION = "2024-10-01"
DATED_VERSION = "2024-10-21"
AZURE_SURFACE, OPENAI_SURFACE = "/openai/v1", "/v1"
ACCOUNT_HEADER = "x-tailorbird-account"
CLIENT_ID = "tailorbird-studio"
# A token that ends within this is renewed before it is used.
_RENEW_SECONDS = 60.0
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
_CACHED_ANSWERS = 2000


class Refused(Exception):
    """The service said no, or did not answer (`status` 0). The message is its own words, `param` the field at fault."""

    def __init__(self, message: str, *, status: int = 0, code: str = "", param: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.param = param


@dataclass(frozen=True, slots=True)
class Account:
    """An account the person reaches. `path` stands before every path of the data plane."""

    name: str
    id: str
    subscription: str
    resource_group: str
    location: str
    path: str
    actions: frozenset[str]


@dataclass
class Wire:
    """What all signed-in people share: connections to the service, and answers that are still fresh."""

    base: str
    http: httpx.AsyncClient = field(init=False)
    answers: dict[tuple[str, ...], tuple[float, asyncio.Task[Any]]] = field(
        init=False, default_factory=dict[tuple[str, ...], tuple[float, asyncio.Task[Any]]]
    )

    def __post_init__(self) -> None:
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=50)
        self.http = httpx.AsyncClient(base_url=self.base, timeout=_TIMEOUT, limits=limits, trust_env=False)

    async def close(self) -> None:
        await self.http.aclose()


class Api:
    """Calls in the name of one session. Every method raises Refused."""

    def __init__(self, wire: Wire, sessions: Sessions, cookie: str, session: Session) -> None:
        self._wire = wire
        self._sessions = sessions
        self._cookie = cookie
        self.session = session
        self.account: Account | None = None

    # --- the three planes ---------------------------------------------------------------------------------------------

    async def data(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, json: Any = None, **more: Any
    ) -> Any:
        """The data plane in Azure's v1 dialect, `/files` for `/openai/v1/files`."""
        return await self._ask(method, f"{self._path()}/openai/v1{path}", params=params, json=json, **more)

    async def dated(self, method: str, path: str) -> Any:
        """Azure's dated surface, for what v1 lacks: the deletion of jobs."""
        params = {"api-version": DATED_VERSION}
        return await self._ask(method, f"{self._path()}/openai{path}", params=params)

    async def own(self, method: str, path: str, *, params: Mapping[str, Any] | None = None, json: Any = None) -> Any:
        """What only Tailorbird has, `/usage` for `/tailorbird/v1/usage`."""
        return await self._ask(method, f"{self._path()}/tailorbird/v1{path}", params=params, json=json)

    async def arm(
        self,
        method: str,
        path: str = "",
        *,
        scope: str | None = None,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        version: str = ARM_VERSION,
    ) -> Any:
        """The control plane below the chosen account, or below `scope`; `/deployments` lists the account's."""
        above = (self.account.id if self.account else "") if scope is None else scope
        query = {"api-version": version, **(params or {})}
        return await self._ask(method, above + path, params=query, json=json, headers=headers)

    async def fresh(self, path: str, seconds: float, *, plane: str = "data", **params: Any) -> Any:
        """A GET whose answer all pages of this session share for some seconds: ten open pages ask once."""
        key = (self.session.credential, self._path(), plane, path, repr(sorted(params.items())))
        answers = self._wire.answers
        if (known := answers.get(key)) is not None and time.monotonic() - known[0] < seconds:
            return await asyncio.shield(known[1])
        ask = {"data": self.data, "own": self.own, "arm": self.arm}[plane]
        task = asyncio.create_task(ask("GET", path, params=params or None))
        # A refusal that nobody waited for is no news.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        if len(answers) > _CACHED_ANSWERS:
            answers.clear()
        answers[key] = (time.monotonic(), task)
        return await asyncio.shield(task)

    def forget(self) -> None:
        """After a change: the next look asks anew."""
        mine = [key for key in self._wire.answers if key[0] == self.session.credential]
        for key in mine:
            del self._wire.answers[key]

    async def every(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """All rows of a list of the data plane, page by page."""
        rows: list[dict[str, Any]] = []
        query: dict[str, Any] = {"limit": 100, **params}
        while True:
            page = await self.data("GET", path, params=query)
            rows += page["data"]
            if not page.get("has_more") or not page["data"]:
                return rows
            query["after"] = page["data"][-1]["id"]

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, *, surface: str = AZURE_SURFACE, **more: Any
    ) -> AsyncGenerator[httpx.Response]:
        """An answer of the data plane as it comes: `async with api.stream("GET", "/files/f/content") as answer`."""
        headers = {**(await self._headers()), **more.pop("headers", {})}
        url = f"{self._path()}{surface}{path}"
        more.setdefault("timeout", httpx.Timeout(600.0, connect=5.0))
        try:
            async with self._wire.http.stream(method, url, headers=headers, **more) as answer:
                if answer.status_code >= 400:
                    await answer.aread()
                    raise refusal(answer)
                yield answer
        except httpx.HTTPError as error:
            raise Refused(f"The service did not answer ({type(error).__name__}).") from error

    async def events(
        self, path: str, body: Mapping[str, Any], *, surface: str = AZURE_SURFACE
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The chunks of a streamed chat or completion. A model without a deployment answers on OPENAI_SURFACE alone."""
        async with self.stream("POST", path, surface=surface, json={**body, "stream": True}) as answer:
            async for line in answer.aiter_lines():
                text = line.removeprefix("data:").strip()
                if line.startswith("data:") and text and text != "[DONE]":
                    chunk = cast("dict[str, Any]", json.loads(text))
                    if "error" in chunk:
                        told = chunk["error"]
                        raise Refused(
                            str(told.get("message", "")), status=answer.status_code, code=str(told.get("code") or "")
                        )
                    yield chunk

    # --- who ----------------------------------------------------------------------------------------------------------

    async def caller(self) -> dict[str, Any]:
        return await self._ask("GET", "/tailorbird/v1/caller")

    async def choose(self, wanted: str = "") -> list[Account]:
        """Sets the account: the one with this resource id, else the session's, else the first. Returns all of them."""
        known = [_account(row) for row in (await self.caller())["accounts"]]
        asked = (wanted or self.session.account).lower()
        self.account = next((one for one in known if one.id.lower() == asked), known[0] if known else None)
        if wanted and self.account is not None and self.account.id.lower() == wanted.lower():
            self.session = self._sessions.change(self._cookie, account=self.account.id) or self.session
        return known

    # --- inside -------------------------------------------------------------------------------------------------------

    def _path(self) -> str:
        return self.account.path if self.account else ""

    async def _headers(self) -> dict[str, str]:
        await self._renew()
        account = {ACCOUNT_HEADER: self.account.name} if self.account and self.session.kind != "key" else {}
        return {**self.session.headers, **account}

    async def _renew(self) -> None:
        if not self.session.refresh_token or self.session.expires_at - time.time() > _RENEW_SECONDS:
            return
        # Another page may have done it already.
        self.session = self._sessions.find(self._cookie) or self.session
        if self.session.expires_at - time.time() > _RENEW_SECONDS:
            return
        form = {"grant_type": "refresh_token", "refresh_token": self.session.refresh_token}
        fields = await token(self._wire, form)
        self.session = self._sessions.change(self._cookie, **fields) or self.session

    async def _ask(self, method: str, url: str, **more: Any) -> Any:
        given: Mapping[str, str] = more.pop("headers", None) or {}
        headers = {**(await self._headers()), **given}
        try:
            answer = await self._wire.http.request(method, url, headers=headers, **more)
        except httpx.HTTPError as error:
            raise Refused(f"The service did not answer ({type(error).__name__}).") from error
        if answer.status_code >= 400:
            raise refusal(answer)
        if method != "GET":
            self.forget()
        kind = answer.headers.get("content-type", "")
        return answer.json() if kind.startswith("application/json") and answer.content else answer.text


def _account(row: Mapping[str, Any]) -> Account:
    fields = {name: row[name] for name in ("name", "id", "subscription", "resource_group", "location", "path")}
    return Account(**fields, actions=frozenset(row["actions"]))


def refusal(answer: httpx.Response) -> Refused:
    """The service's own words, whichever plane said them."""
    try:
        body = cast("dict[str, Any]", answer.json())
    except ValueError:
        body = {}
    error: Any = body.get("error")
    # OAuth's errors are words, its sentences stand beside them.
    told = cast("dict[str, Any]", error) if isinstance(error, dict) else {"code": error}
    text = told.get("message") or body.get("error_description") or f"The service answered {answer.status_code}."
    param = told.get("param") or told.get("target") or ""
    return Refused(str(text), status=answer.status_code, code=str(told.get("code") or ""), param=str(param))


async def token(wire: Wire, form: Mapping[str, str]) -> dict[str, Any]:
    """A login at the token endpoint, as fields of a session. Raises Refused."""
    try:
        cloud = (await wire.http.get("/metadata/endpoints", params={"api-version": "2022-09-01"})).json()
        audience = cloud["authentication"]["audiences"][0]
        scope = f"{audience}/.default" + ("" if form["grant_type"] == "client_credentials" else " offline_access")
        answer = await wire.http.post(
            "/common/oauth2/v2.0/token", data={"client_id": CLIENT_ID, "scope": scope, **form}
        )
    except httpx.HTTPError as error:
        raise Refused(f"The service did not answer ({type(error).__name__}).") from error
    if answer.status_code >= 400:
        raise refusal(answer)
    told = answer.json()
    return {
        "credential": told["access_token"],
        "refresh_token": told.get("refresh_token", ""),
        "expires_at": time.time() + float(told["expires_in"]),
    }
