"""A deployment's rate limits as clients see them: headers on what was let through, Azure's 429 on what was not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tailorbird.api.answers import limit_headers
from tailorbird.service.rates import Allowance

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10}
PROMPT = 5
"""Tokens of the rendered question: its two letters and three marks."""

Send = Callable[..., Any]


def limits(answer: Any) -> dict[str, int]:
    found = {name: value for name, value in answer.headers.items() if name.startswith("x-ratelimit-")}
    return {name.removeprefix("x-ratelimit-"): int(value) for name, value in found.items()}


def test_what_is_left_stands_in_azure_s_headers() -> None:
    assert limit_headers(Allowance(6, 5, 1000, 984, 10, 1)) == {
        "x-ratelimit-limit-requests": "6",
        "x-ratelimit-remaining-requests": "5",
        "x-ratelimit-reset-requests": "10",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "984",
        "x-ratelimit-reset-tokens": "1",
    }
    assert limit_headers(None) == {}


def test_prompt_and_longest_answers_are_counted_before_anything_is_generated(
    call: Any, deployed: str, engine: Any
) -> None:
    path = f"/deployments/{deployed}/chat/completions"
    first = limits(call("POST", path, json=ASK))
    assert (first["limit-tokens"], first["remaining-tokens"]) == (1000, 1000 - PROMPT - 10)
    assert first["limit-requests"] == first["remaining-requests"] + 1
    second = limits(call("POST", path, json=ASK | {"n": 3, "stream": True}))
    assert second["remaining-tokens"] in range(1000 - 2 * PROMPT - 40, 1000 - 2 * PROMPT - 37), "streams carry them too"


def test_beyond_the_limit_azure_s_429_says_how_long_to_wait(call: Any, deployed: str, engine: Any) -> None:
    path = f"/deployments/{deployed}/chat/completions"
    assert call("POST", path, json=ASK | {"n": 90}).status_code == 200
    asked = len(engine.asked)
    answer = call("POST", path, json=ASK | {"n": 90})
    assert answer.status_code == 429
    assert len(engine.asked) == asked, "nothing was generated"
    error = answer.json()["error"]
    assert error["code"] == ("rate_limit_exceeded" if call.is_openai else "429")
    version = "2024-10-21" if call.surface == "azure" else "v1"
    assert error["message"].startswith(
        f"Requests to the ChatCompletions_Create Operation under Azure OpenAI API version {version} have exceeded "
        "token rate limit of your current OpenAI S0 pricing tier. Please retry after "
    )
    assert 0 < int(answer.headers["retry-after-ms"]) <= 60_000
    assert 0 < int(answer.headers["retry-after"]) <= 60


def test_embeddings_and_completions_are_counted_under_their_own_names(
    on: Any, world: Any, account: Any, engine: Any
) -> None:
    call = on("azure-v1")
    for name, model, path, body, operation in (
        ("vectors", "text-embedding-3-small", "/embeddings", {"input": "x" * 200}, "Embeddings_Create"),
        ("text", "babbage-002", "/completions", {"prompt": "x" * 190, "max_tokens": 10}, "Completions_Create"),
    ):
        world.services.deployments.create(account, name, model_name=model, by="test")
        asyncio.run(world.services.deployments.provision(account.id, name))
        answers = [call("POST", path, json={"model": name} | body) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429]
        assert limits(answers[0])["remaining-tokens"] == 800
        assert f"Requests to the {operation} Operation" in answers[-1].json()["error"]["message"]
        asyncio.run(world.services.deployments.delete(account.id, name))


def test_a_model_named_without_a_deployment_is_not_limited(on: Any, engine: Any) -> None:
    answer = on("openai")("POST", "/chat/completions", json=ASK | {"model": "gpt-4o-mini"})
    assert limits(answer) == {}


def test_a_request_that_is_refused_counts_nothing(on: Any, deployed: str, engine: Any) -> None:
    call = on("azure-v1")
    for _ in range(10):
        assert call("POST", "/chat/completions", json=ASK | {"model": deployed, "max_tokens": 300}).status_code == 400
    answer = call("POST", "/chat/completions", json=ASK | {"model": deployed})
    assert limits(answer)["remaining-tokens"] == pytest.approx(1000 - PROMPT - 10)
