"""Files of other servers, read over https."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


class WebRefused(Exception):
    """The URL will not be read, now or later; the text may be shown and holds nothing of the URL but its host."""


class WebBroken(Exception):
    """The connection could not be made or broke off, or the server was busy; try again. Showable as WebRefused is."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer being read. `start` is where its bytes begin in the file: 0 when the server had to begin again.

    `total` is the file's size where the server says it; `version` changes with the file, None when that cannot be told.
    """

    start: int
    total: int | None
    version: str | None
    chunks: Iterator[bytes]


class Web(Protocol):
    def check(self, url: str) -> None:
        """Refuses what needs no connection to refuse: scheme, form, host. Raises WebRefused."""
        ...

    def open(self, url: str, start: int, version: str | None) -> AbstractContextManager[Fetched]:
        """The file from byte `start`, if it is still `version`; else from its beginning.

        Raises WebRefused and WebBroken; `chunks` raises WebBroken."""
        ...
