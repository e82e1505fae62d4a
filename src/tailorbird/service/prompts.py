"""Answers completion requests: plain prompts, as texts or token ids, that the model goes on from."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tailorbird.domain.errors import InvalidRequest
from tailorbird.protocol.generation import GenerationRequest
from tailorbird.service.answers import Answer, AnswerStream, CompletionAsk
from tailorbird.service.inference import (
    Inference,
    Prepared,
    check_bias,
    request_of,
    room,
    token_ids,
    wrong_operation,
)
from tailorbird.service.rates import estimated_tokens

COMPLETION_TOKENS = 16
"""OpenAI's default for max_tokens of completions; chat has none but the context's end."""


class Prompts:
    """`direct_models` as with chat."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    async def complete(self, account_id: str, ask: CompletionAsk, *, direct_models: bool) -> Answer:
        """As `Chat.chat`, for plain prompts. Choice `p * n + i` is the i-th answer to prompt p."""
        return await self._inference.answered(await asyncio.to_thread(self._prepare, account_id, ask, direct_models))

    async def stream_completion(self, account_id: str, ask: CompletionAsk, *, direct_models: bool) -> AnswerStream:
        """As `complete`; several prompts are answered one after the other."""
        if ask.echo and ask.sampling.top_logprobs is not None:
            raise InvalidRequest("'echo' with 'logprobs' cannot be streamed; leave out 'stream'.", param="echo")
        return await self._inference.streamed(await asyncio.to_thread(self._prepare, account_id, ask, direct_models))

    def _prepare(self, account_id: str, ask: CompletionAsk, direct_models: bool) -> Prepared:
        inference = self._inference
        target, entry = inference.find(account_id, ask.model, direct_models=direct_models)
        if not entry.completion:
            raise wrong_operation("completion", "completions", entry)
        renderer = inference.catalogue.renderer(target.base)
        check_bias(ask.sampling, renderer)
        context = inference.catalogue.base(target.base).max_tokens
        asked = COMPLETION_TOKENS if ask.max_tokens is None else ask.max_tokens
        drawn = ask.best_of or ask.sampling.n
        content = inference.filter_of(account_id, target)
        scored = ask.echo and ask.sampling.top_logprobs is not None
        requests: list[GenerationRequest] = []
        echoes: list[str] = []
        for prompt in ask.prompts:
            ids = token_ids(prompt, renderer, "prompt")
            # The engine always draws one; with max_tokens 0 it is thrown away.
            space = room(len(ids), max(asked, 1), context, "prompt")
            request = request_of(target, ids, space, ask.sampling, renderer.eos_token_ids)
            requests.append(replace(request, score_prompt=scored, n=drawn, top_logprobs=_scores(ask)))
            echoes.append("" if not ask.echo else prompt if isinstance(prompt, str) else renderer.decode(ids))
        tokens = estimated_tokens(sum(len(r.prompt) for r in requests), asked, drawn * len(requests))
        return Prepared(
            account_id,
            inference.head(target, renderer),
            target,
            renderer,
            requests,
            echoes,
            given=ask.sampling.n,
            allowance=inference.admit(target, tokens, "Completions_Create", ask.version),
            scored=scored,
            asked_tokens=asked,
            with_scores=ask.sampling.top_logprobs is not None,
            content=content,
            said=[] if content is None else [[p if isinstance(p, str) else renderer.decode(p)] for p in ask.prompts],
        )


def _scores(ask: CompletionAsk) -> int | None:
    """Choosing the best needs the tokens' own log-probabilities at least."""
    if ask.sampling.top_logprobs is None and ask.best_of is not None and ask.best_of > ask.sampling.n:
        return 0
    return ask.sampling.top_logprobs
