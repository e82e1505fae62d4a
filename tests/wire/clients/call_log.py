"""What an SDK's calls did, one JSON line each. Runs under every version of the SDK, so it imports nothing else."""

from __future__ import annotations

import inspect
import json
import time
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

WAIT_SECONDS = 240.0
POLL_SECONDS = 0.1


class SectionEnded(Exception):
    """A call failed, and what comes after it in its section needs its answer."""


class Run:
    """One client on one surface. `given` holds what the server was prepared with: names, ids, rows of data.

    `lenient` is the same client without strict validation: no version of the SDK has `paused` among a job's states.
    """

    def __init__(self, client: Any, lenient: Any, given: dict[str, Any], surface: str, label: str) -> None:
        self.client = client
        self.lenient = lenient
        self.given = given
        self.surface = surface
        self.label = label
        self.openai_words = surface == "openai"
        self.absent: list[str] = []

    def has(self, path: str) -> bool:
        """Whether this version of the SDK has the call; what it lacks is told apart from what failed."""
        found = self.client
        for part in path.split("."):
            found = getattr(found, part, None)
            if found is None:
                self.absent.append(path)
                return False
        return True

    @asynccontextmanager
    async def call(self, name: str) -> AsyncGenerator[None]:
        """The block makes one call and checks its answer; whatever it raises becomes the line's detail."""
        try:
            yield
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = next((f for f in traceback.extract_tb(error.__traceback__) if "openai_" in f.filename), place)
            self._tell(name, f"{type(error).__name__}: {error} (at `{where.line}`)"[:1500])
            raise SectionEnded(name) from error
        self._tell(name, "")

    def _tell(self, name: str, detail: str) -> None:
        print(json.dumps({"call": name, "ok": not detail, "detail": detail}), flush=True)


async def done(value: Any) -> Any:
    """The answer of a call, whether the client is a sync or an async one."""
    return await value if inspect.isawaitable(value) else value


async def walk(value: Any) -> list[Any]:
    """Everything a paginator or a stream yields, page after page."""
    if hasattr(value, "__aiter__"):
        return [item async for item in value]
    value = await done(value)
    return [item async for item in value] if hasattr(value, "__aiter__") else list(value)


async def wait_until(what: str, check: Callable[[], Awaitable[bool]]) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while not await check():
        assert time.monotonic() < until, f"waited {WAIT_SECONDS} s for {what}"
        time.sleep(POLL_SECONDS)


def fields_for(call: Callable[..., Any], **fields: Any) -> dict[str, Any]:
    """The fields as this version takes them: by name where it knows the name, in `extra_body` where it does not."""
    known = inspect.signature(call).parameters
    extra = {name: value for name, value in fields.items() if name not in known}
    named = {name: value for name, value in fields.items() if name in known}
    return {**named, "extra_body": extra} if extra else named


def same(found: object, expected: object, what: str = "value") -> None:
    assert found == expected, f"{what}: {found!r} instead of {expected!r}"
