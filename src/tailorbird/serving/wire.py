"""vLLM's JSON bodies in and out: completions and embeddings asked for, their answers, adapters, errors.

Source: https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html and OpenAI's completions reference.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from tailorbird.protocol.generation import (
    EmbeddingRequest,
    GenerationChunk,
    GenerationRequest,
    Structure,
    TokenLogprob,
)
from tailorbird.serving.fields import BodyRefused, Fields, is_integer
from tailorbird.serving.sampling import PromptLogprob

MAX_CHOICES = 128
MAX_TOP_LOGPROBS = 20  # vLLM's default max_logprobs
MAX_TEXTS = 2048  # of one embedding request, as OpenAI's
STRUCTURED = "structured_outputs"
_FORMS = {
    "json": "must be a JSON schema: an object, or one as text.",
    "json_object": "must be true.",
    "regex": "must be a regular expression.",
    "choice": "must be a list of non-empty strings.",
    "grammar": "must be a grammar in llguidance's dialect of Lark.",
}
_STRUCTURES = tuple(_FORMS)
# What ends a regular expression in Lark; escaped pairs are skipped, so that nothing is escaped twice.
_ENDS_REGEX = re.compile(r"\\.|/|\n", re.DOTALL)


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
    fields = Fields(body)
    stream = fields.boolean("stream")
    options = Fields(fields.take("stream_options", {}), "stream_options.")
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
        structure=_structure(fields.take(STRUCTURED, None)),
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


def _structure(given: Any) -> Structure | None:
    """vLLM's `structured_outputs`: one of json, json_object, regex, choice and grammar."""
    if given is None:
        return None
    fields = Fields(given, f"{STRUCTURED}.")
    kinds = [kind for kind in _STRUCTURES if kind in fields.given()]
    if len(kinds) != 1:
        raise BodyRefused(f"{STRUCTURED} must hold exactly one of {', '.join(_STRUCTURES)}.", STRUCTURED)
    value = fields.take(kinds[0], None)
    fields.finish()
    match kinds[0], value:
        case "json", dict():
            return Structure("json_schema", json.dumps(value))
        case "json", str() if _is_object(value):
            return Structure("json_schema", value)
        case "json_object", True:
            return Structure("json_object")
        case "regex", str() if value:
            return Structure("grammar", f"start: /{_ENDS_REGEX.sub(_escape, value)}/")
        case "choice", list() if value and all(isinstance(text, str) and text for text in cast(list[Any], value)):
            return Structure("grammar", "start: " + " | ".join(json.dumps(text) for text in cast(list[str], value)))
        case "grammar", str() if value:
            return Structure("grammar", value)
        case _:
            raise BodyRefused(f"{STRUCTURED}.{kinds[0]} {_FORMS[kinds[0]]}", STRUCTURED)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _escape(found: re.Match[str]) -> str:
    return {"/": "\\/", "\n": "\\n"}.get(found[0], found[0])


def read_embedding(body: object, *, vocab: int, context: int) -> tuple[EmbeddingRequest, bool]:
    """The request and whether base64 is wanted. Raises BodyRefused."""
    fields = Fields(body)
    model = fields.text("model")
    given = fields.take("input", None)
    form = fields.take("encoding_format", "float")
    if form not in ("float", "base64"):
        raise BodyRefused("encoding_format must be float or base64.", "encoding_format")
    fields.finish()
    texts: list[Any] = cast(list[Any], given) if isinstance(given, list) else []
    if texts and not isinstance(texts[0], list):
        texts = [texts]
    if not 0 < len(texts) <= MAX_TEXTS:
        raise BodyRefused(f"input must be a list of token ids or up to {MAX_TEXTS} such lists.", "input")
    for place, text in enumerate(texts):
        if not _is_text(text, vocab):
            raise BodyRefused(f"input[{place}] must be a non-empty list of token ids below {vocab}.", "input")
        if len(text) > context:
            raise BodyRefused(
                f"This model's maximum context length is {context} tokens. However, input[{place}] has {len(text)}.",
                "input",
            )
    return EmbeddingRequest(model, texts), form == "base64"


def _is_text(value: object, vocab: int) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(is_integer(token) and 0 <= token < vocab for token in cast(list[Any], value))
    )


def write_embeddings(vectors: Sequence[list[float]], *, base64_wanted: bool) -> list[dict[str, Any]]:
    """Items of `data`; base64 is of float32, little-endian."""
    return [
        {"index": index, "object": "embedding", "embedding": _pack(vector) if base64_wanted else vector}
        for index, vector in enumerate(vectors)
    ]


def _pack(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


@dataclass(frozen=True, slots=True)
class LoadBody:
    name: str
    path: str
    replace: bool


def read_load(body: object) -> LoadBody:
    fields = Fields(body)
    load = LoadBody(fields.text("lora_name"), fields.text("lora_path"), fields.boolean("load_inplace"))
    fields.finish()
    return load


def read_unload(body: object) -> str:
    fields = Fields(body)
    name = fields.text("lora_name")
    fields.optional_integer("lora_int_id", 0, 2**31)  # vLLM's own clients may send it; the name decides
    fields.finish()
    return name


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
