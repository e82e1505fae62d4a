"""vLLM's JSON bodies in and out: a completion body into a GenerationRequest, its outputs into choices, errors.

Source: https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html and OpenAI's completions reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from tailorbird.protocol.generation import GenerationChunk, GenerationRequest, TokenLogprob
from tailorbird.serving.sampling import PromptLogprob

MAX_CHOICES = 128
MAX_TOP_LOGPROBS = 20  # vLLM's default max_logprobs


class BodyRefused(Exception):
    """The body asks for what the engine does not do; the message names the field `param`."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Presentation:
    """How the answer is written; nothing of it changes what is generated."""

    stream: bool = False
    include_usage: bool = False
    token_ids: bool = False
    tokens_as_ids: bool = False


def error_body(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    kinds = {400: "BadRequestError", 404: "NotFoundError", 503: "ServiceUnavailableError"}
    return {"error": {"message": message, "type": kinds.get(status, "Error"), "param": param, "code": status}}


def read_completion(body: object, *, vocab: int, context: int) -> tuple[GenerationRequest, Presentation]:
    """Raises BodyRefused naming the field that is unknown, of the wrong type or outside its range."""
    fields = _Fields(body)
    stream = fields.boolean("stream")
    options = _Fields(fields.take("stream_options", {}), "stream_options.")
    presentation = Presentation(
        stream=stream,
        include_usage=options.boolean("include_usage"),
        token_ids=fields.boolean("return_token_ids"),
        tokens_as_ids=fields.boolean("return_tokens_as_token_ids"),
    )
    options.finish()
    request = GenerationRequest(
        model=fields.text("model"),
        prompt=fields.token_ids("prompt", vocab, required=True),
        max_tokens=fields.integer("max_tokens", 16, 1, 2**31),
        temperature=fields.number("temperature", 1.0, 0.0, 100.0),
        top_p=fields.number("top_p", 1.0, 0.0, 1.0),
        n=fields.integer("n", 1, 1, MAX_CHOICES),
        stop=fields.stops(),
        stop_token_ids=fields.token_ids("stop_token_ids", vocab),
        seed=fields.optional_integer("seed", -(2**63), 2**63 - 1),
        presence_penalty=fields.number("presence_penalty", 0.0, -2.0, 2.0),
        frequency_penalty=fields.number("frequency_penalty", 0.0, -2.0, 2.0),
        logit_bias=fields.bias(vocab),
        top_logprobs=fields.optional_integer("logprobs", 0, min(MAX_TOP_LOGPROBS, vocab)),
        score_prompt=fields.optional_integer("prompt_logprobs", 0, 0) is not None,
    )
    fields.finish()
    if request.top_p == 0.0:
        raise BodyRefused("top_p must be in (0, 1], got 0.0.", "top_p")
    if request.score_prompt and stream:
        raise BodyRefused("prompt_logprobs are not available when stream is true.", "prompt_logprobs")
    if len(request.prompt) + request.max_tokens > context:
        raise BodyRefused(
            f"This model's maximum context length is {context} tokens. However, you requested "
            f"{len(request.prompt) + request.max_tokens} tokens ({len(request.prompt)} in the prompt, "
            f"{request.max_tokens} in the completion).",
            "prompt",
        )
    return request, presentation


@dataclass(frozen=True, slots=True)
class LoadBody:
    name: str
    path: str
    replace: bool


def read_load(body: object) -> LoadBody:
    fields = _Fields(body)
    load = LoadBody(fields.text("lora_name"), fields.text("lora_path"), fields.boolean("load_inplace"))
    fields.finish()
    return load


def read_unload(body: object) -> str:
    fields = _Fields(body)
    name = fields.text("lora_name")
    fields.optional_integer("lora_int_id", 0, 2**31)  # vLLM's own clients may send it; the name decides
    fields.finish()
    return name


class _Fields:
    """A JSON object whose fields are taken one by one; null counts as absent; what is left at the end is refused."""

    def __init__(self, body: object, prefix: str = "") -> None:
        if not isinstance(body, dict):
            raise BodyRefused(f"{prefix.rstrip('.') or 'The body'} must be a JSON object.", prefix.rstrip(".") or None)
        self._left = {k: v for k, v in cast(dict[str, Any], body).items() if v is not None}
        self._prefix = prefix

    def take(self, name: str, default: Any) -> Any:
        return self._left.pop(name, default)

    def finish(self) -> None:
        if self._left:
            names = ", ".join(self._prefix + name for name in sorted(self._left))
            raise BodyRefused(f"Unknown or unsupported field(s): {names}.", self._prefix + sorted(self._left)[0])

    def text(self, name: str) -> str:
        value = self.take(name, "")
        if not isinstance(value, str) or not value:
            raise BodyRefused(f"{self._prefix}{name} must be a non-empty string.", name)
        return value

    def boolean(self, name: str) -> bool:
        value = self.take(name, False)
        if not isinstance(value, bool):
            raise BodyRefused(f"{self._prefix}{name} must be true or false.", self._prefix + name)
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        value = self.take(name, default)
        if not _is_number(value) or not low <= value <= high:
            raise BodyRefused(f"{name} must be a number from {low:g} to {high:g}.", name)
        return float(value)

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        value = self.take(name, default)
        if not _is_integer(value) or not low <= value <= high:
            raise BodyRefused(f"{name} must be a whole number from {low} to {high}.", name)
        return value

    def optional_integer(self, name: str, low: int, high: int) -> int | None:
        return self.integer(name, low, low, high) if name in self._left else None

    def token_ids(self, name: str, vocab: int, *, required: bool = False) -> list[int]:
        value = self.take(name, [])
        good = isinstance(value, list) and all(
            _is_integer(token) and 0 <= token < vocab for token in cast(list[Any], value)
        )
        if not good or (required and not value):
            raise BodyRefused(f"{name} must be one list of token ids below {vocab}.", name)
        return value

    def stops(self) -> list[str]:
        value = self.take("stop", [])
        stops = cast(list[Any], [value] if isinstance(value, str) else value)
        if not isinstance(value, str | list) or not all(isinstance(stop, str) and stop for stop in stops):
            raise BodyRefused("stop must be a non-empty string or a list of them.", "stop")
        return stops

    def bias(self, vocab: int) -> dict[int, float]:
        value = self.take("logit_bias", {})
        if not isinstance(value, dict):
            raise BodyRefused("logit_bias must be an object of token ids and numbers.", "logit_bias")
        bias: dict[int, float] = {}
        for token, change in cast(dict[str, Any], value).items():
            if not (token.isascii() and token.isdigit() and int(token) < vocab):
                raise BodyRefused(f"logit_bias: {token[:40]!r} is not a token id below {vocab}.", "logit_bias")
            if not _is_number(change) or not -100 <= change <= 100:
                raise BodyRefused(f"logit_bias: the value of {token} must be from -100 to 100.", "logit_bias")
            bias[int(token)] = float(change)
        return bias


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


@dataclass(slots=True)
class ChoiceWriter:
    """One choice of an answer as it grows. `decode` turns one token id into text, for tokens written as strings."""

    index: int
    request: GenerationRequest
    presentation: Presentation
    decode: Callable[[int], str]
    _offset: int = 0
    _chunks: list[GenerationChunk] = field(default_factory=list[GenerationChunk])

    def add(self, chunk: GenerationChunk) -> None:
        self._chunks.append(chunk)

    def write(self) -> dict[str, Any]:
        """The choice made of all chunks added since the last call: the whole answer or one piece of a stream."""
        chunks, self._chunks = self._chunks, []
        choice: dict[str, Any] = {
            "index": self.index,
            "text": "".join(chunk.text for chunk in chunks),
            "logprobs": None if self.request.top_logprobs is None else self._logprobs(chunks),
            "finish_reason": chunks[-1].finish_reason if chunks else None,
            "stop_reason": None,
        }
        if self.presentation.token_ids:
            choice["token_ids"] = [token for chunk in chunks for token in chunk.token_ids]
        self._offset += len(choice["text"])
        return choice

    def _logprobs(self, chunks: Sequence[GenerationChunk]) -> dict[str, Any]:
        offset, offsets, found = self._offset, list[int](), list[TokenLogprob]()
        for chunk in chunks:
            found += chunk.logprobs or []
            offsets += [offset] * len(chunk.logprobs or [])
            offset += len(chunk.text)
        return {
            "tokens": [self._name(entry.token_id) for entry in found],
            "token_logprobs": [entry.logprob for entry in found],
            # As in vLLM, the token itself always stands in its row, first, even beside `logprobs: 0`.
            "top_logprobs": [
                {self._name(entry.token_id): entry.logprob}
                | {self._name(other.token_id): other.logprob for other in entry.top}
                for entry in found
            ],
            "text_offset": offsets,
        }

    def _name(self, token: int) -> str:
        return f"token_id:{token}" if self.presentation.tokens_as_ids else self.decode(token)


def write_prompt_logprobs(
    scores: Sequence[PromptLogprob | None], decode: Callable[[int], str]
) -> list[dict[str, dict[str, Any]] | None]:
    """vLLM's prompt_logprobs of a choice: for each token {id: {logprob, rank, decoded_token}}, null for the first."""
    return [
        None
        if score is None
        else {
            str(score.token_id): {
                "logprob": score.logprob,
                "rank": score.rank,
                "decoded_token": decode(score.token_id),
            }
        }
        for score in scores
    ]


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
