"""Checkpoints beyond their account: copies asked for on Foundry's surface, permissions on OpenAI's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class CopyStatus(StrEnum):
    """The words of `copiedAccountDetails`."""

    IN_PROGRESS = "InProgress"
    COMPLETED = "Completed"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class CheckpointCopy:
    """A copy asked for by `account_id`; `destination` is the ARM id as it was sent, `destination_id` whose it is."""

    id: str
    job_id: str
    checkpoint_id: str
    account_id: str
    destination: str
    destination_id: str
    region: str
    status: CopyStatus
    created_at: datetime
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class CheckpointPermission:
    """`project_id` (another account) may use the checkpoint: it has a copy of it, `copied_model` by name."""

    id: str
    account_id: str
    checkpoint_id: str
    project_id: str
    copied_model: str
    created_at: datetime
