"""Store, Leases, Blobs, Trainer, Engine, Moderator, Clock: what the use cases need of the outside world.

Store, Leases and Blobs are synchronous (short SQL, streamed bytes); Trainer, Engine and Moderator are asynchronous
(they wait for other processes). Implementations live in `infra/`; each has to pass its port's contract suite.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

from tailorbird.domain.access import Account, Assignment, ServicePrincipal
from tailorbird.domain.deployments import Deployment
from tailorbird.domain.files import File
from tailorbird.domain.jobs import Checkpoint, Job, JobEvent
from tailorbird.domain.models import TunedModel
from tailorbird.protocol.generation import Generation, GenerationChunk, GenerationRequest
from tailorbird.protocol.training import TrainEvent, TrainPlan

T = TypeVar("T")
Order = Literal["asc", "desc"]


# --- what the outside world can answer beside results -----------------------------------------------------------------


class LeaseLost(Exception):
    """Another worker has taken the job over; drop it without a trace."""


class AlreadyThere(Exception):
    """A row with this key exists."""


class BlobMissing(Exception):
    """No blob under this key."""


class TrainerCrashed(Exception):
    """The trainer's process ended without a last event; `exit_code` as the operating system gave it."""

    def __init__(self, exit_code: int, tail: str) -> None:
        super().__init__(f"trainer ended with exit code {exit_code}")
        self.exit_code = exit_code
        self.tail = tail


class EngineDown(Exception):
    """The engine cannot be reached or broke off."""


class AdapterUnknown(Exception):
    """The engine has no adapter (any more) by this name; load it and try again."""


class EngineRefused(Exception):
    """The engine says the request is at fault; the text may be shown."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a list; `has_more` says whether another follows."""

    items: list[T]
    has_more: bool


# --- the store --------------------------------------------------------------------------------------------------------


class AccountTable(Protocol):
    def add(self, account: Account) -> None:
        """Raises AlreadyThere when the resource id is taken (names compare case-insensitively)."""
        ...

    def get(self, account_id: str) -> Account | None: ...

    def by_key(self, key: str) -> Account | None:
        """The account one of whose two keys this is."""
        ...

    def by_name(self, subscription_id: str, resource_group: str, name: str) -> Account | None:
        """Case-insensitive, as ARM is."""
        ...

    def list(self, subscription_id: str | None = None) -> list[Account]: ...

    def add_service_principal(self, principal: ServicePrincipal) -> None: ...

    def service_principal(self, app_id: str) -> ServicePrincipal | None: ...

    def add_assignment(self, object_id: str, assignment: Assignment) -> None:
        """Granting twice is granting once."""
        ...

    def secret(self, name: str) -> str | None:
        """A secret of the installation itself (the token signing key)."""
        ...

    def add_secret(self, name: str, value: str) -> str:
        """Keeps the first value ever given under this name and answers it."""
        ...


class FileTable(Protocol):
    def add(self, file: File) -> None:
        """Raises AlreadyThere."""
        ...

    def get(self, account_id: str, file_id: str) -> File | None: ...

    def list(self, account_id: str, *, purpose: str | None, after: str | None, limit: int, order: Order) -> Page[File]:
        """By creation time; `after` is the id of the last item of the page before; an unknown one yields nothing."""
        ...

    def save(self, file: File) -> None: ...

    def delete(self, account_id: str, file_id: str) -> bool:
        """Says whether there was one."""
        ...

    def unfinished(self) -> list[File]:
        """Files of every account still pending or running; a restarted server finishes them."""
        ...


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
        """Writes every field but `cancel_requested` and `attempts`.

        With `owner` only while it holds the lease, without only while nobody holds an unexpired one; else, and when the
        job has ended otherwise in the meantime, raises LeaseLost."""
        ...

    def request_cancel(self, job_id: str) -> None: ...

    def cancel_requested(self, job_id: str) -> bool: ...

    def append_event(self, event: JobEvent) -> bool:
        """Writes it unless (job, key) is there already; says whether it was new."""
        ...

    def events(self, job_id: str, *, after: str | None, limit: int) -> Page[JobEvent]:
        """Newest first, in the reverse order of appending."""
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

    def active_count(self, account_id: str) -> int:
        """Jobs of the account that have not ended."""
        ...

    def delete(self, account_id: str, job_id: str) -> bool:
        """The job and its events; checkpoints stay, as models and deployments may need them."""
        ...


class ModelTable(Protocol):
    def add(self, model: TunedModel) -> None:
        """Adding the same name again replaces it."""
        ...

    def find(self, account_id: str, reference: str) -> TunedModel | None:
        """By Azure name or OpenAI name."""
        ...

    def list(self, account_id: str) -> list[TunedModel]:
        """Oldest first."""
        ...

    def delete(self, account_id: str, name: str) -> bool: ...


class DeploymentTable(Protocol):
    def add(self, deployment: Deployment) -> None:
        """Raises AlreadyThere when the account has one of this name (case-insensitive)."""
        ...

    def get(self, account_id: str, name: str) -> Deployment | None:
        """Case-insensitive."""
        ...

    def list(self, account_id: str) -> list[Deployment]:
        """By name."""
        ...

    def save(self, deployment: Deployment) -> None: ...

    def touch(self, account_id: str, name: str, used_at: datetime) -> None:
        """Remembers when it last served a request."""
        ...

    def delete(self, account_id: str, name: str) -> bool: ...

    def of_checkpoint(self, checkpoint_id: str) -> Deployment | None:
        """The deployment that serves this checkpoint, in any account."""
        ...

    def unfinished(self) -> list[Deployment]:
        """Deployments of every account in Creating or Deleting; a restarted server finishes them."""
        ...


class Session(Protocol):
    """One transaction: everything done through it happens, or nothing."""

    @property
    def accounts(self) -> AccountTable: ...
    @property
    def files(self) -> FileTable: ...
    @property
    def jobs(self) -> JobTable: ...
    @property
    def models(self) -> ModelTable: ...
    @property
    def deployments(self) -> DeploymentTable: ...


class Store(Protocol):
    def begin(self) -> AbstractContextManager[Session]:
        """Commits when the block ends, rolls back when it raises. Never hold it across an await."""
        ...

    def ping(self) -> None:
        """Raises when the database cannot be reached."""
        ...


class Leases(Protocol):
    """The queue: a job row that has not ended and nobody holds may be claimed by one worker at a time."""

    def claim(self, owner: str, now: datetime, seconds: float) -> Job | None:
        """The oldest unended job without an unexpired lease, now held by `owner`; counts the attempt."""
        ...

    def beat(self, job_id: str, owner: str, now: datetime, seconds: float) -> bool:
        """Extends the lease; False when it is no longer the owner's."""
        ...

    def release(self, job_id: str, owner: str) -> None: ...


# --- bytes, processes, time -------------------------------------------------------------------------------------------


class Blobs(Protocol):
    """Keys are relative paths with forward slashes. A blob is seen whole or not at all."""

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Writes or replaces in constant memory and answers the size in bytes. When `chunks` raises nothing is left."""
        ...

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """In chunks. Raises BlobMissing (before the first chunk is asked for)."""
        ...

    def size(self, key: str) -> int:
        """Raises BlobMissing."""
        ...

    def delete(self, key: str) -> None:
        """Deleting what is not there is fine."""
        ...

    def list(self, prefix: str) -> list[str]:
        """All keys below the prefix folder, sorted."""
        ...


class TrainerRun(Protocol):
    def events(self) -> AsyncIterator[TrainEvent]:
        """Every event in the run folder from its first line, then those still to come, until the process has ended.

        The last one is Finished, Interrupted or Failed; raises TrainerCrashed when the process ends without."""
        ...

    async def stop(self) -> None:
        """Asks the trainer to save and leave; `events` then ends with Interrupted."""
        ...

    async def kill(self) -> None:
        """Ends the process at once and waits until it is gone."""
        ...


class Trainer(Protocol):
    async def start(self, plan: TrainPlan) -> TrainerRun: ...


class Engine(Protocol):
    """One base model's inference engine."""

    async def complete(self, request: GenerationRequest) -> Generation:
        """Raises EngineDown, AdapterUnknown, EngineRefused."""
        ...

    def stream(self, request: GenerationRequest) -> AsyncIterator[GenerationChunk]:
        """Raises as `complete` does, before the first chunk or between chunks."""
        ...

    async def load_adapter(self, name: str, folder: Path) -> None:
        """Loading the same folder under the same name again is fine. Raises EngineDown, EngineRefused."""
        ...

    async def unload_adapter(self, name: str) -> None:
        """Unloading what is not loaded is fine."""
        ...

    async def ready(self) -> bool: ...


class Engines(Protocol):
    def of(self, base: str) -> Engine:
        """The engine that serves this base model (a key of the catalogue). Raises EngineDown when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """`harms` are the categories (hate_fairness, self_harm, sexual, violence) at or above the operator's threshold."""

    harms: frozenset[str]


class Moderator(Protocol):
    async def screen(self, texts: Sequence[str]) -> list[Verdict]:
        """One verdict a text."""
        ...


class Clock(Protocol):
    def now(self) -> datetime:
        """Aware, UTC."""
        ...
