"""Answers chat requests: renders the conversation with its tools, holds the answer to what was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from tailorbird.dataset.calls import CallFormat
from tailorbird.dataset.records import Message, parse_messages
from tailorbird.dataset.render import Renderer, RenderError
from tailorbird.domain.errors import InvalidRequest
from tailorbird.service.answers import Answer, AnswerStream, ChatAsk, Delta, Keep, Usage
from tailorbird.service.completions import Collected, StoredCompletions
from tailorbird.service.filtering import texts_of_messages
from tailorbird.service.inference import Inference, Prepared, check_bias, request_of, room, wrong_operation
from tailorbird.service.rates import estimated_tokens
from tailorbird.service.tools import ToolPlan, plan_tools

SCHEMA_PARAM = "response_format.json_schema.schema"
_SHOWN_FAULTS = 5
_ANSWERING = ("tool", "function")
_WORD = "zqtailorbirdzq"


class Chat:
    """`direct_models` below: whether models may be named without a deployment, as OpenAI's clients do."""

    def __init__(self, inference: Inference, stored: StoredCompletions) -> None:
        self._inference = inference
        self._stored = stored
        self._forms: dict[str, CallFormat] = {}

    async def chat(self, account_id: str, ask: ChatAsk, *, direct_models: bool) -> Answer:
        """Raises DeploymentNotFound, ModelNotFound, InvalidRequest naming the field, TooManyRequests, Unavailable."""
        prepared = await asyncio.to_thread(self._prepare, account_id, ask, direct_models)
        answer = await self._inference.answered(prepared)
        if ask.keep is not None:
            await asyncio.to_thread(self._keep, prepared, ask.keep, answer)
        return answer

    async def stream_chat(self, account_id: str, ask: ChatAsk, *, direct_models: bool) -> AnswerStream:
        """As `chat`; returns once the first token is there, so that what can go wrong has gone wrong by then.

        An answer that is to be stored is stored when it is whole."""
        prepared = await asyncio.to_thread(self._prepare, account_id, ask, direct_models)
        stream = await self._inference.streamed(prepared)
        return stream if ask.keep is None else replace(stream, parts=self._keeping(prepared, ask.keep, stream))

    async def _keeping(
        self, prepared: Prepared, keep: Keep, stream: AnswerStream
    ) -> AsyncGenerator[Delta | Usage, None]:
        collected = Collected()
        async with aclosing(stream.parts) as parts:
            async for part in parts:
                if isinstance(part, Usage):
                    # Before the client is told that this was all: from then on it may ask for it.
                    await asyncio.to_thread(self._keep, prepared, keep, collected.answer(stream.head, part))
                else:
                    collected.add(part)
                yield part

    def _keep(self, prepared: Prepared, keep: Keep, answer: Answer) -> None:
        deployment = prepared.target.deployment
        self._stored.keep(prepared.account_id, keep, None if deployment is None else deployment.name, answer)

    def _prepare(self, account_id: str, ask: ChatAsk, direct_models: bool) -> Prepared:
        inference = self._inference
        target, entry = inference.find(account_id, ask.model, direct_models=direct_models)
        if not entry.chat:
            raise wrong_operation("chatCompletion", "chat/completions", entry)
        renderer = inference.catalogue.renderer(target.base)
        plan = None
        if ask.tools is not None:
            plan = plan_tools(renderer, self._forms, ask.tools, ask.structure, entry.name)
        structure = ask.structure if plan is None else plan.structure
        prompt = _render(renderer, ask, plan)
        space = room(len(prompt), ask.max_tokens, inference.catalogue.base(target.base).max_tokens, "messages")
        check_bias(ask.sampling, renderer)
        request = request_of(target, prompt, space, ask.sampling, renderer.stop_token_ids, structure)
        tokens = estimated_tokens(len(prompt), ask.max_tokens, ask.sampling.n)
        content = inference.filter_of(account_id, target)
        return Prepared(
            account_id,
            inference.head(target, renderer),
            target,
            renderer,
            [request],
            [""],
            given=ask.sampling.n,
            allowance=inference.admit(target, tokens, "ChatCompletions_Create", ask.version),
            reading=None
            if plan is None
            else lambda: plan.reading(renderer, prompt, ask.sampling.stop, inference.new_hex),
            structure_param=_blamed(ask) if structure is not None else None,
            content=content,
            said=[] if content is None else [texts_of_messages(ask.messages)],
        )


def _blamed(ask: ChatAsk) -> str | None:
    """The field an engine means that cannot hold an answer to what was asked for."""
    if ask.structure is not None and ask.structure.kind == "json_schema":
        return SCHEMA_PARAM
    return None if ask.tools is None else ask.tools.param


def _render(renderer: Renderer, ask: ChatAsk, plan: ToolPlan | None) -> list[int]:
    messages = parse_messages(ask.messages)
    if isinstance(messages, list):
        shown = "; ".join(f"{where}: {text}" if where else text for where, text in messages[:_SHOWN_FAULTS])
        more = f" … and {len(messages) - _SHOWN_FAULTS} more." if len(messages) > _SHOWN_FAULTS else ""
        raise InvalidRequest(shown + more, param=messages[0][0] or "messages")
    choice = None if plan is None else plan.choice
    said: dict[str, Any] = {"tools": None if choice is None else choice.tools, "add_generation_prompt": True}
    if choice is not None and choice.parallel_sent is not None:
        said["parallel_tool_calls"] = choice.parallel_sent
    shown = [message.to_template() for message in messages]
    try:
        if any(message.tool_calls or message.role in _ANSWERING for message in messages):
            _refuse_hidden(messages, lambda turns: renderer.render_text(turns, **said))
        return renderer.render_chat(shown, **said)
    except RenderError as error:
        raise InvalidRequest(
            f"These messages do not fit the model's chat template: {error}", param="messages"
        ) from error


def _refuse_hidden(messages: Sequence[Message], render: Callable[[list[dict[str, Any]]], str]) -> None:
    """Refuses a conversation in which the model would not see who was called, or what was answered."""
    shown = [message.to_template() for message in messages]
    text = render(shown)
    for index, message in enumerate(messages):
        if any(call["function"]["name"] not in text for call in message.tool_calls):
            raise _hidden(f"messages[{index}].tool_calls")
        content = (message.content or "").strip()
        if message.role not in _ANSWERING or not content or content in text:
            continue
        # It may be written otherwise, as JSON perhaps: then a plain word in its place is seen.
        changed = render([*shown[:index], {**shown[index], "content": _WORD}, *shown[index + 1 :]])
        if _WORD not in changed:
            raise _hidden(f"messages[{index}].content")


def _hidden(field: str) -> InvalidRequest:
    return InvalidRequest(
        f"'{field}' would not reach the model: its chat template leaves tool calls or their results out. Remove it, or "
        "choose another model.",
        param=field,
    )
