"""Routes of inference: chat completions and completions, plain and streamed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from tailorbird.api.auth import allow
from tailorbird.api.bodies import ChatBody, CompletionBody, SamplingBody, read_body
from tailorbird.api.context import Given, Spoken, only_query
from tailorbird.api.events import EventStream, while_connected
from tailorbird.domain.access import Account, Action
from tailorbird.domain.errors import InvalidRequest
from tailorbird.service.answers import (
    Answer,
    AnswerStream,
    ChatAsk,
    Choice,
    CompletionAsk,
    Delta,
    Head,
    Sampling,
    TokenScore,
    Usage,
)

router = APIRouter(tags=["inference"])

Chatter = Annotated[Account, Depends(allow(Action.CHAT))]
Completer = Annotated[Account, Depends(allow(Action.COMPLETE))]


# --- routes -----------------------------------------------------------------------------------------------------------


@router.post("/chat/completions", dependencies=[Depends(only_query())])
async def chat(
    request: Request,
    account: Chatter,
    body: Annotated[ChatBody, Depends(read_body(ChatBody))],
    services: Given,
    dialect: Spoken,
) -> Response:
    ask, direct = _chat_ask(request, body), dialect.direct_models
    if body.stream:
        stream = await while_connected(request, services.chat.stream_chat(account.id, ask, direct_models=direct))
        return EventStream(_chat_chunks(stream, body.include_usage), dialect.family)
    answer = await while_connected(request, services.chat.chat(account.id, ask, direct_models=direct))
    return JSONResponse(_chat_answer(answer))


@router.post("/completions", dependencies=[Depends(only_query())])
async def complete(
    request: Request,
    account: Completer,
    body: Annotated[CompletionBody, Depends(read_body(CompletionBody))],
    services: Given,
    dialect: Spoken,
) -> Response:
    ask, direct = _completion_ask(request, body), dialect.direct_models
    if body.stream:
        stream = await while_connected(request, services.chat.stream_completion(account.id, ask, direct_models=direct))
        return EventStream(_completion_chunks(stream, body.include_usage), dialect.family)
    answer = await while_connected(request, services.chat.complete(account.id, ask, direct_models=direct))
    return JSONResponse(_completion_answer(answer))


# --- in ---------------------------------------------------------------------------------------------------------------


def _model(request: Request, body: SamplingBody) -> str:
    """The deployment in the path decides over the body's model."""
    name: str | None = request.state.deployment or body.model
    if not name:
        raise InvalidRequest("'model' is missing; name a deployment.", param="model")
    return name


def _sampling(body: SamplingBody, top_logprobs: int | None) -> Sampling:
    # A field sent as null is a field left out.
    return Sampling(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        n=body.n or 1,
        stop=tuple(body.stop or ()),
        seed=body.seed,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        logit_bias=body.logit_bias or {},
        top_logprobs=top_logprobs,
    )


def _chat_ask(request: Request, body: ChatBody) -> ChatAsk:
    limit = body.max_completion_tokens if body.max_tokens is None else body.max_tokens
    scores = (body.top_logprobs or 0) if body.logprobs else None
    return ChatAsk(_model(request, body), body.messages, _sampling(body, scores), limit)


def _completion_ask(request: Request, body: CompletionBody) -> CompletionAsk:
    sampling = _sampling(body, body.logprobs)
    return CompletionAsk(_model(request, body), body.prompts, sampling, body.max_tokens, bool(body.echo))


# --- out, chat --------------------------------------------------------------------------------------------------------


def _chat_head(head: Head, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{head.id}",
        "object": kind,
        "created": int(head.created_at.timestamp()),
        "model": head.model,
        "system_fingerprint": head.fingerprint,
    }


def _chat_answer(answer: Answer) -> dict[str, Any]:
    choices = [
        {
            "index": choice.index,
            "finish_reason": choice.finish_reason,
            "message": {"role": "assistant", "content": choice.text, "refusal": None},
            "logprobs": _chat_logprobs(choice.scores),
        }
        for choice in answer.choices
    ]
    return _chat_head(answer.head, "chat.completion") | {"choices": choices, "usage": _usage(answer.usage)}


async def _chat_chunks(stream: AnswerStream, include_usage: bool) -> AsyncGenerator[dict[str, Any], None]:
    """The role first, then text as it comes, the reason of the end alone in a last chunk of each choice."""
    head = _chat_head(stream.head, "chat.completion.chunk") | ({"usage": None} if include_usage else {})
    begun: set[int] = set()
    async with aclosing(stream.parts) as parts:
        async for part in parts:
            if isinstance(part, Usage):
                if include_usage:
                    yield head | {"choices": [], "usage": _usage(part)}
                continue
            if part.index not in begun:
                begun.add(part.index)
                first = {"role": "assistant", "content": "", "refusal": None}
                yield head | {"choices": [_chat_delta(part.index, first)]}
            if part.text or part.scores:
                delta = _chat_delta(part.index, {"content": part.text})
                yield head | {"choices": [delta | {"logprobs": _chat_logprobs(part.scores)}]}
            if part.finish_reason is not None:
                yield head | {"choices": [_chat_delta(part.index, {}) | {"finish_reason": part.finish_reason}]}


def _chat_delta(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


def _chat_logprobs(scores: list[TokenScore] | None) -> dict[str, Any] | None:
    if scores is None:
        return None
    content = [_token(score) | {"top_logprobs": [_token(other) for other in score.top]} for score in scores]
    return {"content": content, "refusal": None}


def _token(score: TokenScore) -> dict[str, Any]:
    return {"token": score.text, "logprob": score.logprob, "bytes": list(score.raw)}


# --- out, completions -------------------------------------------------------------------------------------------------


def _completion_head(head: Head) -> dict[str, Any]:
    return _chat_head(head, "text_completion") | {"id": f"cmpl-{head.id}"}


def _completion_answer(answer: Answer) -> dict[str, Any]:
    choices = [_completion_choice(choice, 0) for choice in answer.choices]
    return _completion_head(answer.head) | {"choices": choices, "usage": _usage(answer.usage)}


async def _completion_chunks(stream: AnswerStream, include_usage: bool) -> AsyncGenerator[dict[str, Any], None]:
    head = _completion_head(stream.head) | ({"usage": None} if include_usage else {})
    written: dict[int, int] = {}
    async with aclosing(stream.parts) as parts:
        async for part in parts:
            if isinstance(part, Delta):
                offset = written.get(part.index, 0)
                written[part.index] = offset + len(part.text)
                yield head | {"choices": [_completion_choice(part, offset)]}
            elif include_usage:
                yield head | {"choices": [], "usage": _usage(part)}


def _completion_choice(part: Choice | Delta, offset: int) -> dict[str, Any]:
    return {
        "index": part.index,
        "text": part.text,
        "finish_reason": part.finish_reason,
        "logprobs": _completion_logprobs(part.scores, offset),
    }


def _completion_logprobs(scores: list[TokenScore] | None, offset: int) -> dict[str, Any] | None:
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


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
