"""Bytes, processes and time: Blobs, Trainer, Engine, Moderator, Clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from tailorbird.domain.safety import Scores
from tailorbird.protocol.generation import EmbeddingRequest, Embeddings, Generation, GenerationChunk, GenerationRequest
from tailorbird.protocol.training import TrainEvent, TrainPlan


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

    async def stepped(self) -> None:
        """Returns when this process has trained a step no process before it has told of, or has ended."""
        ...

    async def stop(self, patience: float | None = None) -> None:
        """Asks the trainer to save and leave, and waits until it has; `events` then ends with Interrupted.

        One that takes longer than `patience` seconds is killed; None leaves it to the implementation."""
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

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Raises EngineDown, EngineRefused."""
        ...

    async def ready(self) -> bool: ...


class Engines(Protocol):
    def of(self, base: str) -> Engine:
        """The engine that serves this base model (a key of the catalogue). Raises EngineDown when there is none."""
        ...


class Moderator(Protocol):
    async def score(self, texts: Sequence[str]) -> list[Scores]:
        """A severity for every category, text by text. Raises ModeratorDown when it cannot say."""
        ...


class Clock(Protocol):
    def now(self) -> datetime:
        """Aware, UTC."""
        ...
