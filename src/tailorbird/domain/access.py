"""Account, Principal, Role, Scope, Action; allows(principal, action, scope).

Roles and action names are Azure's:
https://learn.microsoft.com/azure/ai-services/openai/how-to/role-based-access-control
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Account:
    """The Azure resource that owns files, jobs, models and deployments. Keys give full access to its data plane."""

    id: str
    subscription_id: str
    resource_group: str
    name: str
    location: str
    kind: str
    key1: str
    key2: str
    created_at: datetime

    @property
    def resource_id(self) -> str:
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.CognitiveServices/accounts/{self.name}"
        )


class Action(StrEnum):
    """What a request wants to do. Data actions reach the data plane, the others the control plane."""

    READ_ACCOUNT = "Microsoft.CognitiveServices/accounts/read"
    LIST_KEYS = "Microsoft.CognitiveServices/accounts/listKeys/action"
    READ_DEPLOYMENT = "Microsoft.CognitiveServices/accounts/deployments/read"
    WRITE_DEPLOYMENT = "Microsoft.CognitiveServices/accounts/deployments/write"
    DELETE_DEPLOYMENT = "Microsoft.CognitiveServices/accounts/deployments/delete"
    READ_FILE = "Microsoft.CognitiveServices/accounts/OpenAI/files/read"
    IMPORT_FILE = "Microsoft.CognitiveServices/accounts/OpenAI/files/import/action"
    DELETE_FILE = "Microsoft.CognitiveServices/accounts/OpenAI/files/delete"
    READ_JOB = "Microsoft.CognitiveServices/accounts/OpenAI/fine-tunes/read"
    WRITE_JOB = "Microsoft.CognitiveServices/accounts/OpenAI/fine-tunes/write"
    CANCEL_JOB = "Microsoft.CognitiveServices/accounts/OpenAI/fine-tunes/cancel/action"
    READ_MODEL = "Microsoft.CognitiveServices/accounts/OpenAI/models/read"
    DELETE_MODEL = "Microsoft.CognitiveServices/accounts/OpenAI/models/delete"
    CHAT = "Microsoft.CognitiveServices/accounts/OpenAI/deployments/chat/completions/action"
    COMPLETE = "Microsoft.CognitiveServices/accounts/OpenAI/deployments/completions/action"


_READ = frozenset(
    {
        Action.READ_ACCOUNT,
        Action.READ_DEPLOYMENT,
        Action.READ_FILE,
        Action.READ_JOB,
        Action.READ_MODEL,
    }
)
_INFER = frozenset({Action.CHAT, Action.COMPLETE})
_TUNE = frozenset(
    {
        Action.IMPORT_FILE,
        Action.DELETE_FILE,
        Action.WRITE_JOB,
        Action.CANCEL_JOB,
        Action.DELETE_MODEL,
        Action.WRITE_DEPLOYMENT,
        Action.DELETE_DEPLOYMENT,
    }
)


class Role(StrEnum):
    """The built-in roles a principal may hold."""

    OPENAI_USER = "Cognitive Services OpenAI User"
    OPENAI_CONTRIBUTOR = "Cognitive Services OpenAI Contributor"
    CONTRIBUTOR = "Cognitive Services Contributor"
    OWNER = "Owner"


ROLE_ACTIONS: dict[Role, frozenset[Action]] = {
    Role.OPENAI_USER: _READ | _INFER,
    Role.OPENAI_CONTRIBUTOR: _READ | _INFER | _TUNE,
    # Azure's "Cognitive Services Contributor" manages resources and keys but may not call inference with a token.
    Role.CONTRIBUTOR: _READ | _TUNE | {Action.LIST_KEYS},
    Role.OWNER: frozenset(Action),
}


@dataclass(frozen=True, slots=True)
class Assignment:
    """A role held at a scope: `/subscriptions/S`, `/subscriptions/S/resourceGroups/G` or an account's resource id."""

    role: Role
    scope: str


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. A key's principal has `key_account` and full data-plane access to that account alone."""

    id: str
    name: str
    assignments: tuple[Assignment, ...] = field(default=())
    key_account: str | None = None


@dataclass(frozen=True, slots=True)
class ServicePrincipal:
    """An application that logs in with a secret; only the secret's digest is kept."""

    app_id: str
    object_id: str
    name: str
    secret_digest: str
    assignments: tuple[Assignment, ...] = field(default=())


def allows(principal: Principal, action: Action, account: Account) -> bool:
    """A key allows everything on its own account's data plane; a token what its roles at or above the account allow."""
    if principal.key_account is not None:
        return principal.key_account == account.id and action not in _CONTROL_PLANE
    return any(
        action in ROLE_ACTIONS[held.role] and _covers(held.scope, account.resource_id) for held in principal.assignments
    )


_CONTROL_PLANE = frozenset(
    {
        Action.READ_ACCOUNT,
        Action.LIST_KEYS,
        Action.READ_DEPLOYMENT,
        Action.WRITE_DEPLOYMENT,
        Action.DELETE_DEPLOYMENT,
    }
)


def _covers(scope: str, resource: str) -> bool:
    # ARM ids are case-insensitive.
    upper, lower = scope.rstrip("/").lower(), resource.lower()
    return lower == upper or lower.startswith(f"{upper}/")
