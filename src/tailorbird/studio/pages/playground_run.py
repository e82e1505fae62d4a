"""One question on its way: both sides stream at once, apart from any page, so that a reload finds them still at it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from tailorbird.studio.client import AZURE_SURFACE, OPENAI_SURFACE, Api, Refused
from tailorbird.studio.pages.playground_talk import (
    DONE,
    REFUSED,
    RUNNING,
    STOPPED,
    Answer,
    Target,
    Turn,
    delta_of,
    usage_of,
)

Stream = Callable[[str, Mapping[str, Any], str], AsyncGenerator[dict[str, Any], None]]
"""Path, body and surface of a request to its chunks."""

_GOING: dict[str, Run] = {}


class Run:
    """Fills the turn's answers as they come; `ended` is called once, when the last of them has."""

    def __init__(self, turn: Turn, ended: Callable[[Turn], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.turn = turn
        self._ended = ended
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []
        self.task: asyncio.Task[None] | None = None

    def start(self, stream: Stream, path: str, bodies: Sequence[Mapping[str, Any]]) -> None:
        """One body for each answer."""
        _GOING[self.turn.id] = self
        pairs = zip(self.turn.answers, bodies, strict=True)
        self._tasks = [asyncio.create_task(self._side(stream, path, answer, body)) for answer, body in pairs]
        self.task = asyncio.create_task(self._wait())

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _wait(self) -> None:
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            for answer in self.turn.answers:
                if answer.state == RUNNING:
                    answer.state = STOPPED
            _GOING.pop(self.turn.id, None)
            self._ended(self.turn)

    async def _side(self, stream: Stream, path: str, answer: Answer, body: Mapping[str, Any]) -> None:
        target = Target.read(answer.target)
        began = self._clock()
        try:
            if target is None:
                raise Refused(answer.target)
            asked = {**body, "model": target.name, "stream_options": {"include_usage": True}}
            async for chunk in stream(path, asked, OPENAI_SURFACE if target.direct else AZURE_SURFACE):
                text, finish = delta_of(chunk)
                if text and answer.first_seconds is None:
                    answer.first_seconds = self._clock() - began
                answer.text += text
                answer.finish = finish or answer.finish
                if (usage := usage_of(chunk)) is not None:
                    answer.prompt_tokens, answer.completion_tokens = usage
            answer.state = DONE
        except Refused as error:
            answer.state, answer.problem = REFUSED, error.message
            answer.code, answer.param = error.code, error.param
        except asyncio.CancelledError:
            answer.state = STOPPED
            raise
        finally:
            answer.seconds = self._clock() - began


def going(turn_id: str) -> Run | None:
    return _GOING.get(turn_id)


def stream_of(api: Api) -> Stream:
    def stream(path: str, body: Mapping[str, Any], surface: str) -> AsyncGenerator[dict[str, Any], None]:
        return api.events(path, body, surface=surface)

    return stream
