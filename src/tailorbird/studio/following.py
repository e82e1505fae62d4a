"""One job, asked for once for all open pages that show it: they are told what is new, and only that."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

from nicegui import ui

from tailorbird.studio.client import Api, Refused
from tailorbird.studio.curves import Curves, Point
from tailorbird.studio.visit import Visit

log = logging.getLogger(__name__)

ENDED = frozenset({"succeeded", "failed", "cancelled"})
EVENTS_PAGE = 50
# Seconds between two looks, by what the job does; an ended one is not looked at again.
_LOOKS = {"running": 2.0, "pausing": 1.0, "resuming": 1.5, "paused": 5.0}
_WAITING_LOOK = 2.0
_AFTER_A_FAILURE = 10.0


@dataclass(frozen=True, slots=True)
class News:
    """What one look found: new points and events (newest first), and whether the rest is other than before."""

    points: list[Point] = field(default_factory=list[Point])
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    job: bool = False
    checkpoints: bool = False


Listener = Callable[[News], None]


class Following:
    """`job`, `checkpoints` and `events` are the API's; `progress` is the last answer of its own route."""

    def __init__(self, api: Api, job_id: str) -> None:
        self.id = job_id
        self.curves = Curves()
        self.job: dict[str, Any] = {}
        self.progress: dict[str, Any] = {}
        self.events: list[dict[str, Any]] = []
        self.older = False
        """Whether there are events before those in `events`."""
        self.checkpoints: list[dict[str, Any]] = []
        self._api = api
        self._after: str | None = None
        self._listeners: list[tuple[ui.element, Listener]] = []
        self._wake = asyncio.Event()
        self._looking = asyncio.Lock()
        self._task: asyncio.Task[Any] | None = None

    @property
    def status(self) -> str:
        return str(self.progress.get("status") or "")

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    def listen(self, owner: ui.element, listener: Listener) -> None:
        """Tells `listener` what is new as long as `owner` is on somebody's page."""
        if self.ended:
            return
        self._listeners.append((owner, listener))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"following {self.id}")
            self._task.add_done_callback(_report)

    def nudge(self) -> None:
        """Somebody changed the job: look now."""
        self._wake.set()

    async def look(self, api: Api | None = None) -> None:
        """Asks for what is new and tells every page. Raises Refused."""
        self._api = api or self._api
        async with self._looking:
            self._tell(await self._look())

    async def _look(self) -> News:
        before = self.progress
        points = await self._read_progress()
        job = before.get("status") != self.progress["status"] or before.get("stage") != self.progress["stage"]
        if job:
            self.job = await self._api.data("GET", f"/fine_tuning/jobs/{self.id}")
        events: list[dict[str, Any]] = []
        if self.progress["last_event"] != before.get("last_event"):
            events = await self._read_events()
        checkpoints = any(event["type"] != "metrics" for event in events)
        if checkpoints:
            page = await self._api.own("GET", f"/fine_tuning/jobs/{self.id}/checkpoints", params={"limit": 1000})
            checkpoints = page["data"] != self.checkpoints
            self.checkpoints = page["data"]
        return News(points, events, job, checkpoints)

    async def _read_progress(self) -> list[Point]:
        new: list[Point] = []
        while True:
            params = {"limit": 200} | ({"after": self._after} if self._after else {})
            told = await self._api.own("GET", f"/fine_tuning/jobs/{self.id}/progress", params=params)
            new += self.curves.add(told.pop("points"))
            self._after, self.progress = told["after"], told
            if not told["has_more"]:
                return new

    async def _read_events(self) -> list[dict[str, Any]]:
        params = {"limit": EVENTS_PAGE}
        page = await self._api.data("GET", f"/fine_tuning/jobs/{self.id}/events", params=params)
        known = {event["id"] for event in self.events}
        new = [event for event in page["data"] if event["id"] not in known]
        # More than a page in one look: what lies between is read like older ones.
        gap = bool(self.events) and len(new) == len(page["data"]) and page["has_more"]
        if not self.events or gap:
            self.older = page["has_more"]
        self.events = new if gap else [*new, *self.events]
        return new

    async def _run(self) -> None:
        while not self.ended:
            pause = _LOOKS.get(self.status, _WAITING_LOOK)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)
            self._wake.clear()
            self._listeners = [(owner, told) for owner, told in self._listeners if not owner.is_deleted]
            if not self._listeners:
                return
            try:
                await self.look()
            except Refused as error:
                if error.status in (401, 403, 404):
                    return
                await asyncio.sleep(_AFTER_A_FAILURE)

    def _tell(self, news: News) -> None:
        for owner, listener in list(self._listeners):
            if owner.is_deleted:
                continue
            try:
                listener(news)
            except Exception:
                # One page's trouble must not leave the others without news.
                log.exception("a page could not show what is new", extra={"job": self.id})


def _report(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a job is no longer followed", exc_info=error)


_FOLLOWED: WeakValueDictionary[tuple[str, str, str], Following] = WeakValueDictionary()


async def follow(visit: Visit, job_id: str) -> Following:
    """The job as it is now, shared with every page of the same session. Raises Refused."""
    api = visit.api
    key = (api.session.credential, api.account.id if api.account else "", job_id)
    found = _FOLLOWED.get(key)
    if found is None:
        found = _FOLLOWED[key] = Following(api, job_id)
    if not found.progress or not found.ended:
        await found.look(api)
    return found
