"""The tables of uploaded files and of those being fetched from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tailorbird.domain.files import File, FileImport
from tailorbird.service.ports.outcomes import Order, Page


@dataclass(frozen=True, slots=True)
class FileCount:
    """How many files there are, and the bytes they hold together."""

    files: int
    bytes: int


class FileTable(Protocol):
    """A file past its expiry is not there, but for `kept` and the sweep."""

    def add(self, file: File) -> None:
        """Raises AlreadyThere."""
        ...

    def get(self, account_id: str, file_id: str) -> File | None: ...

    def kept(self, account_id: str, file_id: str) -> File | None:
        """Also past its expiry, while it is there: a job that began with a file may finish with it."""
        ...

    def list(self, account_id: str, *, purpose: str | None, after: str | None, limit: int, order: Order) -> Page[File]:
        """By creation time; `after` is the id of the last item of the page before; an unknown one yields nothing."""
        ...

    def save(self, file: File) -> None: ...

    def delete(self, account_id: str, file_id: str) -> bool:
        """Says whether there was one."""
        ...

    def unfinished(self) -> list[File]:
        """Files of every account still pending or running whose bytes are here; a restarted server finishes them."""
        ...

    def count(self, account_id: str, purpose: str) -> FileCount:
        """Counted alone: other transactions that count files of the account wait until this one has ended."""
        ...

    def expired(self, now: datetime, limit: int) -> list[File]:
        """Files of every account past their expiry that no unended job uses, oldest expiry first."""
        ...


class ImportTable(Protocol):
    """What is still to be fetched."""

    def add(self, row: FileImport) -> None: ...

    def get(self, file_id: str) -> FileImport | None: ...

    def unfinished(self) -> list[FileImport]:
        """Of every account, oldest first."""
        ...

    def advance(self, row: FileImport, *, received: int, version: str | None) -> bool:
        """Moves it on from where `row` is; False when it stands elsewhere by now or is gone: another is at work."""
        ...

    def delete(self, file_id: str) -> bool:
        """Erases the URL; deleting what is not there is fine."""
        ...
