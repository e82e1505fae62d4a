"""The table of fine-tuning jobs, the leases that make it a queue, and an account's settings."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Protocol

from tailorbird.domain.jobs import Checkpoint, Job, JobEvent, JobStatus
from tailorbird.service.ports.outcomes import Page


class JobTable(Protocol):
    def add(self, job: Job) -> None:
        """Raises AlreadyThere."""
        ...

    def get(self, account_id: str | None, job_id: str) -> Job | None:
        """`account_id` None looks in all accounts (worker only)."""
        ...

    def list(
        self, account_id: str, *, after: str | None, limit: int, metadata: dict[str, str] | None = None
    ) -> Page[Job]:
        """Newest first; with `metadata` only jobs that carry all of these pairs."""
        ...

    def save(self, job: Job, *, owner: str | None) -> None:
        """Writes every field but `cancel_requested` and `attempts`. A paused or ended job is nobody's: its lease goes.

        With `owner` only while it holds the lease, without only while nobody holds an unexpired one; else, and when the
        job has ended otherwise in the meantime, raises LeaseLost. RUNNING in training does not overwrite PAUSING."""
        ...

    def request_cancel(self, job_id: str) -> None: ...

    def cancel_requested(self, job_id: str) -> bool: ...

    def request_pause(self, job_id: str) -> bool:
        """Makes a job that runs and trains PAUSING, whoever holds it; False when it does neither."""
        ...

    def append_event(self, event: JobEvent) -> bool:
        """Writes it unless (job, key) is there already; says whether it was new."""
        ...

    def find_event(self, job_id: str, key: str) -> JobEvent | None: ...

    def events(self, job_id: str, *, after: str | None, limit: int) -> Page[JobEvent]:
        """Newest first, in the reverse order of appending."""
        ...

    def metrics(self, job_id: str, *, after: str | None, limit: int) -> Page[JobEvent]:
        """Its METRICS events alone, oldest first; `after` is the id of one of them."""
        ...

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Adding the same id again replaces it."""
        ...

    def checkpoints(self, job_id: str, *, after: str | None, limit: int) -> Page[Checkpoint]:
        """Highest step first."""
        ...

    def find_checkpoint(self, account_id: str, reference: str) -> Checkpoint | None:
        """By id, Azure name or OpenAI name."""
        ...

    def continued(self, account_id: str, job_id: str) -> list[Job]:
        """The account's jobs that began with a checkpoint of this one, oldest first."""
        ...

    def hold(self, account_id: str) -> None:
        """Until the transaction ends, others who hold the same account wait."""
        ...

    def active_count(self, account_id: str) -> int:
        """Jobs of the account that have not ended."""
        ...

    def count(self, account_id: str, statuses: Collection[JobStatus] | None = None) -> int:
        """Jobs of the account: all of them, or the unended ones in these states."""
        ...

    def waiting(self, limit: int) -> list[Job]:
        """Jobs of all accounts that wait for a worker, in the order they would be claimed in."""
        ...

    def delete(self, account_id: str, job_id: str) -> bool:
        """The job and its events; checkpoints stay, as models and deployments may need them."""
        ...


class AccountSettings(Protocol):
    """What an account has set for itself, by name."""

    def get(self, account_id: str, name: str) -> str | None: ...

    def put(self, account_id: str, name: str, value: str | None) -> None:
        """Writes or replaces; None removes."""
        ...


class Leases(Protocol):
    """The queue: a job row that is neither ended nor paused and nobody holds may be claimed by one worker at a time."""

    def claim(
        self, owner: str, now: datetime, seconds: float, per_account: int, bases: Collection[str] | None = None
    ) -> Job | None:
        """The oldest waiting job, now held by `owner`; counts the attempt.

        An account with `per_account` unexpired leases is passed over. None when that job's base is not one of `bases`:
        a younger one is not claimed before it."""
        ...

    def beat(self, job_id: str, owner: str, now: datetime, seconds: float) -> bool:
        """Extends the lease; False when it is no longer the owner's."""
        ...

    def release(self, job_id: str, owner: str) -> None: ...
