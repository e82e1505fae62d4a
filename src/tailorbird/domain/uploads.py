"""Multi-part uploads: their parts, states and moves, and the limits on them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from tailorbird.domain.errors import IllegalState
from tailorbird.domain.files import Purpose

MAX_PART_BYTES = 64 * 1024 * 1024
"""OpenAI's limit, and the size its SDK cuts files into."""
MAX_PARTS = 10_000
LIFE_SECONDS = 3600
"""An upload that is not completed an hour after its creation expires."""


class UploadStatus(StrEnum):
    PENDING = "pending"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


MOVES: dict[UploadStatus, frozenset[UploadStatus]] = {
    UploadStatus.PENDING: frozenset({UploadStatus.COMPLETED, UploadStatus.CANCELLED, UploadStatus.EXPIRED}),
    UploadStatus.COMPLETED: frozenset(),
    UploadStatus.CANCELLED: frozenset(),
    UploadStatus.EXPIRED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that arrives in parts; `bytes` is what they will hold together, as declared.

    `file_seconds` is the life the file will have, `file_id` the file once completed.
    """

    id: str
    account_id: str
    filename: str
    purpose: Purpose
    bytes: int
    mime_type: str
    status: UploadStatus
    created_at: datetime
    expires_at: datetime
    file_seconds: int | None = None
    file_id: str | None = None

    @property
    def file_life(self) -> timedelta | None:
        return None if self.file_seconds is None else timedelta(seconds=self.file_seconds)

    @property
    def folder(self) -> str:
        """Where its parts are kept, and the file made of them."""
        return f"accounts/{self.account_id}/uploads/{self.id}"


@dataclass(frozen=True, slots=True)
class UploadPart:
    id: str
    upload_id: str
    bytes: int
    created_at: datetime
    blob_key: str


def status_at(upload: Upload, now: datetime) -> UploadStatus:
    """Expired by the clock, whether or not a sweep has passed."""
    if upload.status is UploadStatus.PENDING and upload.expires_at <= now:
        return UploadStatus.EXPIRED
    return upload.status


def check_move(current: UploadStatus, new: UploadStatus) -> None:
    """Raises IllegalState when the table has no such move."""
    if new not in MOVES[current]:
        raise IllegalState(f"The upload is {current}; start a new one.")
