"""A moderation endpoint: scores become severities, anything but an answer means that nothing was judged."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tailorbird.domain.safety import Category, Severity
from tailorbird.infra.moderation.endpoint import EndpointModerator
from tailorbird.service.ports import ModeratorDown


def endpoint(answer: Any, seen: list[httpx.Request] | None = None, status: int = 200) -> EndpointModerator:
    def handle(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        body = answer(json.loads(request.content)) if callable(answer) else answer
        return httpx.Response(status, json=body)

    client = httpx.AsyncClient(transport=httpx.MockTransport(handle))
    return EndpointModerator("https://host/v1/", "key", "omni", client)


def results(*scores: dict[str, float], **flags: bool) -> dict[str, Any]:
    return {"results": [{"category_scores": one, "categories": flags} for one in scores]}


async def test_scores_become_severities_by_the_documented_cuts() -> None:
    scores = {"hate": 0.19, "harassment/threatening": 0.2, "self-harm": 0.5, "sexual": 0.8, "violence": 0.79}
    (found,) = await endpoint(results(scores)).score(["text"])
    assert found == {
        Category.HATE_FAIRNESS: Severity.LOW,
        Category.SELF_HARM: Severity.MEDIUM,
        Category.SEXUAL: Severity.HIGH,
        Category.VIOLENCE: Severity.MEDIUM,
    }


async def test_what_the_endpoint_flags_is_medium_at_least() -> None:
    (found,) = await endpoint(results({"self_harm_intent": 0.1}, self_harm_intent=True)).score(["text"])
    assert found[Category.SELF_HARM] is Severity.MEDIUM


async def test_many_texts_are_asked_in_several_requests_with_key_and_model() -> None:
    seen: list[httpx.Request] = []
    moderator = endpoint(lambda body: results(*({"violence": float(text)} for text in body["input"])), seen)
    found = await moderator.score([str(n % 2) for n in range(70)])
    assert [scores[Category.VIOLENCE] is Severity.HIGH for scores in found] == [bool(n % 2) for n in range(70)]
    assert [len(json.loads(request.content)["input"]) for request in seen] == [32, 32, 6]
    assert seen[0].url == "https://host/v1/moderations"
    assert seen[0].headers["authorization"] == "Bearer key"
    assert json.loads(seen[0].content)["model"] == "omni"


@pytest.mark.parametrize(
    ("answer", "status"),
    [({"error": "busy"}, 503), ({"results": []}, 200), ({"results": [{}]}, 200), ([], 200), ({"results": "no"}, 200)],
)
async def test_anything_but_an_answer_means_the_moderator_is_down(answer: Any, status: int) -> None:
    with pytest.raises(ModeratorDown):
        await endpoint(answer, status=status).score(["text"])


async def test_an_endpoint_nobody_listens_at_is_down() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    moderator = EndpointModerator("https://host/v1", client=httpx.AsyncClient(transport=httpx.MockTransport(refuse)))
    with pytest.raises(ModeratorDown, match="cannot be reached"):
        await moderator.score(["text"])
