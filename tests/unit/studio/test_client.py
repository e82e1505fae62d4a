"""The Studio's client: accounts, refusals, shared answers, tokens that are renewed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest

from tailorbird.studio.client import Api, Refused, Wire, token
from tailorbird.studio.session import Session, Sessions

SECOND = "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/second"


def api_of(wire: Wire, sessions: Sessions, **fields: Any) -> Api:
    given: dict[str, Any] = {"kind": "token", "name": "anna", "credential": "tok", **fields}
    session = Session(**given)
    cookie = sessions.begin(session)
    return Api(wire, sessions, cookie, session)


async def test_a_key_is_sent_as_a_key_and_a_token_with_the_account_it_means(
    service: Any, wire: Wire, sessions: Sessions
) -> None:
    service.answers["GET /openai/v1/files"] = {"data": []}
    by_key = api_of(wire, sessions, kind="key", credential="k1")
    await by_key.data("GET", "/files")
    by_token = api_of(wire, sessions)
    await by_token.choose()
    await by_token.data("GET", "/files")
    first, last = service.seen[0], service.seen[-1]
    assert (first.headers["api-key"], "authorization" in first.headers) == ("k1", False)
    assert (last.headers["authorization"], last.headers["x-tailorbird-account"]) == ("Bearer tok", "first")


async def test_the_chosen_account_is_kept_and_stands_before_every_path(
    service: Any, wire: Wire, sessions: Sessions
) -> None:
    service.answers["GET /accounts/second/openai/v1/files"] = {"data": []}
    api = api_of(wire, sessions)
    await api.choose(SECOND.upper())
    await api.data("GET", "/files")
    assert service.asked()[-1] == "GET /accounts/second/openai/v1/files"
    again = Api(wire, sessions, api._cookie, api.session)
    await again.choose()
    assert again.account is not None
    assert again.account.id == SECOND


@pytest.mark.parametrize(
    ("answer", "message", "param"),
    [
        ({"error": {"code": "invalidPayload", "message": "Too long.", "param": "suffix"}}, "Too long.", "suffix"),
        ({"error": {"code": "InvalidResourceProperties", "message": "No.", "target": "sku"}}, "No.", "sku"),
        ({"error": "invalid_grant", "error_description": "AADSTS50126: wrong."}, "AADSTS50126: wrong.", ""),
        ({"detail": "odd"}, "The service answered 400.", ""),
    ],
)
async def test_a_refusal_keeps_the_service_s_own_words(
    service: Any, wire: Wire, sessions: Sessions, answer: dict[str, Any], message: str, param: str
) -> None:
    service.answers["GET /openai/v1/files"] = httpx.Response(400, json=answer)
    with pytest.raises(Refused) as refused:
        await api_of(wire, sessions).data("GET", "/files")
    assert (refused.value.message, refused.value.param, refused.value.status) == (message, param, 400)


async def test_a_service_that_is_down_is_a_refusal_as_well(service: Any, wire: Wire, sessions: Sessions) -> None:
    def down(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    service.answers["GET /openai/v1/files"] = down
    with pytest.raises(Refused, match="did not answer"):
        await api_of(wire, sessions).data("GET", "/files")


async def test_many_pages_ask_once_and_a_change_makes_them_ask_anew(
    service: Any, wire: Wire, sessions: Sessions
) -> None:
    service.answers["GET /openai/v1/fine_tuning/jobs"] = {"data": []}
    service.answers["POST /openai/v1/fine_tuning/jobs"] = {"id": "ftjob-1"}
    api = api_of(wire, sessions)
    await asyncio.gather(*(api.fresh("/fine_tuning/jobs", 30.0) for _ in range(10)))
    assert service.asked().count("GET /openai/v1/fine_tuning/jobs") == 1
    await api.data("POST", "/fine_tuning/jobs", json={})
    await api.fresh("/fine_tuning/jobs", 30.0)
    assert service.asked().count("GET /openai/v1/fine_tuning/jobs") == 2


async def test_nobody_gets_what_somebody_else_asked_for(service: Any, wire: Wire, sessions: Sessions) -> None:
    service.answers["GET /openai/v1/files"] = lambda request: {"data": [request.headers["authorization"]]}
    mine = await api_of(wire, sessions, credential="mine").fresh("/files", 30.0)
    yours = await api_of(wire, sessions, credential="yours").fresh("/files", 30.0)
    assert (mine["data"], yours["data"]) == (["Bearer mine"], ["Bearer yours"])


async def test_a_list_is_read_to_its_end(service: Any, wire: Wire, sessions: Sessions) -> None:
    def page(request: httpx.Request) -> dict[str, Any]:
        after = request.url.params.get("after")
        return {"data": [{"id": "b"}], "has_more": False} if after else {"data": [{"id": "a"}], "has_more": True}

    service.answers["GET /openai/v1/files"] = page
    assert [row["id"] for row in await api_of(wire, sessions).every("/files")] == ["a", "b"]


async def test_a_token_about_to_end_is_renewed_once_for_all_pages(service: Any, wire: Wire, sessions: Sessions) -> None:
    service.answers["POST /common/oauth2/v2.0/token"] = {
        "access_token": "new",
        "refresh_token": "next",
        "expires_in": 3600,
    }
    service.answers["GET /openai/v1/files"] = {"data": []}
    one = api_of(wire, sessions, refresh_token="first", expires_at=time.time() + 5)
    other = Api(wire, sessions, one._cookie, one.session)
    await one.data("GET", "/files")
    await other.data("GET", "/files")
    assert service.asked().count("POST /common/oauth2/v2.0/token") == 1
    assert service.seen[-1].headers["authorization"] == "Bearer new"


async def test_a_chat_is_read_chunk_by_chunk_and_its_error_is_a_refusal(
    service: Any, wire: Wire, sessions: Sessions
) -> None:
    lines = b'data: {"n": 1}\n\ndata: {"n": 2}\n\ndata: {"error": {"message": "The engine went away."}}\n\n'
    service.answers["POST /openai/v1/chat/completions"] = httpx.Response(200, content=lines)
    seen: list[int] = []

    async def read() -> None:
        async for chunk in api_of(wire, sessions).events("/chat/completions", {"messages": []}):
            seen.append(chunk["n"])

    with pytest.raises(Refused, match="The engine went away"):
        await read()
    assert seen == [1, 2]


async def test_an_application_logs_in_without_a_refresh_token(service: Any, wire: Wire) -> None:
    service.answers["POST /common/oauth2/v2.0/token"] = {"access_token": "t", "expires_in": 60}
    fields = await token(wire, {"grant_type": "client_credentials", "client_id": "i", "client_secret": "s"})
    assert (fields["credential"], fields["refresh_token"]) == ("t", "")
    assert b"offline_access" not in service.seen[-1].content
