"""Any OpenAI-compatible `/moderations` endpoint: its scores become severities by cuts of ours.

Cuts (docs/moderation.md): from 0.2 low, from 0.5 medium, from 0.8 high. What the endpoint flags is medium at least.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import httpx

from tailorbird.domain.safety import Category, Scores, Severity
from tailorbird.service.ports import ModeratorDown

CUTS = ((Severity.HIGH, 0.8), (Severity.MEDIUM, 0.5), (Severity.LOW, 0.2))
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
_AT_ONCE = 32
"""Texts in one request: OpenAI takes that many, others seldom less."""

# `harassment` is about persons as `hate` is about groups; Azure calls both hate and fairness.
_OF = {"hate": Category.HATE_FAIRNESS, "harassment": Category.HATE_FAIRNESS, "self-harm": Category.SELF_HARM,
       "sexual": Category.SEXUAL, "violence": Category.VIOLENCE}  # fmt: skip


def severity_of(probability: float) -> Severity:
    """By the documented cuts."""
    return next((severity for severity, cut in CUTS if probability >= cut), Severity.SAFE)


class EndpointModerator:
    """`url` is the API's base (`https://host/v1`) or the endpoint itself; `model` is sent when there is one."""

    def __init__(self, url: str, key: str = "", model: str = "", client: httpx.AsyncClient | None = None) -> None:
        self._url = url if url.rstrip("/").endswith("/moderations") else f"{url.rstrip('/')}/moderations"
        # OpenAI and those like it read the first header, Azure's gateways the second.
        self._headers = {"Authorization": f"Bearer {key}", "api-key": key} if key else {}
        self._model = {"model": model} if model else {}
        self._client = client or httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False)

    async def score(self, texts: Sequence[str]) -> list[Scores]:
        found: list[Scores] = []
        for at in range(0, len(texts), _AT_ONCE):
            found += await self._ask(list(texts[at : at + _AT_ONCE]))
        return found

    async def _ask(self, texts: list[str]) -> list[Scores]:
        try:
            response = await self._client.post(self._url, json={"input": texts, **self._model}, headers=self._headers)
        except httpx.HTTPError as error:
            raise ModeratorDown(f"the moderation endpoint cannot be reached: {error!r}") from error
        if response.status_code != 200:
            raise ModeratorDown(f"the moderation endpoint answered {response.status_code}: {response.text[:200]}")
        try:
            results = [_scores(result) for result in response.json()["results"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModeratorDown(f"the moderation endpoint's answer cannot be read: {error!r}") from error
        if len(results) != len(texts):
            raise ModeratorDown(f"the moderation endpoint gave {len(results)} results for {len(texts)} texts")
        return results


def _scores(result: Mapping[str, Any]) -> Scores:
    found = dict.fromkeys(Category, Severity.SAFE)
    scores = cast("dict[str, float]", result["category_scores"])
    flags = cast("dict[str, bool | None]", result.get("categories") or {})
    for name in {*scores, *flags}:
        # "self-harm/intent" and Python clients' "self_harm_intent" belong to what they begin with.
        category = next((c for start, c in _OF.items() if name.replace("_", "-").startswith(start)), None)
        if category is None:
            continue
        severity = severity_of(float(scores.get(name) or 0.0))
        if flags.get(name):
            severity = max(severity, Severity.MEDIUM)
        found[category] = max(found[category], severity)
    return found
