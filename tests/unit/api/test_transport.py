from __future__ import annotations

import asyncio

import pytest

from tailorbird.api.transport import Transport


async def exchange(app, *, headers=(), chunks=(), method="POST", path="/v1/files", upload=True):
    """Runs one request through the transport; answers the messages it sent and how many chunks it took in."""
    waiting = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if waiting:
        waiting[-1]["more_body"] = False
    taken = 0
    sent: list[dict] = []

    async def receive():
        nonlocal taken
        if taken == len(waiting):
            await asyncio.sleep(3600)
        taken += 1
        return waiting[taken - 1]

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers), "query_string": b""}
    await Transport(app, lambda method, path: upload, lambda: "id" * 16)(scope, receive, send)
    return sent, taken


def answering(status: int, reads: int = 0):
    async def app(scope, receive, send):
        for _ in range(reads):
            await receive()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    return app


CHUNKED = [(b"transfer-encoding", b"chunked")]


async def test_a_refused_body_is_read_to_its_end_before_the_answer():
    sent, taken = await exchange(answering(401), headers=CHUNKED, chunks=[b"a", b"b", b"c"])
    assert (sent[0]["status"], taken) == (401, 3)


async def test_a_body_that_was_read_or_never_sent_is_not_waited_for():
    _, taken = await exchange(answering(400, reads=2), headers=CHUNKED, chunks=[b"a", b"b"])
    assert taken == 2
    _, taken = await exchange(answering(404), method="GET")
    assert taken == 0


async def test_a_client_that_asks_first_is_told_not_to_send():
    _, taken = await exchange(
        answering(413), headers=[(b"content-length", b"9"), (b"expect", b"100-continue")], chunks=[b"a"]
    )
    assert taken == 0


async def test_a_good_answer_leaves_the_body_alone():
    _, taken = await exchange(answering(200), headers=CHUNKED, chunks=[b"a"])
    assert taken == 0


async def test_ids_stand_on_every_answer():
    sent, _ = await exchange(answering(200), headers=[(b"x-ms-client-request-id", b"mine")])
    headers = dict(sent[0]["headers"])
    assert headers[b"x-request-id"] == headers[b"apim-request-id"] == b"id" * 16
    assert headers[b"x-ms-client-request-id"] == b"mine"


async def test_a_failure_before_the_answer_becomes_one():
    async def app(scope, receive, send):
        raise ValueError("secret")

    sent, _ = await exchange(app)
    assert sent[0]["status"] == 500
    assert b"secret" not in sent[1]["body"]
    assert b"id" * 16 in sent[1]["body"]


async def test_a_failure_within_the_answer_breaks_the_connection_and_one_after_it_does_not():
    async def within(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError

    async def after(scope, receive, send):
        await answering(200)(scope, receive, send)
        raise ValueError

    with pytest.raises(ValueError):
        await exchange(within)
    sent, _ = await exchange(after)
    assert len(sent) == 2


@pytest.mark.parametrize(
    ("path", "shown", "deployment"),
    [
        ("//openai//files/", "/openai/files", None),
        ("/", "/", None),
        ("/openai/deployments/my-dep/chat/completions", "/openai/chat/completions", "my-dep"),
        ("/openai/v1/deployments/v1/files", "/openai/v1/files", "v1"),
        ("/api/projects/p/openai/v1/deployments/d/models", "/api/projects/p/openai/v1/models", "d"),
        ("/openai/deployments/d", "/openai/deployments/d", None),
        ("/subscriptions/s/deployments/d/x", "/subscriptions/s/deployments/d/x", None),
    ],
)
async def test_paths_come_in_one_form(path, shown, deployment):
    seen: dict = {}

    async def app(scope, receive, send):
        seen.update(path=scope["path"], deployment=scope["state"]["deployment"])
        await answering(200)(scope, receive, send)

    await exchange(app, path=path)
    assert seen == {"path": shown, "deployment": deployment}


@pytest.mark.parametrize(
    ("asked", "path", "account", "deployment"),
    [
        ("/accounts/team/openai/v1/files", "/openai/v1/files", "team", None),
        ("//accounts/Team//v1/files/", "/v1/files", "Team", None),
        ("/accounts/team/openai/deployments/d/files", "/openai/files", "team", "d"),
        ("/accounts/team/api/projects/p/openai/v1/files", "/api/projects/p/openai/v1/files", "team", None),
        ("/openai/v1/files", "/openai/v1/files", None, None),
        ("/accounts/team/subscriptions", "/accounts/team/subscriptions", None, None),
        ("/accounts/team/v1x", "/accounts/team/v1x", None, None),
    ],
)
async def test_an_accounts_own_endpoint_is_the_data_plane_with_the_account_remembered(
    asked: str, path: str, account: str | None, deployment: str | None
):
    seen = {}

    async def app(scope, receive, send):
        seen.update(path=scope["path"], **scope["state"])
        await answering(200)(scope, receive, send)

    await exchange(app, method="GET", path=asked)
    assert (seen["path"], seen["account"], seen["deployment"]) == (path, account, deployment)
