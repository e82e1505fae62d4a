"""Uploaded files: purposes, states and moves, and the limits on them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tailorbird.domain.errors import IllegalState

MAX_FILE_BYTES = 512 * 1024 * 1024
"""Azure takes files below 512 MB."""


class Purpose(StrEnum):
    FINE_TUNE = "fine-tune"
    FINE_TUNE_RESULTS = "fine-tune-results"


class FileStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    PROCESSED = "processed"
    ERROR = "error"


MOVES: dict[FileStatus, frozenset[FileStatus]] = {
    FileStatus.PENDING: frozenset({FileStatus.RUNNING, FileStatus.ERROR}),
    # A file found RUNNING after a crash is checked again from the start.
    FileStatus.RUNNING: frozenset({FileStatus.RUNNING, FileStatus.PROCESSED, FileStatus.ERROR}),
    FileStatus.PROCESSED: frozenset(),
    FileStatus.ERROR: frozenset(),
}


@dataclass(frozen=True, slots=True)
class File:
    """`kind` ("chat", "completion", "preference") and `examples` are known once a fine-tune file is processed."""

    id: str
    account_id: str
    filename: str
    purpose: Purpose
    bytes: int
    status: FileStatus
    created_at: datetime
    blob_key: str
    status_details: str | None = None
    kind: str | None = None
    examples: int | None = None


def check_move(current: FileStatus, new: FileStatus) -> None:
    """Raises IllegalState when the table has no such move."""
    if new not in MOVES[current]:
        raise IllegalState(f"A file that is {current} cannot become {new}.")
