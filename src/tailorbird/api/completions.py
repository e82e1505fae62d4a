"""Route of completions, plain and streamed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from tailorbird.api.answers import head_json, limit_headers, padded, usage_json
from tailorbird.api.auth import allow
from tailorbird.api.bodies import read_body
from tailorbird.api.bodies.inference import CompletionBody
from tailorbird.api.chat import model_of, sampling_of, version_of
from tailorbird.api.context import Given, Spoken, only_query
from tailorbird.api.events import EventStream, while_connected
from tailorbird.api.filtering import choice_results, first_chunk, prompt_results
from tailorbird.api.openapi import STREAMED
from tailorbird.api.shapes import CompletionObject
from tailorbird.domain.access import Account, Action
from tailorbird.service.answers import Answer, AnswerStream, Choice, CompletionAsk, Delta, Head, TokenScore

router = APIRouter(tags=["inference"])

Completer = Annotated[Account, Depends(allow(Action.COMPLETE))]


@router.post("/completions", dependencies=[Depends(only_query())], response_model=CompletionObject, responses=STREAMED)
async def complete(
    request: Request,
    account: Completer,
    body: Annotated[CompletionBody, Depends(read_body(CompletionBody))],
    services: Given,
    dialect: Spoken,
) -> Response:
    ask, direct = _ask(request, body), dialect.direct_models
    if body.stream:
        work = services.prompts.stream_completion(account.id, ask, direct_models=direct)
        stream = await while_connected(request, work)
        usage, hide = bool(body.streaming.include_usage), bool(body.streaming.include_obfuscation)
        return EventStream(
            _chunks(stream, usage, hide, dialect.annotates), dialect.family, limit_headers(stream.allowance)
        )
    answer = await while_connected(request, services.prompts.complete(account.id, ask, direct_models=direct))
    return JSONResponse(_answer(answer, dialect.annotates), headers=limit_headers(answer.allowance))


def _ask(request: Request, body: CompletionBody) -> CompletionAsk:
    return CompletionAsk(
        model=model_of(request, body.model),
        prompts=body.prompts,
        sampling=sampling_of(body, body.logprobs),
        max_tokens=body.max_tokens,
        echo=bool(body.echo),
        best_of=body.best_of or None,
        version=version_of(request),
    )


def _head(head: Head) -> dict[str, Any]:
    return head_json(head, "text_completion") | {"id": f"cmpl-{head.id}"}


def _answer(answer: Answer, annotated: bool) -> dict[str, Any]:
    choices = [_choice(choice, 0, annotated) for choice in answer.choices]
    found = prompt_results(answer.prompts) if annotated else {}
    return _head(answer.head) | found | {"choices": choices, "usage": usage_json(answer.usage)}


async def _chunks(
    stream: AnswerStream, include_usage: bool, obfuscate: bool, annotated: bool
) -> AsyncGenerator[dict[str, Any], None]:
    head = _head(stream.head) | ({"usage": None} if include_usage else {})
    written: dict[int, int] = {}
    for chunk in first_chunk(stream.prompts) if annotated else ():
        yield chunk
    async with aclosing(stream.parts) as parts:
        async for part in parts:
            if isinstance(part, Delta):
                offset = written.get(part.index, 0)
                written[part.index] = offset + len(part.text)
                chunk = head | {"choices": [_choice(part, offset, annotated)]}
                yield padded(chunk, part.text) if obfuscate else chunk
            elif include_usage:
                yield head | {"choices": [], "usage": usage_json(part)}


def _choice(part: Choice | Delta, offset: int, annotated: bool) -> dict[str, Any]:
    return {
        **(choice_results(part.filtered) if annotated else {}),
        "index": part.index,
        "text": part.text,
        "finish_reason": part.finish_reason,
        "logprobs": _logprobs(part.scores, offset),
    }


def _logprobs(scores: list[TokenScore] | None, offset: int) -> dict[str, Any] | None:
    """Parallel lists; `text_offset` counts characters from the begin of the choice's text."""
    if scores is None:
        return None
    offsets: list[int] = []
    for score in scores:
        offsets.append(offset)
        offset += len(score.text)
    return {
        "tokens": [score.text for score in scores],
        "token_logprobs": [score.logprob for score in scores],
        "top_logprobs": [{other.text: other.logprob for other in score.top} or None for score in scores],
        "text_offset": offsets,
    }
