"""The process of a group: plans from the command line, or from a worker as they come, until the last run has left."""

from __future__ import annotations

import logging
import os
import select
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tailorbird.protocol.together import Left, Message, Stop, Train, message_from_line, message_to_line
from tailorbird.training.together import Group

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.2  # between two looks at the stop signal where there is nothing to do
_READ_BYTES = 1 << 16


def train_together(plans: Iterable[Path], *, stop_requested: Callable[[], bool], listens: bool) -> int:
    """Answers the exit status: 1 when one of the runs has failed."""
    worker = _Worker() if listens else None
    group = Group(stop_requested=stop_requested, left=worker.tell_left if worker else lambda number: None)
    for number, plan in enumerate(plans):
        group.take_in(-number - 1, plan)  # a worker's own numbers begin at 0
    while len(group) or (worker and not worker.is_done and not stop_requested()):
        pause = min(group.turn() if len(group) else _LOOK_SECONDS, _LOOK_SECONDS)
        if worker is None or worker.is_done:
            time.sleep(pause)
            continue
        for message in worker.said(pause):
            if isinstance(message, Train):
                group.take_in(message.run, Path(message.plan))
            elif isinstance(message, Stop):
                group.stop(message.run)
    return 1 if group.failed else 0


class _Worker:
    """The two pipes. What a library prints goes to stderr: stdout is for messages alone."""

    def __init__(self) -> None:
        self._to = os.dup(sys.stdout.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self._from = sys.stdin.fileno()
        self._half = b""
        self.is_done = False
        """No message comes any more."""

    def said(self, seconds: float) -> list[Message]:
        """The messages since the last time; waits up to `seconds` for the first."""
        if not select.select([self._from], [], [], seconds)[0]:
            return []
        data = os.read(self._from, _READ_BYTES)
        self.is_done = not data
        *lines, self._half = (self._half + data).split(b"\n")
        found: list[Message] = []
        for line in lines:
            try:
                found.append(message_from_line(line))
            except ValueError:
                log.exception("a line nobody understands")
        return found

    def tell_left(self, number: int) -> None:
        try:
            os.write(self._to, message_to_line(Left(number)))
        except BrokenPipeError:
            log.info("the worker is gone")
