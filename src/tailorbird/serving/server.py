"""The engine's HTTP interface, in vLLM's words: completions and embeddings of token ids, adapters loaded as it runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from tokenizers import Tokenizer

from tailorbird.protocol.generation import EmbeddingRequest, GenerationChunk, GenerationRequest, Structure
from tailorbird.serving import wire
from tailorbird.serving.adapters import LoadedAdapter, LoadRefused, Registry
from tailorbird.serving.fields import BodyRefused
from tailorbird.serving.forward import Forward
from tailorbird.serving.metrics import Metrics
from tailorbird.serving.observed import Observed
from tailorbird.serving.scheduler import Engine
from tailorbird.serving.structure import Compiler, Grammar, StructureRefused
from tailorbird.serving.tickets import EngineStopped, Output, PromptScores, StructureBroken, Vectors

_STOP_SECONDS = 1.0  # for open answers, and again for the engine's running step


class _Gone(Exception):
    """The model named in the request is not here."""


class _Stopped(Exception):
    """The engine stopped in the middle of the answer."""


@dataclass(slots=True)
class Api:
    """The routes. `served_name` names the base; every other model is a loaded adapter."""

    engine: Engine
    model: Forward
    tokenizer: Tokenizer
    compiler: Compiler
    registry: Registry
    metrics: Metrics
    served_name: str
    base_path: str
    started: int

    def app(self) -> Starlette:
        routes = [
            Route("/health", self.health),
            Route("/metrics", self.show_metrics),
            Route("/v1/models", self.list_models),
            Route("/v1/completions", self.complete, methods=["POST"]),
            Route("/v1/embeddings", self.embed, methods=["POST"]),
            Route("/v1/load_lora_adapter", self.load_adapter, methods=["POST"]),
            Route("/v1/unload_lora_adapter", self.unload_adapter, methods=["POST"]),
        ]
        handlers: dict[Any, Any] = {BodyRefused: _refused, _Gone: _gone, _Stopped: _stopped}
        paths = frozenset(route.path for route in routes)
        observed = [Middleware(Observed, answered=self.metrics.answered, paths=paths)]
        return Starlette(routes=routes, middleware=observed, exception_handlers=handlers, lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncGenerator[None]:
        self.engine.start()
        yield
        self.compiler.close()
        await asyncio.to_thread(self.engine.stop, _STOP_SECONDS)

    async def health(self, request: Request) -> Response:
        return Response(status_code=200 if self.engine.alive else 503)

    async def show_metrics(self, request: Request) -> Response:
        return Response(self.metrics.render(), media_type=CONTENT_TYPE_LATEST)

    async def list_models(self, request: Request) -> Response:
        base = self._model_card(self.served_name, self.base_path, None) | {"max_model_len": self.model.context}
        adapters = [self._model_card(a.name, a.path, self.served_name) for a in self.registry.loaded()]
        return JSONResponse({"object": "list", "data": [base, *adapters]})

    async def load_adapter(self, request: Request) -> Response:
        body = wire.read_load(await _json(request))
        if body.name == self.served_name:
            raise BodyRefused(f"'{body.name}' is the base model's name.", "lora_name")
        try:
            await asyncio.to_thread(self.registry.load, body.name, body.path, replace=body.replace)
        except LoadRefused as error:
            raise BodyRefused(str(error), "lora_path") from error
        return Response(f"Success: LoRA adapter '{body.name}' added successfully.", media_type="text/plain")

    async def unload_adapter(self, request: Request) -> Response:
        name = wire.read_unload(await _json(request))
        if not self.registry.unload(name):
            raise _Gone(f"The lora adapter '{name}' cannot be found.")
        return Response(f"Success: LoRA adapter '{name}' removed successfully.", media_type="text/plain")

    async def complete(self, request: Request) -> Response:
        asked, presentation = wire.read_completion(
            await _json(request), vocab=self.model.vocab, context=self.model.context
        )
        adapter = self._adapter(asked.model)
        grammar = None if asked.structure is None else await self._compile(asked.structure)
        answer = _Answer(self, asked, presentation, adapter, grammar)
        if presentation.stream:
            return StreamingResponse(answer.stream(), media_type="text/event-stream")
        return await _unless_gone(request, answer.whole())

    async def embed(self, request: Request) -> Response:
        asked, base64_wanted = wire.read_embedding(
            await _json(request), vocab=self.model.vocab, context=self.model.context
        )
        adapter = self._adapter(asked.model)
        return await _unless_gone(request, self._embed(asked, adapter, base64_wanted))

    async def _embed(
        self, asked: EmbeddingRequest, adapter: LoadedAdapter | None, base64_wanted: bool
    ) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Queue[Vectors | EngineStopped] = asyncio.Queue()
        ticket = self.engine.embed(
            asked, adapter, lambda out: loop.call_soon_threadsafe(outcome.put_nowait, out) and None
        )
        try:
            found = await outcome.get()
        finally:
            self.engine.cancel(ticket)
        if isinstance(found, EngineStopped):
            raise _Stopped("The engine stopped before the texts were embedded.")
        data = await asyncio.to_thread(wire.write_embeddings, found.vectors, base64_wanted=base64_wanted)
        return {
            "id": f"embd-{uuid.uuid4().hex}",
            "object": "list",
            "created": int(time.time()),
            "model": asked.model,
            "data": data,
            "usage": wire.usage(sum(len(text) for text in asked.inputs), 0),
        }

    async def _compile(self, structure: Structure) -> Grammar:
        """Raises BodyRefused with llguidance's reason."""
        self.metrics.count_structured()
        try:
            # Shielded: whoever hangs up must not take the grammar from others who wait for the same one.
            return await asyncio.shield(asyncio.wrap_future(self.compiler.compile(structure)))
        except StructureRefused as error:
            raise BodyRefused(f"{wire.STRUCTURED}: {error}", wire.STRUCTURED) from error

    def _adapter(self, name: str) -> LoadedAdapter | None:
        if name == self.served_name:
            return None
        adapter = self.registry.get(name)
        if adapter is None:
            raise _Gone(f"The model `{name}` does not exist.")
        return adapter

    def _model_card(self, name: str, root: str, parent: str | None) -> dict[str, Any]:
        card = {"id": name, "object": "model", "created": self.started, "owned_by": "tailorbird"}
        return card | {"root": root, "parent": parent}

    def decode(self, token: int) -> str:
        return self.tokenizer.decode([token], skip_special_tokens=False)


class _Answer:
    """One completion on its way: the engine's outputs, brought to the event loop, written as JSON."""

    def __init__(
        self,
        api: Api,
        asked: GenerationRequest,
        presentation: wire.Presentation,
        adapter: LoadedAdapter | None,
        grammar: Grammar | None,
    ) -> None:
        self._api = api
        self._asked = asked
        self._presentation = presentation
        self._adapter = adapter
        self._grammar = grammar
        self._outputs: asyncio.Queue[Output] = asyncio.Queue()
        self._completion_tokens = 0
        self._scores: PromptScores | None = None
        self._choices = [wire.ChoiceWriter(index, asked, presentation, api.decode) for index in range(asked.n)]
        self._envelope: dict[str, Any] = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": asked.model,
        }

    async def whole(self) -> dict[str, Any]:
        async with contextlib.aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                self._choices[chunk.index].add(chunk)
        choices = [choice.write() for choice in self._choices]
        for choice in choices:
            if self._presentation.token_ids:
                choice["prompt_token_ids"] = self._asked.prompt
            choice["prompt_logprobs"] = None
        if self._scores is not None:
            choices[0]["prompt_logprobs"] = wire.write_prompt_logprobs(self._scores.scores, self._api.decode)
        return self._envelope | {"choices": choices, "usage": self._usage()}

    async def stream(self) -> AsyncIterator[str]:
        try:
            async with contextlib.aclosing(self._chunks()) as chunks:
                async for chunk in chunks:
                    writer = self._choices[chunk.index]
                    writer.add(chunk)
                    yield _event(self._envelope | {"choices": [writer.write()]})
        except _Stopped as error:  # the status line is long gone: the error is an event, as in vLLM
            yield _event(wire.error_body(503, str(error)))
        except BodyRefused as error:
            yield _event(wire.error_body(400, str(error), error.param))
        else:
            if self._presentation.include_usage:
                yield _event(self._envelope | {"choices": [], "usage": self._usage()})
        yield "data: [DONE]\n\n"

    def _usage(self) -> dict[str, int]:
        return wire.usage(len(self._asked.prompt), self._completion_tokens)

    async def _chunks(self) -> AsyncGenerator[GenerationChunk]:
        """Whoever stops listening early, a client that hung up above all, frees the engine of the request."""
        loop = asyncio.get_running_loop()

        def sink(output: Output) -> None:
            loop.call_soon_threadsafe(self._outputs.put_nowait, output)

        ticket = self._api.engine.submit(self._asked, self._adapter, sink, self._grammar)
        unfinished = self._asked.n
        try:
            while unfinished:
                output = await self._outputs.get()
                if isinstance(output, EngineStopped):
                    raise _Stopped("The engine stopped before the answer was complete.")
                if isinstance(output, StructureBroken):
                    raise BodyRefused(f"{wire.STRUCTURED}: {output.reason}", wire.STRUCTURED)
                if isinstance(output, PromptScores):
                    self._scores = output
                    continue
                self._completion_tokens += len(output.token_ids)
                unfinished -= output.finish_reason is not None
                yield output
        finally:
            if unfinished:
                self._api.engine.cancel(ticket)


async def _json(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except ClientDisconnect as error:
        raise BodyRefused("The body broke off.") from error
    except ValueError as error:
        raise BodyRefused(f"The body is not JSON: {error}") from error


async def _disconnected(request: Request) -> None:
    """Returns when the client hung up. The body was read to its end before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _unless_gone(request: Request, work: Coroutine[Any, Any, dict[str, Any]]) -> Response:
    """The answer, or nothing once the client hung up: then the work is cancelled."""
    answering = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
        return JSONResponse(await answering) if answering.done() else Response(status_code=499)
    finally:
        answering.cancel()
        gone.cancel()


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, separators=(',', ':'), ensure_ascii=False)}\n\n"


async def _refused(request: Request, error: Exception) -> Response:
    param = error.param if isinstance(error, BodyRefused) else None
    return JSONResponse(wire.error_body(400, str(error), param), status_code=400)


async def _gone(request: Request, error: Exception) -> Response:
    return JSONResponse(wire.error_body(404, str(error)), status_code=404)


async def _stopped(request: Request, error: Exception) -> Response:
    return JSONResponse(wire.error_body(503, str(error)), status_code=503)


class _Server(uvicorn.Server):
    """A server that says when it is ready: it writes the port it listens on, whole or not at all, into a file."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 picks a free one. Raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named so that asyncio turns Nagle's algorithm off: with it every token would wait for the client's
    # delayed acknowledgement of the one before.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def serve(app: Starlette, listener: socket.socket, port_file: Path | None, ready: Callable[[int], None]) -> None:
    """Serves until SIGTERM or SIGINT; open answers get a second to end. Calls `ready` with the port."""
    port: int = listener.getsockname()[1]

    def say_ready() -> None:
        if port_file is not None:
            fresh = port_file.with_name(f".{port_file.name}.{os.getpid()}")
            fresh.write_text(f"{port}\n", "utf-8")
            fresh.replace(port_file)
        ready(port)

    # Without a configuration of its own uvicorn's lines go where the process's lines go.
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=int(_STOP_SECONDS),
    )
    running = _Server(config, say_ready)

    def leave(*_: object) -> None:
        running.should_exit = True

    # For a signal that comes before uvicorn listens to them, and for the one it raises again when it has stopped.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    running.run(sockets=[listener])
