"""Account, Principal, Role, Scope, Action; allows(principal, action, scope).

Roles, action names and the ids of role definitions are Azure's:
https://learn.microsoft.com/azure/ai-services/openai/how-to/role-based-access-control and
https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Account:
    """The Azure resource that owns files, jobs, models and deployments. Keys give full access to its data plane.

    `sub_domain` names the account in its own endpoint; the account without one lives at the server's plain address.
    """

    id: str
    subscription_id: str
    resource_group: str
    name: str
    location: str
    kind: str
    key1: str
    key2: str
    created_at: datetime
    sub_domain: str = ""
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    deleted_at: datetime | None = None

    @property
    def resource_id(self) -> str:
        return account_scope(self.subscription_id, self.resource_group, self.name)

    @property
    def organization_id(self) -> str:
        """What OpenAI calls the organization: one account is one, for as long as it lives."""
        return f"org-{hashlib.sha256(self.id.encode()).hexdigest()[:24]}"


@dataclass(frozen=True, slots=True)
class ResourceGroup:
    """A folder of accounts in a subscription."""

    subscription_id: str
    name: str
    location: str
    created_at: datetime
    tags: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def resource_id(self) -> str:
        return group_scope(self.subscription_id, self.name)


def subscription_scope(subscription_id: str) -> str:
    return f"/subscriptions/{subscription_id}"


def group_scope(subscription_id: str, group: str) -> str:
    return f"{subscription_scope(subscription_id)}/resourceGroups/{group}"


def account_scope(subscription_id: str, group: str, name: str) -> str:
    return f"{group_scope(subscription_id, group)}/providers/Microsoft.CognitiveServices/accounts/{name}"


class Action(StrEnum):
    """What a request wants to do. Data actions (below `OpenAI/`) reach the data plane, the others the control plane."""

    READ_ACCOUNT = "Microsoft.CognitiveServices/accounts/read"
    WRITE_ACCOUNT = "Microsoft.CognitiveServices/accounts/write"
    DELETE_ACCOUNT = "Microsoft.CognitiveServices/accounts/delete"
    LIST_KEYS = "Microsoft.CognitiveServices/accounts/listKeys/action"
    REGENERATE_KEY = "Microsoft.CognitiveServices/accounts/regenerateKey/action"
    READ_USAGES = "Microsoft.CognitiveServices/locations/usages/read"
    READ_GROUP = "Microsoft.Resources/subscriptions/resourceGroups/read"
    WRITE_GROUP = "Microsoft.Resources/subscriptions/resourceGroups/write"
    DELETE_GROUP = "Microsoft.Resources/subscriptions/resourceGroups/delete"
    READ_ROLE = "Microsoft.Authorization/roleAssignments/read"
    WRITE_ROLE = "Microsoft.Authorization/roleAssignments/write"
    DELETE_ROLE = "Microsoft.Authorization/roleAssignments/delete"
    READ_AUDIT = "Tailorbird/audit/read"
    READ_DEPLOYMENT = "Microsoft.CognitiveServices/accounts/deployments/read"
    WRITE_DEPLOYMENT = "Microsoft.CognitiveServices/accounts/deployments/write"
    DELETE_DEPLOYMENT = "Microsoft.CognitiveServices/accounts/deployments/delete"
    READ_FILE = "Microsoft.CognitiveServices/accounts/OpenAI/files/read"
    IMPORT_FILE = "Microsoft.CognitiveServices/accounts/OpenAI/files/import/action"
    DELETE_FILE = "Microsoft.CognitiveServices/accounts/OpenAI/files/delete"
    WRITE_UPLOAD = "Microsoft.CognitiveServices/accounts/OpenAI/uploads/write"
    READ_JOB = "Microsoft.CognitiveServices/accounts/OpenAI/fine-tunes/read"
    WRITE_JOB = "Microsoft.CognitiveServices/accounts/OpenAI/fine-tunes/write"
    DELETE_JOB = "Microsoft.CognitiveServices/accounts/OpenAI/fine-tunes/delete"
    CANCEL_JOB = "Microsoft.CognitiveServices/accounts/OpenAI/fine-tunes/cancel/action"
    READ_MODEL = "Microsoft.CognitiveServices/accounts/OpenAI/models/read"
    DELETE_MODEL = "Microsoft.CognitiveServices/accounts/OpenAI/models/delete"
    CHAT = "Microsoft.CognitiveServices/accounts/OpenAI/deployments/chat/completions/action"
    COMPLETE = "Microsoft.CognitiveServices/accounts/OpenAI/deployments/completions/action"
    EMBED = "Microsoft.CognitiveServices/accounts/OpenAI/deployments/embeddings/action"
    READ_COMPLETION = "Microsoft.CognitiveServices/accounts/OpenAI/stored-completions/read"
    WRITE_COMPLETION = "Microsoft.CognitiveServices/accounts/OpenAI/stored-completions/action"
    READ_EVAL = "Microsoft.CognitiveServices/accounts/OpenAI/evals/read"
    WRITE_EVAL = "Microsoft.CognitiveServices/accounts/OpenAI/evals/write"
    DELETE_EVAL = "Microsoft.CognitiveServices/accounts/OpenAI/evals/delete"


DATA_ACTIONS = frozenset(action for action in Action if "/accounts/OpenAI/" in action)
"""What Azure calls data actions: a key allows all of them on its account, Owner and Contributor none."""
CONTROL_ACTIONS = frozenset(Action) - DATA_ACTIONS

_SEE = frozenset({Action.READ_ACCOUNT, Action.READ_DEPLOYMENT})
_READ = frozenset({Action.READ_FILE, Action.READ_JOB, Action.READ_MODEL, Action.READ_EVAL})
_INFER = frozenset({Action.CHAT, Action.COMPLETE, Action.EMBED})
_DEPLOY = frozenset({Action.WRITE_DEPLOYMENT, Action.DELETE_DEPLOYMENT})
_STORED = frozenset({Action.READ_COMPLETION, Action.WRITE_COMPLETION})
_TUNE = frozenset(
    {
        Action.IMPORT_FILE,
        Action.DELETE_FILE,
        Action.WRITE_UPLOAD,
        Action.WRITE_JOB,
        Action.DELETE_JOB,
        Action.CANCEL_JOB,
        Action.DELETE_MODEL,
        Action.WRITE_EVAL,
        Action.DELETE_EVAL,
    }
)
_MANAGE = frozenset(
    {Action.WRITE_ACCOUNT, Action.DELETE_ACCOUNT, Action.LIST_KEYS, Action.REGENERATE_KEY, *_SEE, *_DEPLOY}
)


class Role(StrEnum):
    """The built-in roles a principal may hold."""

    OPENAI_USER = "Cognitive Services OpenAI User"
    OPENAI_CONTRIBUTOR = "Cognitive Services OpenAI Contributor"
    COGNITIVE_CONTRIBUTOR = "Cognitive Services Contributor"
    COGNITIVE_USER = "Cognitive Services User"
    USAGES_READER = "Cognitive Services Usages Reader"
    OWNER = "Owner"
    CONTRIBUTOR = "Contributor"
    READER = "Reader"
    AI_USER = "Azure AI User"
    AI_PROJECT_MANAGER = "Azure AI Project Manager"
    AI_ACCOUNT_OWNER = "Azure AI Account Owner"
    AI_OWNER = "Azure AI Owner"
    AI_DEVELOPER = "Azure AI Developer"


ROLE_ACTIONS: dict[Role, frozenset[Action]] = {
    Role.OPENAI_USER: _SEE | _READ | _INFER | {Action.READ_ROLE},
    Role.OPENAI_CONTRIBUTOR: _SEE | _READ | _INFER | _TUNE | _STORED | _DEPLOY | {Action.READ_ROLE},
    # Manages resources and keys but may not call inference with a token; it sees no quota either.
    Role.COGNITIVE_CONTRIBUTOR: _MANAGE | _READ | _TUNE | _STORED | {Action.READ_GROUP, Action.READ_ROLE},
    Role.COGNITIVE_USER: _SEE | DATA_ACTIONS | {Action.LIST_KEYS},
    Role.USAGES_READER: frozenset({Action.READ_USAGES}),
    # As on Azure, the owner of everything still needs a data role to upload a file with a token.
    Role.OWNER: CONTROL_ACTIONS,
    Role.CONTRIBUTOR: CONTROL_ACTIONS - {Action.WRITE_ROLE, Action.DELETE_ROLE, Action.READ_AUDIT},
    Role.READER: frozenset(a for a in CONTROL_ACTIONS if a.endswith("/read") and a is not Action.READ_AUDIT),
    Role.AI_USER: _SEE | DATA_ACTIONS | {Action.LIST_KEYS, Action.READ_ROLE},
    Role.AI_PROJECT_MANAGER: _SEE | DATA_ACTIONS | _DEPLOY | {Action.READ_ROLE},
    Role.AI_ACCOUNT_OWNER: _MANAGE | {Action.READ_GROUP, Action.READ_ROLE, Action.READ_USAGES},
    Role.AI_OWNER: _MANAGE | DATA_ACTIONS | {Action.READ_GROUP, Action.READ_ROLE, Action.READ_USAGES},
    Role.AI_DEVELOPER: DATA_ACTIONS | {Action.READ_ROLE},
}

ROLE_IDS: dict[Role, str] = {
    Role.OPENAI_USER: "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd",
    Role.OPENAI_CONTRIBUTOR: "a001fd3d-188f-4b5d-821b-7da978bf7442",
    Role.COGNITIVE_CONTRIBUTOR: "25fbc0a9-bd7c-42a3-aa1a-3b75d497ee68",
    Role.COGNITIVE_USER: "a97b65f3-24c7-4388-baec-2e87135dc908",
    Role.USAGES_READER: "bba48692-92b0-4667-a9ad-c31c7b334ac2",
    Role.OWNER: "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
    Role.CONTRIBUTOR: "b24988ac-6180-42a0-ab88-20f7382dd24c",
    Role.READER: "acdd72a7-3385-48ef-bd42-f606fba81ae7",
    Role.AI_USER: "53ca6127-db72-4b80-b1b0-d745d6d5456d",
    Role.AI_PROJECT_MANAGER: "eadc314b-1a2d-4efa-be10-5d325db5065e",
    Role.AI_ACCOUNT_OWNER: "e47c6f54-e4a2-4754-9501-8e0985b135e1",
    Role.AI_OWNER: "c883944f-8b7b-4483-af10-35834be79c4a",
    Role.AI_DEVELOPER: "64702f94-c441-49e6-a78b-ef80e0188fee",
}


def role_named(text: str) -> Role | None:
    """By Azure's name (or its newer one, which begins with Foundry), or by the id of its definition; in any case."""
    wanted = text.strip().lower()
    for role in Role:
        newer = role.replace("Azure AI ", "Foundry ") if role is not Role.AI_DEVELOPER else role
        if wanted in (role.lower(), newer.lower(), ROLE_IDS[role]):
            return role
    return None


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


class PrincipalKind(StrEnum):
    """ARM's words for who may hold a role. Groups cannot: nobody here is in one."""

    USER = "User"
    SERVICE_PRINCIPAL = "ServicePrincipal"


@dataclass(frozen=True, slots=True)
class Grant:
    """An assignment as ARM keeps it: under an id, for the holder `object_id`, made at a time by somebody."""

    id: str
    object_id: str
    role: Role
    scope: str
    kind: PrincipalKind
    created_at: datetime
    created_by: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class ServicePrincipal:
    """An application that logs in with a secret; only the secret's digest is kept."""

    app_id: str
    object_id: str
    name: str
    secret_digest: str
    assignments: tuple[Assignment, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class User:
    """A person with a password; only its salted digest is kept. `name` is what they type, as `anna@example.org`."""

    object_id: str
    name: str
    password_digest: str
    created_at: datetime
    failures: int = 0
    """Wrong passwords in a row; enough of them lock the user out until `locked_until`."""
    locked_until: datetime | None = None
    assignments: tuple[Assignment, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """A login begun on a device without a browser. The device knows one code, the user types the other."""

    digest: str
    user_code: str
    client_id: str
    audience: str
    created_at: datetime
    expires_at: datetime
    polled_at: datetime | None = None
    object_id: str | None = None
    """Who signed in; None while nobody has."""


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """What gets a user the next token. Each use gives a new one of the same `family` and ends the old one."""

    digest: str
    family: str
    object_id: str
    client_id: str
    expires_at: datetime
    used_at: datetime | None = None


def allows(principal: Principal, action: Action, account: Account) -> bool:
    """A key allows everything on its own account's data plane; a token what its roles at or above the account allow."""
    if principal.key_account is not None:
        return principal.key_account == account.id and action in DATA_ACTIONS
    return allows_at(principal, action, account.resource_id)


def allows_at(principal: Principal, action: Action, scope: str) -> bool:
    """Whether a role the principal holds at this scope or above it has the action. A key holds no role."""
    return any(action in ROLE_ACTIONS[held.role] and covers(held.scope, scope) for held in principal.assignments)


def covers(scope: str, resource: str) -> bool:
    """Whether the resource is the scope or lies below it. ARM ids are case-insensitive."""
    upper, lower = scope.rstrip("/").lower(), resource.rstrip("/").lower()
    return lower == upper or lower.startswith(f"{upper}/")
