"""Answers of chat as JSON: whole, as chunks of a stream, and the headers that go with them."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from tailorbird.api.filtering import choice_results, first_chunk, prompt_results
from tailorbird.service.answers import Answer, AnswerStream, CallDelta, Choice, Delta, Head, TokenScore, Usage
from tailorbird.service.completions import ID_PREFIX
from tailorbird.service.rates import Allowance

_PADDED_TO = 32
"""Obfuscated chunks carry text and padding of a multiple of this many bytes, so that sizes tell little of words."""
_PADDING = string.ascii_letters + string.digits


def limit_headers(allowance: Allowance | None) -> dict[str, str]:
    """Azure's headers of what the deployment's rate limits leave; none where nothing is limited."""
    if allowance is None:
        return {}
    return {
        "x-ratelimit-limit-requests": str(allowance.limit_requests),
        "x-ratelimit-remaining-requests": str(allowance.remaining_requests),
        "x-ratelimit-reset-requests": str(allowance.reset_requests),
        "x-ratelimit-limit-tokens": str(allowance.limit_tokens),
        "x-ratelimit-remaining-tokens": str(allowance.remaining_tokens),
        "x-ratelimit-reset-tokens": str(allowance.reset_tokens),
    }


def head_json(head: Head, kind: str) -> dict[str, Any]:
    return {
        "id": f"{ID_PREFIX}{head.id}",
        "object": kind,
        "created": int(head.created_at.timestamp()),
        "model": head.model,
        "system_fingerprint": head.fingerprint,
    }


def usage_json(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def padded(chunk: dict[str, Any], text: str) -> dict[str, Any]:
    """The chunk with OpenAI's field that hides the length of its text."""
    missing = -len(text.encode()) % _PADDED_TO
    return chunk | {"obfuscation": "".join(secrets.choice(_PADDING) for _ in range(missing))}


# --- whole ------------------------------------------------------------------------------------------------------------


def chat_answer(answer: Answer, *, legacy: bool, annotated: bool = False) -> dict[str, Any]:
    """`legacy` calls in the old shape, `function_call`; `annotated` with what the content filter found, as Azure."""
    choices = [
        {
            "index": choice.index,
            "finish_reason": _reason(choice.finish_reason, legacy),
            "message": _message(choice, legacy),
            "logprobs": _logprobs(choice.scores),
            **(choice_results(choice.filtered) if annotated else {}),
        }
        for choice in answer.choices
    ]
    found = prompt_results(answer.prompts) if annotated else {}
    return head_json(answer.head, "chat.completion") | found | {"choices": choices, "usage": usage_json(answer.usage)}


def _message(choice: Choice, legacy: bool) -> dict[str, Any]:
    silent = choice.calls or choice.finish_reason == "content_filter"
    content = choice.text or (None if silent else "")
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    functions = [{"name": made.call.name, "arguments": made.call.arguments} for made in choice.calls]
    if functions and legacy:
        return message | {"function_call": functions[0]}
    if functions:
        calls = zip(choice.calls, functions, strict=True)
        return message | {"tool_calls": [{"id": m.id, "type": "function", "function": f} for m, f in calls]}
    return message


def _reason(reason: str | None, legacy: bool) -> str | None:
    return "function_call" if legacy and reason == "tool_calls" else reason


# --- streamed ---------------------------------------------------------------------------------------------------------


async def chat_chunks(
    stream: AnswerStream, *, legacy: bool, include_usage: bool, obfuscate: bool, annotated: bool = False
) -> AsyncGenerator[dict[str, Any], None]:
    """The role first, then text and calls as they come, the reason of the end alone in a last chunk of each choice."""
    head = head_json(stream.head, "chat.completion.chunk") | ({"usage": None} if include_usage else {})
    begun: set[int] = set()
    for chunk in first_chunk(stream.prompts) if annotated else ():
        yield chunk
    async with aclosing(stream.parts) as parts:
        async for part in parts:
            if isinstance(part, Usage):
                if include_usage:
                    yield head | {"choices": [], "usage": usage_json(part)}
                continue
            for choice in _choices(part, part.index not in begun, legacy):
                said = choice | (choice_results(part.filtered) if annotated else {})
                chunk = head | {"choices": [said]}
                yield padded(chunk, json.dumps(choice["delta"])) if obfuscate else chunk
            begun.add(part.index)


def _choices(part: Delta, first: bool, legacy: bool) -> list[dict[str, Any]]:
    """One chunk's choice for each thing a delta says."""
    choices: list[dict[str, Any]] = []
    if first:
        content = None if part.calls and not part.text else ""
        choices.append(_delta(part.index, {"role": "assistant", "content": content, "refusal": None}))
    if part.text or part.scores:
        choices.append(_delta(part.index, {"content": part.text}) | {"logprobs": _logprobs(part.scores)})
    choices += [_delta(part.index, _call_delta(call, legacy)) for call in part.calls]
    if part.finish_reason is not None:
        choices.append(_delta(part.index, {}) | {"finish_reason": _reason(part.finish_reason, legacy)})
    return choices


def _call_delta(call: CallDelta, legacy: bool) -> dict[str, Any]:
    function = {"arguments": call.arguments} | ({} if call.name is None else {"name": call.name})
    if legacy:
        return {"function_call": function}
    begin = {} if call.name is None else {"id": call.id, "type": "function"}
    return {"tool_calls": [{"index": call.index} | begin | {"function": function}]}


def _delta(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


def _logprobs(scores: list[TokenScore] | None) -> dict[str, Any] | None:
    if scores is None:
        return None
    content = [_token(score) | {"top_logprobs": [_token(other) for other in score.top]} for score in scores]
    return {"content": content, "refusal": None}


def _token(score: TokenScore) -> dict[str, Any]:
    return {"token": score.text, "logprob": score.logprob, "bytes": list(score.raw)}
