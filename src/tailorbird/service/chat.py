"""Answers chat and completion requests: finds what serves them, renders the prompt, asks the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypeVar

from tailorbird.dataset.records import parse_messages
from tailorbird.dataset.render import Renderer, RenderError
from tailorbird.domain.errors import DeploymentNotFound, InvalidRequest, Unavailable
from tailorbird.domain.models import CatalogueEntry
from tailorbird.protocol.generation import (
    Generation,
    GenerationChoice,
    GenerationChunk,
    GenerationRequest,
    TokenLogprob,
)
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
from tailorbird.service.deployments import Deployments, Target
from tailorbird.service.models import Catalogue
from tailorbird.service.ports import AdapterUnknown, Clock, EngineDown, EngineRefused

T = TypeVar("T")

COMPLETION_TOKENS = 16
"""OpenAI's default for max_tokens of completions; chat has none but the context's end."""
_SHOWN_FAULTS = 5
_LEAST_TOP_P = 1e-9


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One request, ready for the engine."""

    account_id: str
    head: Head
    target: Target
    renderer: Renderer
    requests: list[GenerationRequest]
    echoes: list[str]
    scored: bool = False
    asked_tokens: int = 1

    @property
    def prompt_tokens(self) -> int:
        return sum(len(request.prompt) for request in self.requests)


# --- the use cases ----------------------------------------------------------------------------------------------------


class Chat:
    """`direct_models` below: whether models may be named without a deployment, as OpenAI's clients do."""

    def __init__(
        self, catalogue: Catalogue, deployments: Deployments, clock: Clock, new_hex: Callable[[], str]
    ) -> None:
        self._catalogue = catalogue
        self._deployments = deployments
        self._clock = clock
        self._new_hex = new_hex

    async def chat(self, account_id: str, ask: ChatAsk, *, direct_models: bool) -> Answer:
        """Raises DeploymentNotFound, ModelNotFound, InvalidRequest naming the field, Unavailable."""
        return await self._answer(await asyncio.to_thread(self._prepare_chat, account_id, ask, direct_models))

    async def stream_chat(self, account_id: str, ask: ChatAsk, *, direct_models: bool) -> AnswerStream:
        """As `chat`; returns once the first token is there, so that what can go wrong has gone wrong by then."""
        return await self._stream(await asyncio.to_thread(self._prepare_chat, account_id, ask, direct_models))

    async def complete(self, account_id: str, ask: CompletionAsk, *, direct_models: bool) -> Answer:
        """As `chat`, for plain prompts. Choice `p * n + i` is the i-th answer to prompt p."""
        return await self._answer(await asyncio.to_thread(self._prepare_completion, account_id, ask, direct_models))

    async def stream_completion(self, account_id: str, ask: CompletionAsk, *, direct_models: bool) -> AnswerStream:
        """As `complete`; several prompts are answered one after the other."""
        if ask.echo and ask.sampling.top_logprobs is not None:
            raise InvalidRequest("'echo' with 'logprobs' cannot be streamed; leave out 'stream'.", param="echo")
        return await self._stream(await asyncio.to_thread(self._prepare_completion, account_id, ask, direct_models))

    # --- from a request to token ids ---------------------------------------------------------------------------------

    def _prepare_chat(self, account_id: str, ask: ChatAsk, direct_models: bool) -> _Prepared:
        target, entry = self._find(account_id, ask.model, direct_models)
        if not entry.chat:
            raise _wrong_operation("chatCompletion", "chat/completions", "completions", entry.name)
        messages = parse_messages(ask.messages)
        if isinstance(messages, list):
            shown = "; ".join(f"{where}: {text}" if where else text for where, text in messages[:_SHOWN_FAULTS])
            more = f" … and {len(messages) - _SHOWN_FAULTS} more." if len(messages) > _SHOWN_FAULTS else ""
            raise InvalidRequest(shown + more, param=messages[0][0] or "messages")
        renderer = self._catalogue.renderer(target.base)
        try:
            prompt = renderer.render_chat([m.to_template() for m in messages], add_generation_prompt=True)
        except RenderError as error:
            raise InvalidRequest(
                f"These messages do not fit the model's chat template: {error}", param="messages"
            ) from error
        context = self._catalogue.base(target.base).max_tokens
        room = _room(len(prompt), ask.max_tokens, context, "messages")
        request = _request(target, prompt, room, ask.sampling, renderer.stop_token_ids)
        _check_bias(ask.sampling, renderer)
        return _Prepared(account_id, self._head(target, renderer), target, renderer, [request], [""])

    def _prepare_completion(self, account_id: str, ask: CompletionAsk, direct_models: bool) -> _Prepared:
        target, entry = self._find(account_id, ask.model, direct_models)
        if not entry.completion:
            raise _wrong_operation("completion", "completions", "chat/completions", entry.name)
        renderer = self._catalogue.renderer(target.base)
        _check_bias(ask.sampling, renderer)
        context = self._catalogue.base(target.base).max_tokens
        asked = COMPLETION_TOKENS if ask.max_tokens is None else ask.max_tokens
        scored = ask.echo and ask.sampling.top_logprobs is not None
        requests: list[GenerationRequest] = []
        echoes: list[str] = []
        for prompt in ask.prompts:
            token_ids = _token_ids(prompt, renderer)
            # The engine always draws one; with max_tokens 0 it is thrown away.
            room = _room(len(token_ids), max(asked, 1), context, "prompt")
            request = _request(target, token_ids, room, ask.sampling, renderer.eos_token_ids)
            requests.append(replace(request, score_prompt=scored))
            echoes.append("" if not ask.echo else prompt if isinstance(prompt, str) else renderer.decode(token_ids))
        head = self._head(target, renderer)
        return _Prepared(account_id, head, target, renderer, requests, echoes, scored=scored, asked_tokens=asked)

    def _find(self, account_id: str, name: str, direct_models: bool) -> tuple[Target, CatalogueEntry]:
        """A deployment of that name first, on every surface; then a model, where the surface allows it."""
        try:
            target = self._deployments.target(account_id, name)
        except DeploymentNotFound:
            if not direct_models:
                raise
            target = self._deployments.target_of_model(account_id, name)
        entry = self._catalogue.entry(target.catalogue_name)
        if entry is None:
            raise Unavailable(f"The model behind '{name}' is no longer in this service's catalogue.")
        return target, entry

    def _head(self, target: Target, renderer: Renderer) -> Head:
        return Head(self._new_hex(), self._clock.now(), target.served_model, f"fp_{renderer.template_hash[:10]}")

    # --- plain answers -----------------------------------------------------------------------------------------------

    async def _answer(self, prepared: _Prepared) -> Answer:
        tasks = [asyncio.ensure_future(self._complete(prepared.target, request)) for request in prepared.requests]
        try:
            generations = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        await self._touch(prepared)
        choices = [
            _choice(prepared, number, generation, choice)
            for number, generation in enumerate(generations)
            for choice in sorted(generation.choices, key=lambda choice: choice.index)
        ]
        completed = sum(g.completion_tokens for g in generations) if prepared.asked_tokens else 0
        return Answer(prepared.head, choices, Usage(prepared.prompt_tokens, completed))

    async def _complete(self, target: Target, request: GenerationRequest) -> Generation:
        return await self._loaded(target, lambda: target.engine.complete(request))

    async def _loaded(self, target: Target, ask: Callable[[], Awaitable[T]]) -> T:
        """Asks the engine; an adapter it has lost (a restart, a full cache) is loaded and asked once more."""
        try:
            try:
                return await ask()
            except AdapterUnknown:
                await self._deployments.ensure_loaded(target)
                return await ask()
        except (EngineDown, EngineRefused, AdapterUnknown) as error:
            raise _service_error(error) from error

    # --- streams -----------------------------------------------------------------------------------------------------

    async def _stream(self, prepared: _Prepared) -> AnswerStream:
        first = await self._loaded(prepared.target, lambda: _Opened.of(prepared, prepared.requests[0]))
        await self._touch(prepared)
        return AnswerStream(prepared.head, self._parts(prepared, first))

    async def _parts(self, prepared: _Prepared, first: _Opened) -> AsyncGenerator[Delta | Usage, None]:
        completed = 0
        opened: _Opened | None = first
        try:
            for number, request in enumerate(prepared.requests):
                if opened is None:
                    opened = await self._loaded(prepared.target, lambda r=request: _Opened.of(prepared, r))
                async with aclosing(opened.all()) as chunks:
                    begun: set[int] = set()
                    async for chunk in chunks:
                        completed += len(chunk.token_ids)
                        index = number * request.n + chunk.index
                        echo = prepared.echoes[number] if index not in begun else ""
                        begun.add(index)
                        yield Delta(
                            index, echo + chunk.text, chunk.finish_reason, _scores(chunk.logprobs, prepared.renderer)
                        )
                opened = None
        except (EngineDown, EngineRefused, AdapterUnknown) as error:
            raise _service_error(error) from error
        finally:
            if opened is not None:
                await opened.close()
        yield Usage(prepared.prompt_tokens, completed)

    async def _touch(self, prepared: _Prepared) -> None:
        if prepared.target.deployment is not None:
            await asyncio.to_thread(self._deployments.touch, prepared.account_id, prepared.target.deployment.name)


@dataclass(slots=True)
class _Opened:
    """An engine's stream whose first chunk has arrived."""

    first: GenerationChunk | None
    rest: AsyncIterator[GenerationChunk]

    @classmethod
    async def of(cls, prepared: _Prepared, request: GenerationRequest) -> _Opened:
        stream = prepared.target.engine.stream(request)
        return cls(await anext(stream, None), stream)

    async def all(self) -> AsyncGenerator[GenerationChunk, None]:
        try:
            if self.first is not None:
                yield self.first
            async for chunk in self.rest:
                yield chunk
        finally:
            await self.close()

    async def close(self) -> None:
        if isinstance(self.rest, AsyncGenerator):
            await self.rest.aclose()  # pyright: ignore[reportUnknownMemberType]


# --- rules ------------------------------------------------------------------------------------------------------------


def _request(
    target: Target, prompt: list[int], max_tokens: int, sampling: Sampling, stop_token_ids: Sequence[int]
) -> GenerationRequest:
    return GenerationRequest(
        model=target.engine_model,
        prompt=prompt,
        max_tokens=max_tokens,
        temperature=sampling.temperature,
        # 0 means the likeliest token alone; engines want a number above it.
        top_p=max(sampling.top_p, _LEAST_TOP_P),
        n=sampling.n,
        stop=list(sampling.stop),
        stop_token_ids=list(stop_token_ids),
        seed=sampling.seed,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        logit_bias=sampling.logit_bias,
        top_logprobs=sampling.top_logprobs,
    )


def _room(prompt: int, max_tokens: int | None, context: int, param: str) -> int:
    """How many tokens may be drawn. Raises InvalidRequest with the numbers when prompt and answer do not fit."""
    limit = f"This model's maximum context length is {context} tokens."
    if prompt >= context:
        raise InvalidRequest(
            f"{limit} However, your {param} resulted in {prompt} tokens. Please reduce the length of the {param}.",
            param=param,
            code="context_length_exceeded",
        )
    if max_tokens is None:
        return context - prompt
    if prompt + max_tokens > context:
        raise InvalidRequest(
            f"{limit} However, you requested {prompt + max_tokens} tokens ({prompt} in the {param}, {max_tokens} in "
            f"the completion). Please reduce the length of the {param} or completion.",
            param=param,
            code="context_length_exceeded",
        )
    return max_tokens


def _token_ids(prompt: str | list[int], renderer: Renderer) -> list[int]:
    if isinstance(prompt, str):
        # Without a single token there is nothing to go on from; OpenAI starts from its end-of-text then.
        return renderer.encode_completion_prompt(prompt) or list(renderer.eos_token_ids[:1])
    bad = next((token for token in prompt if not 0 <= token < renderer.vocab_size), None)
    if bad is not None or not prompt:
        what = "an empty list" if bad is None else f"the token id {bad}"
        raise InvalidRequest(
            f"The prompt holds {what}; token ids of this model are 0 to {renderer.vocab_size - 1}.", param="prompt"
        )
    return prompt


def _check_bias(sampling: Sampling, renderer: Renderer) -> None:
    bad = next((token for token in sampling.logit_bias if not 0 <= token < renderer.vocab_size), None)
    if bad is not None:
        raise InvalidRequest(
            f"logit_bias names the token id {bad}; token ids of this model are 0 to {renderer.vocab_size - 1}.",
            param="logit_bias",
        )


def _wrong_operation(operation: str, path: str, other: str, model: str) -> InvalidRequest:
    return InvalidRequest(
        f"The {operation} operation does not work with the specified model, {model}. Please choose a different model, "
        f"or use the {other} endpoint instead of {path}.",
        param="model",
        code="OperationNotSupported",
    )


def _service_error(error: EngineDown | EngineRefused | AdapterUnknown) -> InvalidRequest | Unavailable:
    if isinstance(error, EngineRefused):
        return InvalidRequest(f"The inference engine refused the request: {error}")
    return Unavailable("The inference engine cannot be reached or does not serve this model at the moment; try again.")


# --- answers ----------------------------------------------------------------------------------------------------------


def _choice(prepared: _Prepared, number: int, generation: Generation, choice: GenerationChoice) -> Choice:
    request = prepared.requests[number]
    drawn = prepared.asked_tokens > 0
    scores = _scores(choice.logprobs if drawn else [], prepared.renderer) if choice.logprobs is not None else None
    if scores is not None and prepared.scored and generation.prompt_logprobs is not None:
        echoed = zip(request.prompt, generation.prompt_logprobs, strict=True)
        scores = [_score(token, logprob, prepared.renderer) for token, logprob in echoed] + scores
    return Choice(
        index=number * request.n + choice.index,
        text=prepared.echoes[number] + (choice.text if drawn else ""),
        finish_reason=choice.finish_reason if drawn else "length",
        scores=scores,
    )


def _scores(logprobs: list[TokenLogprob] | None, renderer: Renderer) -> list[TokenScore] | None:
    if logprobs is None:
        return None
    return [
        replace(
            _score(entry.token_id, entry.logprob, renderer),
            top=[_score(other.token_id, other.logprob, renderer) for other in entry.top],
        )
        for entry in logprobs
    ]


def _score(token_id: int, logprob: float | None, renderer: Renderer) -> TokenScore:
    return TokenScore(renderer.token_text(token_id), renderer.token_bytes(token_id), logprob)
