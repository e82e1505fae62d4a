"""What the audit trail holds: who did what to which resource, when, from where, and whether it was allowed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tailorbird.domain.access import Action

HERE = "/tailorbird"
"""Resources that belong to the installation and to no subscription: its users, its applications, logins."""


class Act(StrEnum):
    """What is written down and has no operation name on Azure; all else goes by its `Action`."""

    LOGIN = "Tailorbird/logins/action"
    WRITE_USER = "Tailorbird/users/write"
    DELETE_USER = "Tailorbird/users/delete"
    WRITE_APPLICATION = "Tailorbird/applications/write"
    DELETE_APPLICATION = "Tailorbird/applications/delete"
    PURGE_ACCOUNT = "Microsoft.CognitiveServices/locations/resourceGroups/deletedAccounts/delete"
    COPY_CHECKPOINT = "Tailorbird/checkpoints/copies/write"
    SHARE_CHECKPOINT = "Tailorbird/checkpoints/permissions/write"
    UNSHARE_CHECKPOINT = "Tailorbird/checkpoints/permissions/delete"
    WRITE_INTEGRATION = "Tailorbird/integrations/write"
    CHANGE_BUDGET = "Tailorbird/budgets/write"


AUDITED = frozenset(
    {
        Action.WRITE_ACCOUNT,
        Action.DELETE_ACCOUNT,
        Action.LIST_KEYS,
        Action.REGENERATE_KEY,
        Action.WRITE_GROUP,
        Action.DELETE_GROUP,
        Action.WRITE_ROLE,
        Action.DELETE_ROLE,
        Action.READ_AUDIT,
        Action.WRITE_DEPLOYMENT,
        Action.DELETE_DEPLOYMENT,
        Action.DELETE_FILE,
        Action.DELETE_JOB,
        Action.DELETE_MODEL,
    }
)
"""Of these, refusals are written down too."""


class Outcome(StrEnum):
    SUCCEEDED = "Succeeded"
    DENIED = "Denied"


@dataclass(frozen=True, slots=True)
class Entry:
    """`number` counts the trail and is 0 until the entry is written; `address` is the peer of the connection."""

    at: datetime
    action: str
    resource: str
    outcome: Outcome
    principal_id: str
    principal_name: str
    request_id: str
    address: str
    detail: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries: at or below one of `scopes`, and alike in all that is not None. `principal` is an id or a name,
    `action` may end in an asterisk; `since` counts, `until` does not any more."""

    scopes: tuple[str, ...]
    principal: str | None = None
    action: str | None = None
    outcome: Outcome | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
