"""What a client that is driven command by command did: one row of the table of clients for each command."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from client_runs import Judge, Result


class Ledger:
    """Filled by the tests of one client; `keep` writes a result for each mode once they are through."""

    def __init__(self, client: str, version: str) -> None:
        self._client = client
        self._version = version
        self._calls: dict[Judge, dict[str, None]] = {}
        self._failed: dict[Judge, dict[str, str]] = {}

    @contextmanager
    def call(self, surface: str, mode: str, name: str) -> Generator[None]:
        """The block makes one call of that mode and judges its answer; it counts as failed when that raises.

        A call that is made again and again until something has happened counts once.
        """
        judge = Judge(self._client, self._version, surface, mode)
        self._calls.setdefault(judge, {})[name] = None
        try:
            yield
        except BaseException as error:
            self._failed.setdefault(judge, {})[name] = str(error)[:1500]
            raise

    def keep(self) -> None:
        for judge, calls in self._calls.items():
            Result(judge, tuple(calls), self._failed.get(judge, {})).keep()
