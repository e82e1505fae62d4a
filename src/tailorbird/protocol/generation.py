"""The engine's requests and replies: the subset of vLLM's HTTP interface that Tailorbird speaks.

Routes: GET /health, GET /metrics, GET /v1/models, POST /v1/completions (`stream: true`: server-sent events),
POST /v1/embeddings, POST /v1/load_lora_adapter {lora_name, lora_path}, POST /v1/unload_lora_adapter {lora_name}. Token
ids go in, token ids come out (vLLM's `return_token_ids`); the engine knows no role and no template.
Source: https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class TopLogprob:
    token_id: int
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A sampled (or given) token, its natural-log probability and the likeliest alternatives, best first.

    Log-probabilities are of the model's own distribution at temperature 1, before penalties, bias and top_p.
    """

    token_id: int
    logprob: float
    top: list[TopLogprob] = field(default_factory=list[TopLogprob])


@dataclass(frozen=True, slots=True)
class Structure:
    """What an answer must look like; the engine masks every token that would break it.

    "json_schema": `value` is a JSON schema; "json_object": any JSON object, `value` is empty; "grammar": `value` is a
    grammar in llguidance's dialect of Lark. Sent as vLLM's `structured_outputs` (json, json_object, grammar).
    Source: https://docs.vllm.ai/en/latest/features/structured_outputs.html
    """

    kind: Literal["json_schema", "json_object", "grammar"]
    value: str = ""
    """The schema as JSON text, or the grammar."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt of token ids; `model` is the base's served name or a loaded adapter's name.

    temperature 0 is greedy. `top_logprobs` None asks for no log-probabilities, k >= 0 for the token's own and k others.
    `score_prompt` asks for the prompt's own log-probabilities (vLLM's `prompt_logprobs: 0`). `logit_bias` maps token id
    to a value in [-100, 100].
    """

    model: str
    prompt: list[int]
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    n: int = 1
    stop: list[str] = field(default_factory=list[str])
    stop_token_ids: list[int] = field(default_factory=list[int])
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = field(default_factory=dict[int, float])
    top_logprobs: int | None = None
    score_prompt: bool = False
    structure: Structure | None = None


FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class GenerationChunk:
    """New text and tokens of choice `index`; the last chunk of a choice carries `finish_reason`.

    `text` excludes a matched stop string and special tokens; it never ends inside a UTF-8 character.
    """

    index: int
    text: str
    token_ids: list[int]
    logprobs: list[TokenLogprob] | None = None
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class GenerationChoice:
    index: int
    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    logprobs: list[TokenLogprob] | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """All choices of one request. `prompt_logprobs[i]` is of token i given tokens before i; the first is None."""

    choices: list[GenerationChoice]
    prompt_tokens: int
    completion_tokens: int
    prompt_logprobs: list[float | None] | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts as token ids; `model` is the base's served name. POST /v1/embeddings, vLLM's pooling interface."""

    model: str
    inputs: list[list[int]]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector a text, in the order given, each of length 1 (Euclidean)."""

    vectors: list[list[float]]
    prompt_tokens: int


def request_to_wire(request: GenerationRequest, *, stream: bool) -> dict[str, Any]:
    """The JSON body of POST /v1/completions, in vLLM's names."""
    body: dict[str, Any] = {
        "model": request.model,
        "prompt": request.prompt,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "n": request.n,
        "stream": stream,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }
    if request.stop:
        body["stop"] = request.stop
    if request.stop_token_ids:
        body["stop_token_ids"] = request.stop_token_ids
    if request.seed is not None:
        body["seed"] = request.seed
    if request.presence_penalty:
        body["presence_penalty"] = request.presence_penalty
    if request.frequency_penalty:
        body["frequency_penalty"] = request.frequency_penalty
    if request.logit_bias:
        body["logit_bias"] = {str(token): value for token, value in request.logit_bias.items()}
    if request.top_logprobs is not None:
        body["logprobs"] = request.top_logprobs
    if request.score_prompt:
        body["prompt_logprobs"] = 0
    if request.structure is not None:
        body["structured_outputs"] = structure_to_wire(request.structure)
    if stream:
        body["stream_options"] = {"include_usage": True}
    return body


def structure_to_wire(structure: Structure) -> dict[str, Any]:
    """vLLM's `structured_outputs` object."""
    match structure.kind:
        case "json_schema":
            return {"json": json.loads(structure.value)}
        case "json_object":
            return {"json_object": True}
        case "grammar":
            return {"grammar": structure.value}
