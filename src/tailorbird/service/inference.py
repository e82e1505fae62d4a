"""Asks an engine for what a request wants: finds what serves it, minds its limits, and reads the answer as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TypeVar

from tailorbird.dataset.render import Renderer
from tailorbird.domain.errors import DeploymentNotFound, InvalidRequest, ServiceError, Unavailable
from tailorbird.domain.models import CatalogueEntry
from tailorbird.protocol.generation import (
    Generation,
    GenerationChoice,
    GenerationChunk,
    GenerationRequest,
    Structure,
    TokenLogprob,
)
from tailorbird.service.answers import Answer, AnswerStream, Choice, Delta, Head, Sampling, TokenScore, Usage
from tailorbird.service.deployments import Deployments, Target
from tailorbird.service.filtering import ContentFilter, Filter
from tailorbird.service.models import Catalogue
from tailorbird.service.ports import AdapterUnknown, Clock, EngineDown, EngineRefused
from tailorbird.service.rates import Allowance, Rates
from tailorbird.service.tools import CallParts, Reading
from tailorbird.service.usage.tokens import TokenMeter

T = TypeVar("T")

_LEAST_TOP_P = 1e-9


@dataclass(frozen=True, slots=True)
class Prepared:
    """One request, ready for the engine: `requests` and `echoes` hold one entry a prompt.

    Of the choices the engine makes for a prompt `given` are answered, the likeliest first when it makes more.
    `reading` makes what tells content from tool calls, None when there are none. `structure_param` is the field an
    engine's refusal of a structure is about. `content` filters; it judges what each prompt has `said`.
    """

    account_id: str
    head: Head
    target: Target
    renderer: Renderer
    requests: list[GenerationRequest]
    echoes: list[str]
    given: int
    allowance: Allowance | None = None
    scored: bool = False
    asked_tokens: int = 1
    with_scores: bool = True
    reading: Callable[[], Reading] | None = None
    structure_param: str | None = None
    content: Filter | None = None
    said: list[list[str]] = field(default_factory=list[list[str]])

    @property
    def prompt_tokens(self) -> int:
        return sum(len(request.prompt) for request in self.requests)


class Inference:
    """What chat, completions and embeddings have in common."""

    def __init__(
        self,
        catalogue: Catalogue,
        deployments: Deployments,
        rates: Rates,
        clock: Clock,
        new_hex: Callable[[], str],
        meter: TokenMeter,
        content: ContentFilter | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.new_hex = new_hex
        self._deployments = deployments
        self._rates = rates
        self._clock = clock
        self._meter = meter
        self._content = content

    # --- before -------------------------------------------------------------------------------------------------------

    def find(self, account_id: str, name: str, *, direct_models: bool) -> tuple[Target, CatalogueEntry]:
        """A deployment of that name first, on every surface; then a model, where the surface allows it."""
        try:
            target = self._deployments.target(account_id, name)
        except DeploymentNotFound:
            if not direct_models:
                raise
            target = self._deployments.target_of_model(account_id, name)
        entry = self.catalogue.entry(target.catalogue_name)
        if entry is None:
            raise Unavailable(f"The model behind '{name}' is no longer in this service's catalogue.")
        return target, entry

    def head(self, target: Target, renderer: Renderer) -> Head:
        return Head(self.new_hex(), self._clock.now(), target.served_model, f"fp_{renderer.template_hash[:10]}")

    def admit(self, target: Target, tokens: int, operation: str, version: str) -> Allowance | None:
        """Counts the request in, before anything is generated. Raises TooManyRequests."""
        if target.deployment is None:
            return None
        return self._rates.admit(target.deployment, tokens, operation=operation, version=version)

    def filter_of(self, account_id: str, target: Target) -> Filter | None:
        """The content filter this request goes through, if any."""
        return None if self._content is None else self._content.of(account_id, target.deployment)

    async def answered(self, prepared: Prepared) -> Answer:
        """As `answer`, through the content filter where there is one. Also raises ContentFiltered."""
        if prepared.content is None:
            return await self.answer(prepared)
        prompts = await prepared.content.check_prompt(prepared.said)
        return await prepared.content.answer(await self.answer(prepared), prompts)

    async def streamed(self, prepared: Prepared) -> AnswerStream:
        """As `stream`, through the content filter where there is one. Also raises ContentFiltered."""
        if prepared.content is None:
            return await self.stream(prepared)
        prompts = await prepared.content.check_prompt(prepared.said)
        return prepared.content.stream(await self.stream(prepared), prompts)

    # --- plain answers ------------------------------------------------------------------------------------------------

    async def answer(self, prepared: Prepared) -> Answer:
        """Raises InvalidRequest with the engine's reason, Unavailable."""
        tasks = [asyncio.ensure_future(self._complete(prepared, request)) for request in prepared.requests]
        try:
            generations = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        await self.touch(prepared.account_id, prepared.target)
        choices = [
            _choice(prepared, number, place, generation, choice)
            for number, generation in enumerate(generations)
            for place, choice in enumerate(_given(generation.choices, prepared.given))
        ]
        completed = sum(g.completion_tokens for g in generations) if prepared.asked_tokens else 0
        self.count(prepared.account_id, prepared.target, prepared.prompt_tokens, completed)
        return Answer(prepared.head, choices, Usage(prepared.prompt_tokens, completed), prepared.allowance)

    async def _complete(self, prepared: Prepared, request: GenerationRequest) -> Generation:
        engine = prepared.target.engine
        return await self.loaded(prepared.target, lambda: engine.complete(request), prepared.structure_param)

    async def loaded(self, target: Target, ask: Callable[[], Awaitable[T]], structure_param: str | None = None) -> T:
        """Asks the engine; an adapter it has lost (a restart, a full cache) is loaded and asked once more."""
        try:
            try:
                return await ask()
            except AdapterUnknown:
                await self._deployments.ensure_loaded(target)
                return await ask()
        except (EngineDown, EngineRefused, AdapterUnknown) as error:
            raise _service_error(error, structure_param) from error

    async def touch(self, account_id: str, target: Target) -> None:
        if target.deployment is not None:
            await asyncio.to_thread(self._deployments.touch, account_id, target.deployment.name)

    def count(self, account_id: str, target: Target, input_tokens: int, output_tokens: int) -> None:
        """Meters what was answered; an answer that failed for a reason of ours is never counted."""
        self._meter.count(account_id, target.deployment, target.catalogue_name, input_tokens, output_tokens)

    # --- streams ------------------------------------------------------------------------------------------------------

    async def stream(self, prepared: Prepared) -> AnswerStream:
        """As `answer`; returns once the first token is there, so that what can go wrong has gone wrong by then."""
        first = await self._open(prepared, prepared.requests[0])
        await self.touch(prepared.account_id, prepared.target)
        return AnswerStream(prepared.head, self._parts(prepared, first), prepared.allowance)

    async def _open(self, prepared: Prepared, request: GenerationRequest) -> _Opened:
        return await self.loaded(prepared.target, lambda: _Opened.of(prepared, request), prepared.structure_param)

    async def _parts(self, prepared: Prepared, first: _Opened) -> AsyncGenerator[Delta | Usage, None]:
        completed = 0
        failed = False
        opened: _Opened | None = first
        try:
            for number, request in enumerate(prepared.requests):
                if opened is None:
                    opened = await self._open(prepared, request)
                async with aclosing(opened.all()) as chunks:
                    writer = _DeltaWriter(prepared, number)
                    async for chunk in chunks:
                        completed += len(chunk.token_ids)
                        delta = writer.delta(chunk)
                        if delta is not None:
                            yield delta
                opened = None
        except (EngineDown, EngineRefused, AdapterUnknown) as error:
            failed = True
            raise _service_error(error, prepared.structure_param) from error
        except ServiceError:
            failed = True
            raise
        finally:
            if not failed:
                # Also when the client has gone: what was generated for it counts.
                self.count(prepared.account_id, prepared.target, prepared.prompt_tokens, completed)
            if opened is not None:
                await opened.close()
        yield Usage(prepared.prompt_tokens, completed)


@dataclass(slots=True)
class _Opened:
    """An engine's stream whose first chunk has arrived."""

    first: GenerationChunk | None
    rest: AsyncIterator[GenerationChunk]

    @classmethod
    async def of(cls, prepared: Prepared, request: GenerationRequest) -> _Opened:
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


@dataclass(slots=True)
class _DeltaWriter:
    """Turns the chunks of one prompt's answers into deltas."""

    prepared: Prepared
    number: int
    readings: dict[int, Reading | None] = field(default_factory=dict[int, "Reading | None"])

    def delta(self, chunk: GenerationChunk) -> Delta | None:
        """None while nothing can be passed on."""
        prepared = self.prepared
        index = self.number * prepared.given + chunk.index
        begun = chunk.index in self.readings
        if not begun:
            self.readings[chunk.index] = None if prepared.reading is None else prepared.reading()
        scores = _scores(chunk.logprobs, prepared.renderer)
        reading = self.readings[chunk.index]
        if reading is None:
            echo = "" if begun else prepared.echoes[self.number]
            return Delta(index, echo + chunk.text, chunk.finish_reason, scores)
        text, calls = reading.push(chunk.text, chunk.token_ids)
        if chunk.finish_reason is None:
            return Delta(index, text, None, scores, tuple(calls)) if text or calls or scores else None
        rest, more = reading.finish()
        return Delta(index, text + rest, reading.reason(chunk.finish_reason), scores, (*calls, *more))


# --- rules shared by chat and completions -----------------------------------------------------------------------------


def request_of(
    target: Target,
    prompt: list[int],
    max_tokens: int,
    sampling: Sampling,
    stop_token_ids: Sequence[int],
    structure: Structure | None = None,
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
        structure=structure,
    )


def room(prompt: int, max_tokens: int | None, context: int, param: str) -> int:
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


def token_ids(text: str | list[int], renderer: Renderer, param: str) -> list[int]:
    """A prompt or an input as the model's tokens. Raises InvalidRequest for ids it does not have."""
    if isinstance(text, str):
        # Without a single token there is nothing to go on from; OpenAI starts from its end-of-text then.
        return renderer.encode_completion_prompt(text) or list(renderer.eos_token_ids[:1])
    bad = next((token for token in text if not 0 <= token < renderer.vocab_size), None)
    if bad is not None or not text:
        what = "an empty list" if bad is None else f"the token id {bad}"
        raise InvalidRequest(
            f"The {param} holds {what}; token ids of this model are 0 to {renderer.vocab_size - 1}.", param=param
        )
    return text


def check_bias(sampling: Sampling, renderer: Renderer) -> None:
    bad = next((token for token in sampling.logit_bias if not 0 <= token < renderer.vocab_size), None)
    if bad is not None:
        raise InvalidRequest(
            f"logit_bias names the token id {bad}; token ids of this model are 0 to {renderer.vocab_size - 1}.",
            param="logit_bias",
        )


def wrong_operation(operation: str, path: str, entry: CatalogueEntry) -> InvalidRequest:
    """What Azure says to a request a model is not made for, and which endpoint it has."""
    endpoints = (
        (entry.chat, "chat/completions"),
        (entry.completion, "completions"),
        (entry.embeddings, "embeddings"),
    )
    others = " or ".join(name for has, name in endpoints if has)
    return InvalidRequest(
        f"The {operation} operation does not work with the specified model, {entry.name}. Please choose a different "
        f"model, or use the {others} endpoint instead of {path}.",
        param="model",
        code="OperationNotSupported",
    )


def _service_error(
    error: EngineDown | EngineRefused | AdapterUnknown, structure_param: str | None
) -> InvalidRequest | Unavailable:
    if isinstance(error, EngineRefused):
        if structure_param is not None:
            # What follows a reason's first line is the grammar made of the field.
            reason = str(error).partition("\n")[0]
            return InvalidRequest(
                f"'{structure_param}' asks for what the inference engine cannot hold an answer to: {reason}",
                param=structure_param,
            )
        return InvalidRequest(f"The inference engine refused the request: {error}")
    return Unavailable("The inference engine cannot be reached or does not serve this model at the moment; try again.")


# --- answers ----------------------------------------------------------------------------------------------------------


def _given(choices: list[GenerationChoice], given: int) -> list[GenerationChoice]:
    """The likeliest `given` by mean log-probability of their tokens, or all in their order."""
    if len(choices) <= given:
        return sorted(choices, key=lambda choice: choice.index)
    return sorted(choices, key=lambda choice: (-_mean_logprob(choice), choice.index))[:given]


def _mean_logprob(choice: GenerationChoice) -> float:
    scores = [entry.logprob for entry in choice.logprobs or []]
    return sum(scores) / len(scores) if scores else 0.0


def _choice(prepared: Prepared, number: int, place: int, generation: Generation, choice: GenerationChoice) -> Choice:
    index = number * prepared.given + place
    drawn = prepared.asked_tokens > 0
    scores = None
    if choice.logprobs is not None and prepared.with_scores:
        scores = _scores(choice.logprobs if drawn else [], prepared.renderer)
    if scores is not None and prepared.scored and generation.prompt_logprobs is not None:
        echoed = zip(prepared.requests[number].prompt, generation.prompt_logprobs, strict=True)
        scores = [_score(token, logprob, prepared.renderer) for token, logprob in echoed] + scores
    if prepared.reading is not None:
        return _read_choice(prepared.reading(), index, choice, scores)
    text = prepared.echoes[number] + (choice.text if drawn else "")
    return Choice(index, text, choice.finish_reason if drawn else "length", scores)


def _read_choice(reading: Reading, index: int, choice: GenerationChoice, scores: list[TokenScore] | None) -> Choice:
    parts = CallParts()
    text, calls = reading.push(choice.text, choice.token_ids)
    rest, more = reading.finish()
    parts.add([*calls, *more])
    return Choice(index, text + rest, reading.reason(choice.finish_reason), scores, parts.made())


def _scores(logprobs: list[TokenLogprob] | None, renderer: Renderer) -> list[TokenScore] | None:
    """Of the answer's own tokens: the one that ended it is not in its text, and vendors do not score it."""
    if logprobs is None:
        return None
    ends = renderer.stop_token_ids
    return [
        replace(
            _score(entry.token_id, entry.logprob, renderer),
            top=[_score(other.token_id, other.logprob, renderer) for other in entry.top],
        )
        for entry in logprobs
        if entry.token_id not in ends
    ]


def _score(token_id: int, logprob: float | None, renderer: Renderer) -> TokenScore:
    return TokenScore(renderer.token_text(token_id), renderer.token_bytes(token_id), logprob)
