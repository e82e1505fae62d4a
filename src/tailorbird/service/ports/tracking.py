"""Somewhere outside that keeps a job's metrics: the port behind a job's integrations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tailorbird.domain.jobs import Job, WandbIntegration


class TrackerRun(Protocol):
    """One job's run. Steps may be told again; the tracker keeps the first."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def finish(self, failed: bool) -> None:
        """Nothing is logged afterwards, unless the run is started again; what is on its way is waited for."""
        ...


class Tracker(Protocol):
    """Never raises: tracking that does not work is the operator's log line, not the end of a job."""

    def start(self, job: Job, integration: WandbIntegration, run_id: str, key: str | None) -> TrackerRun | None:
        """Opens the run, or takes it up again; `key` None and no network leave it on this machine. None: it failed."""
        ...
