"""Tells waiting jobs their place in the queue, once for each change."""

from __future__ import annotations

from tailorbird.domain.jobs import EventKind
from tailorbird.service.jobs import event
from tailorbird.service.ports import Clock, Store

_TOLD = 100
"""So many at the head of the queue are told; further back a place means little and changes with every claim."""


class Places:
    """Asked by workers that have no hand free: a job nobody is too busy for has no place to be told."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._last: dict[str, int] = {}

    def tell(self) -> None:
        with self._store.begin() as tx:
            waiting = tx.jobs.waiting(_TOLD)
            for place, job in enumerate(waiting, start=1):
                if self._last.get(job.id) == place:
                    continue
                # Other workers tell as well; the event's key lets one of them through.
                key = f"place-{place}-{job.attempts}"
                tx.jobs.append_event(event(job, key, EventKind.POSITION, self._clock.now(), {"position": place}))
        self._last = {job.id: place for place, job in enumerate(waiting, start=1)}
