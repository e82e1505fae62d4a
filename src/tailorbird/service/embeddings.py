"""Answers embedding requests: texts or token ids into vectors of length 1."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from tailorbird.domain.errors import InvalidRequest
from tailorbird.protocol.generation import EmbeddingRequest
from tailorbird.service.answers import EmbeddingAsk, Vectors
from tailorbird.service.deployments import Target
from tailorbird.service.inference import Inference, token_ids, wrong_operation
from tailorbird.service.rates import Allowance, estimated_tokens

_INPUTS_AT_ONCE = 64
"""Inputs in one request to the engine: a full batch there, and never a body of megabytes."""


class Embedder:
    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    async def embed(self, account_id: str, ask: EmbeddingAsk, *, direct_models: bool) -> Vectors:
        """Raises DeploymentNotFound, ModelNotFound, InvalidRequest naming the field, TooManyRequests, Unavailable."""
        target, inputs, allowance = await asyncio.to_thread(self._prepare, account_id, ask, direct_models)
        vectors: list[list[float]] = []
        prompt_tokens = 0
        for start in range(0, len(inputs), _INPUTS_AT_ONCE):
            request = EmbeddingRequest(target.engine_model, inputs[start : start + _INPUTS_AT_ONCE])
            part = await self._inference.loaded(target, lambda r=request: target.engine.embed(r))
            vectors += part.vectors
            prompt_tokens += part.prompt_tokens
        await self._inference.touch(account_id, target)
        self._inference.count(account_id, target, prompt_tokens, 0)
        if ask.dimensions is not None:
            vectors = [_shortened(vector, ask.dimensions) for vector in vectors]
        return Vectors(target.served_model, vectors, prompt_tokens, allowance)

    def _prepare(
        self, account_id: str, ask: EmbeddingAsk, direct_models: bool
    ) -> tuple[Target, list[list[int]], Allowance | None]:
        inference = self._inference
        target, entry = inference.find(account_id, ask.model, direct_models=direct_models)
        if not entry.embeddings:
            raise wrong_operation("embeddings", "embeddings", entry)
        renderer = inference.catalogue.renderer(target.base)
        context = inference.catalogue.base(target.base).max_tokens
        inputs = [token_ids(text, renderer, "input") for text in ask.inputs]
        longest = max(len(ids) for ids in inputs)
        if longest > context:
            raise InvalidRequest(
                f"This model's maximum context length is {context} tokens, however you requested {longest} tokens "
                f"({longest} in your prompt; 0 for the completion). Please reduce your prompt; or completion length.",
                param="input",
                code="context_length_exceeded",
            )
        tokens = estimated_tokens(sum(map(len, inputs)), 0)
        return target, inputs, inference.admit(target, tokens, "Embeddings_Create", ask.version)


def _shortened(vector: Sequence[float], dimensions: int) -> list[float]:
    """The first `dimensions` numbers, brought back to length 1. Raises InvalidRequest when there are not as many."""
    if dimensions > len(vector):
        raise InvalidRequest(
            f"'dimensions' is {dimensions}, but this model's vectors have {len(vector)}; ask for 1 to {len(vector)}.",
            param="dimensions",
        )
    kept = vector[:dimensions]
    length = math.sqrt(sum(number * number for number in kept)) or 1.0
    return [number / length for number in kept]
