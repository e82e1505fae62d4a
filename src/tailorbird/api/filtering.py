"""What the content filter found, in Azure's shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tailorbird.domain.safety import Category, Filtered

_NAMES = {
    Category.HATE_FAIRNESS: "hate",
    Category.SELF_HARM: "self_harm",
    Category.SEXUAL: "sexual",
    Category.VIOLENCE: "violence",
}


def filter_results(filtered: Filtered) -> dict[str, Any]:
    """`{"hate": {"filtered", "severity"}, …}`."""
    return {
        name: {"filtered": category in filtered.harms, "severity": filtered.scores[category].word}
        for category, name in _NAMES.items()
    }


def prompt_results(prompts: Sequence[Filtered] | None) -> dict[str, Any]:
    """The field of an answer that tells of its prompts; none where nothing is filtered."""
    if prompts is None:
        return {}
    found = [
        {"prompt_index": index, "content_filter_results": filter_results(one)} for index, one in enumerate(prompts)
    ]
    return {"prompt_filter_results": found}


def choice_results(filtered: Filtered | None) -> dict[str, Any]:
    """The field of a choice that tells of its text."""
    return {} if filtered is None else {"content_filter_results": filter_results(filtered)}


def first_chunk(prompts: Sequence[Filtered] | None) -> list[dict[str, Any]]:
    """What Azure begins a filtered stream with."""
    if prompts is None:
        return []
    return [{"id": "", "object": "", "created": 0, "model": "", "choices": [], **prompt_results(prompts)}]
