"""The engine behind HTTP: our own or `vllm serve --enable-lora`, spoken to in vLLM's terms."""

from __future__ import annotations

import base64
import binascii
import json
import sys
from array import array
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import Any, NoReturn, cast

import httpx

from tailorbird.protocol.generation import (
    EmbeddingRequest,
    Embeddings,
    FinishReason,
    Generation,
    GenerationChoice,
    GenerationChunk,
    GenerationRequest,
    TokenLogprob,
    TopLogprob,
    request_to_wire,
)
from tailorbird.protocol.logs import JOB_HEADER, REQUEST_HEADER
from tailorbird.service.ports import AdapterUnknown, Engine, EngineDown, EngineRefused

# A long answer on a slow machine takes minutes; the connection itself does not.
_TIMEOUT = httpx.Timeout(600.0, connect=5.0)
_TOKEN = "token_id:"


def _nobody() -> Mapping[str, str]:
    return {}


class HttpEngine:
    """`belongs_to` says at each request which `request_id` and `job` it is made for; the engine logs them."""

    def __init__(self, url: str, belongs_to: Callable[[], Mapping[str, str]] = _nobody) -> None:
        self._belongs_to = belongs_to
        self._open: set[str] = set()
        self._client = httpx.AsyncClient(base_url=url, timeout=_TIMEOUT, trust_env=False)

    async def complete(self, request: GenerationRequest) -> Generation:
        body = await self._post("/v1/completions", request_to_wire(request, stream=False))
        choices = [_choice(raw) for raw in body["choices"]]
        usage = body["usage"]
        scored = body["choices"][0].get("prompt_logprobs")
        return Generation(
            choices=choices,
            prompt_tokens=int(usage["prompt_tokens"]),
            completion_tokens=int(usage["completion_tokens"]),
            prompt_logprobs=None if scored is None else _scores(scored, request.prompt),
        )

    async def stream(self, request: GenerationRequest) -> AsyncIterator[GenerationChunk]:
        try:
            body = request_to_wire(request, stream=True)
            with self._named() as headers:
                async with self._client.stream("POST", "/v1/completions", json=body, headers=headers) as response:
                    if response.status_code != 200:
                        await response.aread()
                        _refuse(response)
                    async for line in response.aiter_lines():
                        for chunk in _chunks(line):
                            yield chunk
        except httpx.TransportError as error:
            raise EngineDown(f"the inference engine broke off: {error!r}") from error

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        # base64 carries float32 exactly, in a third of the bytes that decimals take.
        asked = {"model": request.model, "input": request.inputs, "encoding_format": "base64"}
        body = await self._post("/v1/embeddings", asked)
        rows = sorted(body["data"], key=lambda row: int(row["index"]))
        return Embeddings([_vector(row["embedding"]) for row in rows], int(body["usage"]["prompt_tokens"]))

    async def load_adapter(self, name: str, folder: Path) -> None:
        await self._post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})

    async def unload_adapter(self, name: str) -> None:
        try:
            await self._post("/v1/unload_lora_adapter", {"lora_name": name})
        except AdapterUnknown:
            return

    async def ready(self) -> bool:
        try:
            return (await self._client.get("/health", timeout=5.0)).status_code == 200
        except httpx.TransportError:
            return False

    async def close(self) -> None:
        await self._client.aclose()

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            with self._named() as headers:
                response = await self._client.post(path, json=body, headers=headers)
        except httpx.TransportError as error:
            raise EngineDown(f"the inference engine cannot be reached: {error!r}") from error
        if response.status_code != 200:
            _refuse(response)
        # vLLM answers adapter calls with plain text.
        return response.json() if "json" in response.headers.get("content-type", "") else {}

    @contextmanager
    def _named(self) -> Generator[dict[str, str]]:
        """The headers of a request until it is answered. vLLM refuses an id that another open request has: what is
        asked at the same time for the same request gets a number behind it."""
        told = self._belongs_to()
        headers = {JOB_HEADER: told["job"]} if told.get("job") else {}
        own = told.get("request_id")
        if not own:
            yield headers
            return
        name = next(name for name in chain([own], (f"{own}-{n}" for n in count(2))) if name not in self._open)
        self._open.add(name)
        try:
            yield {**headers, REQUEST_HEADER: name}
        finally:
            self._open.discard(name)


class HttpEngines:
    """Engines by base model."""

    def __init__(self, urls: Mapping[str, str], belongs_to: Callable[[], Mapping[str, str]] = _nobody) -> None:
        self._engines = {base: HttpEngine(url, belongs_to) for base, url in urls.items()}

    def of(self, base: str) -> Engine:
        engine = self._engines.get(base)
        if engine is None:
            raise EngineDown(f"no engine is configured for the base model {base!r}")
        return engine

    async def close(self) -> None:
        for engine in self._engines.values():
            await engine.close()


def _chunks(line: str) -> list[GenerationChunk]:
    """Of one line of an event stream."""
    data = line.removeprefix("data:").strip()
    if not line.startswith("data:") or data == "[DONE]":
        return []
    body = json.loads(data)
    if "error" in body:
        raise EngineDown(str(body["error"]))
    return [_chunk(raw) for raw in body["choices"]]


def _refuse(response: httpx.Response) -> NoReturn:
    try:
        raw = response.json()
        message = str(raw.get("error", raw).get("message", raw))
    except (ValueError, AttributeError):
        message = response.text[:500]
    if response.status_code == 404:
        raise AdapterUnknown(message)
    if response.status_code < 500:
        raise EngineRefused(message)
    raise EngineDown(f"the inference engine answered {response.status_code}: {message}")


def _choice(raw: dict[str, Any]) -> GenerationChoice:
    return GenerationChoice(
        index=int(raw["index"]),
        text=str(raw["text"]),
        token_ids=list(raw.get("token_ids") or []),
        finish_reason=_reason(raw["finish_reason"]),
        logprobs=_logprobs(raw.get("logprobs")),
    )


def _chunk(raw: dict[str, Any]) -> GenerationChunk:
    reason = raw.get("finish_reason")
    return GenerationChunk(
        index=int(raw["index"]),
        text=str(raw["text"]),
        token_ids=list(raw.get("token_ids") or []),
        logprobs=_logprobs(raw.get("logprobs")),
        finish_reason=None if reason is None else _reason(reason),
    )


def _reason(text: object) -> FinishReason:
    return "length" if text == "length" else "stop"


def _logprobs(raw: dict[str, Any] | None) -> list[TokenLogprob] | None:
    if raw is None:
        return None
    tops = cast("list[dict[str, float] | None]", raw.get("top_logprobs") or [None] * len(raw["tokens"]))
    return [
        TokenLogprob(
            token_id=_token_id(token),
            logprob=float(logprob),
            top=sorted(
                (TopLogprob(_token_id(name), float(value)) for name, value in (top or {}).items()),
                key=lambda entry: -entry.logprob,
            ),
        )
        for token, logprob, top in zip(raw["tokens"], raw["token_logprobs"], tops, strict=True)
    ]


def _vector(raw: str | list[float]) -> list[float]:
    """An embedding as the engine wrote it: base64 of little-endian float32 or, where that is not known, numbers."""
    if isinstance(raw, list):
        return [float(value) for value in raw]
    try:
        values = array("f", base64.b64decode(raw, validate=True))
    except (binascii.Error, ValueError) as error:
        raise EngineDown(f"the inference engine's embedding cannot be read: {error}") from error
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()


def _token_id(text: str) -> int:
    return int(text.removeprefix(_TOKEN))


def _scores(raw: list[dict[str, dict[str, Any]] | None], prompt: list[int]) -> list[float | None]:
    """vLLM lists, per position, the token's own entry next to the likeliest ones."""
    return [
        None if entry is None else float(entry[str(token)]["logprob"]) for entry, token in zip(raw, prompt, strict=True)
    ]
