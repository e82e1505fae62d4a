"""A job's integrations: each training step told to every tracker the job names."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tailorbird.domain.jobs import Job
from tailorbird.protocol.training import Metrics
from tailorbird.service.ports import Store, Tracker, TrackerRun

WANDB_KEY = "wandb_key"
"""The account's setting that holds its key at Weights & Biases."""


class Tracking:
    """`tracker` None: none is installed here; jobs that want one are then refused at creation."""

    def __init__(self, store: Store, tracker: Tracker | None) -> None:
        self._store = store
        self._tracker = tracker

    def start(self, job: Job) -> Trackers:
        if self._tracker is None or not job.integrations:
            return Trackers(())
        with self._store.begin() as tx:
            key = tx.account_settings.get(job.account_id, WANDB_KEY)
        names = [job.id, *(f"{job.id}-{number}" for number in range(2, len(job.integrations) + 1))]
        wanted = zip(job.integrations, names, strict=True)
        runs = [self._tracker.start(job, integration, name, key) for integration, name in wanted]
        return Trackers([run for run in runs if run is not None])


class Trackers:
    """One run of the trainer as its trackers see it: a step that is read twice is told once."""

    def __init__(self, runs: Sequence[TrackerRun]) -> None:
        self._runs = runs
        self._told = 0

    @property
    def any(self) -> bool:
        return bool(self._runs)

    def log(self, step: int, metrics: Metrics) -> None:
        if step <= self._told:
            return
        self._told = step
        for run in self._runs:
            run.log(step, numbers(metrics))

    def finish(self, failed: bool) -> None:
        for run in self._runs:
            run.finish(failed)


def numbers(metrics: Metrics) -> dict[str, float]:
    """What was computed; the rest has no key."""
    return {name: value for name, value in dataclasses.asdict(metrics).items() if value is not None}
