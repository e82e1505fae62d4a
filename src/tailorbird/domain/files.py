"""Uploaded files: purposes, states and moves, expiry, and the limits on them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from tailorbird.domain.errors import IllegalState, InvalidRequest

MAX_FILE_BYTES = 512 * 1024 * 1024
"""Azure takes files below 512 MB."""
MAX_FILES = 100
"""Fine-tuning files of one account (Azure, 2026)."""
MAX_FILES_BYTES = 1024 * 1024 * 1024
"""What an account's fine-tuning files may hold together."""
MAX_FILENAME = 255
EXPIRES_AFTER = "expires_after"
EXPIRY_ANCHOR = "created_at"
MIN_EXPIRY_SECONDS, MAX_EXPIRY_SECONDS = 3_600, 2_592_000
"""One hour to thirty days, as OpenAI has it; Azure's dated specification begins at fourteen days."""


class Purpose(StrEnum):
    FINE_TUNE = "fine-tune"
    FINE_TUNE_RESULTS = "fine-tune-results"
    ASSISTANTS = "assistants"
    ASSISTANTS_OUTPUT = "assistants_output"
    BATCH = "batch"
    BATCH_OUTPUT = "batch_output"
    EVALS = "evals"
    EVALS_OUTPUT = "evals_output"
    VISION = "vision"
    USER_DATA = "user_data"


UPLOADABLE: dict[Purpose, bool] = {
    Purpose.FINE_TUNE: True,
    Purpose.FINE_TUNE_RESULTS: False,
    Purpose.ASSISTANTS: True,
    Purpose.ASSISTANTS_OUTPUT: False,
    Purpose.BATCH: True,
    Purpose.BATCH_OUTPUT: False,
    Purpose.EVALS: True,
    Purpose.EVALS_OUTPUT: False,
    Purpose.VISION: True,
    Purpose.USER_DATA: True,
}
"""Whether customers may upload files of a purpose; the others are written by the service itself."""


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
    """`kind` ("chat", "completion", "preference") and `examples` are known once a fine-tune file is processed.

    `bytes` is 0 while an import has not arrived.
    """

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
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FileImport:
    """Where a file's bytes are fetched from, and how far that is: `received` bytes of version `version` are kept.

    The row goes when the file has ended, and with it the URL, whose query may be a secret.
    """

    file_id: str
    account_id: str
    url: str
    received: int
    version: str | None


def check_move(current: FileStatus, new: FileStatus) -> None:
    """Raises IllegalState when the table has no such move."""
    if new not in MOVES[current]:
        raise IllegalState(f"A file that is {current} cannot become {new}.")


def check_purpose(purpose: str) -> Purpose:
    """Raises InvalidRequest naming those that can be uploaded."""
    uploadable = [known for known, allowed in UPLOADABLE.items() if allowed]
    for known in uploadable:
        if purpose == known:
            return known
    allowed = ", ".join(f"'{known}'" for known in uploadable)
    raise InvalidRequest(f"'{purpose}' is not a purpose files can be uploaded for; use {allowed}.", param="purpose")


def check_expiry(anchor: object, seconds: object) -> timedelta:
    """The life of a file from `expires_after`. Raises InvalidRequest naming the part at fault."""
    if anchor != EXPIRY_ANCHOR:
        raise InvalidRequest(
            f"'{EXPIRES_AFTER}.anchor' must be '{EXPIRY_ANCHOR}', the only moment a file's life is counted from.",
            param=f"{EXPIRES_AFTER}.anchor",
        )
    whole = seconds if isinstance(seconds, int) and not isinstance(seconds, bool) else 0
    if not MIN_EXPIRY_SECONDS <= whole <= MAX_EXPIRY_SECONDS:
        raise InvalidRequest(
            f"'{EXPIRES_AFTER}.seconds' must be a whole number from {MIN_EXPIRY_SECONDS} (an hour) to "
            f"{MAX_EXPIRY_SECONDS} (30 days).",
            param=f"{EXPIRES_AFTER}.seconds",
        )
    return timedelta(seconds=whole)


def check_filename(filename: str, param: str = "file") -> str:
    """The name without folders. Raises InvalidRequest."""
    # Some browsers and tools send the whole path.
    name = filename.replace("\\", "/").rsplit("/", 1)[-1].strip()
    if not name:
        remedy = "give one in the part's 'filename'" if param == "file" else f"give one in '{param}'"
        raise InvalidRequest(f"The file has no name; {remedy}.", param=param)
    if len(name) > MAX_FILENAME or not name.isprintable():
        raise InvalidRequest(
            f"The file's name must have at most {MAX_FILENAME} characters, all of them printable.", param=param
        )
    return name
