"""Work that goes on in the event loop after its request was answered; what breaks off is taken up at the next start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)

# The loop itself holds its tasks weakly.
_running: set[asyncio.Task[Any]] = set()


def go_on(work: Coroutine[Any, Any, Any], what: str) -> None:
    """Starts `work`; not as the framework's background task, which would hold the connection meanwhile."""
    task = asyncio.create_task(work, name=what)
    _running.add(task)
    task.add_done_callback(_ended)


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and task.exception() is not None:
        log.error("%s broke off; it goes on at the next start", task.get_name(), exc_info=task.exception())
