"""Route of chat completions, plain and streamed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from tailorbird.api.answers import chat_answer, chat_chunks, limit_headers
from tailorbird.api.auth import allow
from tailorbird.api.bodies import read_body
from tailorbird.api.bodies.chat import ChatBody
from tailorbird.api.bodies.inference import SamplingBody
from tailorbird.api.context import Given, Spoken, only_query
from tailorbird.api.events import EventStream, while_connected
from tailorbird.api.openapi import STREAMED
from tailorbird.api.shapes import ChatObject
from tailorbird.domain.access import Account, Action
from tailorbird.domain.errors import InvalidRequest
from tailorbird.service.answers import ChatAsk, Sampling

router = APIRouter(tags=["inference"])

Chatter = Annotated[Account, Depends(allow(Action.CHAT))]


@router.post("/chat/completions", dependencies=[Depends(only_query())], response_model=ChatObject, responses=STREAMED)
async def chat(
    request: Request,
    account: Chatter,
    body: Annotated[ChatBody, Depends(read_body(ChatBody))],
    services: Given,
    dialect: Spoken,
) -> Response:
    ask, direct = _ask(request, body), dialect.direct_models
    if body.stream:
        stream = await while_connected(request, services.chat.stream_chat(account.id, ask, direct_models=direct))
        usage, hide = bool(body.streaming.include_usage), bool(body.streaming.include_obfuscation)
        chunks = chat_chunks(
            stream, legacy=body.legacy, include_usage=usage, obfuscate=hide, annotated=dialect.annotates
        )
        return EventStream(chunks, dialect.family, limit_headers(stream.allowance))
    answer = await while_connected(request, services.chat.chat(account.id, ask, direct_models=direct))
    return JSONResponse(
        chat_answer(answer, legacy=body.legacy, annotated=dialect.annotates), headers=limit_headers(answer.allowance)
    )


def _ask(request: Request, body: ChatBody) -> ChatAsk:
    return ChatAsk(
        model=model_of(request, body.model),
        messages=body.messages,
        sampling=sampling_of(body, (body.top_logprobs or 0) if body.logprobs else None),
        max_tokens=body.max_completion_tokens if body.max_tokens is None else body.max_tokens,
        tools=body.tools_asked(),
        structure=body.structure(),
        keep=body.keep(),
        version=version_of(request),
    )


# --- what all of inference reads alike --------------------------------------------------------------------------------


def model_of(request: Request, named: str | None) -> str:
    """The deployment in the path decides over the body's model."""
    name: str | None = request.state.deployment or named
    if not name:
        raise InvalidRequest("'model' is missing; name a deployment.", param="model")
    return name


def version_of(request: Request) -> str:
    return request.query_params.get("api-version", "v1")


def sampling_of(body: SamplingBody, top_logprobs: int | None) -> Sampling:
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
