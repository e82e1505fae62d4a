"""Work cut into turns: between two of them nothing is half done, and another run of the process may have its own."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

Turns = Generator[float, None, T]
"""Yields at the end of each turn how many seconds there is nothing to do for it; returns what came out in the end."""


def to_the_end(turns: Turns[T]) -> T:
    """Turn after turn, for whoever is alone in the process."""
    while True:
        try:
            pause = next(turns)
        except StopIteration as end:
            return end.value
        if pause:
            time.sleep(pause)


class Stopwatch:
    """Seconds of a run's own turns; those of the others are theirs."""

    def __init__(self) -> None:
        self._before = 0.0
        self._since = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._since

    def turn(self, pause: float = 0.0) -> Turns[None]:
        """The end of one turn and the beginning of the next, as `yield from watch.turn()`."""
        self._before = self.seconds
        yield pause
        self._since = time.monotonic()
