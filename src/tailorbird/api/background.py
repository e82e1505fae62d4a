"""Work that outlives its request: threads for uploads, for judging files, and for fetching them from elsewhere."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

import anyio
from anyio import to_thread
from fastapi import Request

from tailorbird.api.context import Services
from tailorbird.domain.errors import NotFound
from tailorbird.domain.files import File

log = logging.getLogger(__name__)

Work = Callable[[], None]

_MAX_UPLOADS = 16
_MAX_JUDGING = 2
_MAX_FETCHING = 4


class Background:
    """Threads apart from those that answer short requests: a slow client holds its thread for as long as it sends,
    judging 512 MB takes a while, and a far server may take hours.

    Those that fetch do not keep the process: what they have not finished is taken up by the next one. What fails for a
    reason of ours (the database is away, say) is tried again after `retry_seconds`, so that every file ends some day.
    """

    def __init__(self, retry_seconds: float = 30.0) -> None:
        self._retry_seconds = retry_seconds
        self.uploads = anyio.CapacityLimiter(_MAX_UPLOADS)
        self._judging = anyio.CapacityLimiter(_MAX_JUDGING)
        self._waiting: SimpleQueue[Work] = SimpleQueue()
        self._fetching = 0
        self._lock = threading.Lock()

    async def judge(self, services: Services, file: File) -> None:
        work = partial(_unless_deleted, services.files.process, file.account_id, file.id)
        await to_thread.run_sync(self._try, work, limiter=self._judging)

    def fetch(self, services: Services, account_id: str, file_id: str) -> None:
        self._put(partial(services.imports.run, account_id, file_id))

    def resume_imports(self, services: Services) -> None:
        """Goes on fetching what an earlier process left unfinished."""
        for row in services.imports.unfinished():
            self.fetch(services, row.account_id, row.file_id)

    def _put(self, work: Work) -> None:
        self._waiting.put(work)
        with self._lock:
            if self._fetching < _MAX_FETCHING:
                self._fetching += 1
                threading.Thread(target=self._fetch_on, name="fetch", daemon=True).start()

    def _fetch_on(self) -> None:
        while True:
            self._try(self._waiting.get())

    def _try(self, work: Work) -> None:
        try:
            work()
        except Exception:
            log.exception("work on a file broke off; it is tried again in %s s", self._retry_seconds)
            again = threading.Timer(self._retry_seconds, self._put, (work,))
            again.daemon = True
            again.start()


def _unless_deleted(process: Callable[[str, str], File], account_id: str, file_id: str) -> None:
    try:
        process(account_id, file_id)
    except NotFound:
        log.info("%s was deleted before it was judged", file_id)


def background_of(request: Request) -> Background:
    background: Background = request.app.state.background
    return background
