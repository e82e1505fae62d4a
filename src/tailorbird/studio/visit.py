"""One person's open page: their API, their account, their language, and what they may do."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, cast

from nicegui import app

from tailorbird.studio.client import Account, Api
from tailorbird.studio.words import Words

# Azure's names of actions, as `/tailorbird/v1/caller` lists them; and the least role that brings each.
_OPENAI = "Microsoft.CognitiveServices/accounts/OpenAI/"
_ACCOUNT = "Microsoft.CognitiveServices/accounts/"
UPLOAD, IMPORT, DELETE_FILE = f"{_OPENAI}uploads/write", f"{_OPENAI}files/import/action", f"{_OPENAI}files/delete"
READ_FILE, READ_JOB = f"{_OPENAI}files/read", f"{_OPENAI}fine-tunes/read"
TRAIN, CANCEL_JOB, DELETE_JOB = (f"{_OPENAI}fine-tunes/{name}" for name in ("write", "cancel/action", "delete"))
READ_MODEL, DELETE_MODEL = f"{_OPENAI}models/read", f"{_OPENAI}models/delete"
CHAT = f"{_OPENAI}deployments/chat/completions/action"
SEE_DEPLOYMENTS, DEPLOY, UNDEPLOY = (f"{_ACCOUNT}deployments/{name}" for name in ("read", "write", "delete"))
WRITE_ACCOUNT, LIST_KEYS, REGENERATE_KEY = (
    f"{_ACCOUNT}{name}" for name in ("write", "listKeys/action", "regenerateKey/action")
)
READ_USAGES = "Microsoft.CognitiveServices/locations/usages/read"
READ_ROLES, WRITE_ROLES, DELETE_ROLES = (
    f"Microsoft.Authorization/roleAssignments/{name}" for name in ("read", "write", "delete")
)

READ_AUDIT = "Tailorbird/audit/read"

_OPENAI_CONTRIBUTOR = "Cognitive Services OpenAI Contributor"
_LEAST_ROLE = {
    READ_FILE: "Cognitive Services OpenAI User",
    READ_JOB: "Cognitive Services OpenAI User",
    READ_MODEL: "Cognitive Services OpenAI User",
    CHAT: "Cognitive Services OpenAI User",
    SEE_DEPLOYMENTS: "Cognitive Services OpenAI User",
    WRITE_ACCOUNT: "Contributor",
    LIST_KEYS: "Contributor",
    REGENERATE_KEY: "Contributor",
    READ_USAGES: "Cognitive Services Usages Reader",
    READ_ROLES: _OPENAI_CONTRIBUTOR,
    WRITE_ROLES: "Owner",
    DELETE_ROLES: "Owner",
}


@dataclass
class Visit:
    """Given to every page. `t` is the catalogue: `visit.t("files.title")`."""

    api: Api
    accounts: list[Account]
    t: Words
    dark: bool | None
    """None follows the browser."""

    @property
    def account(self) -> Account | None:
        return self.api.account

    def refusal(self, action: str) -> str | None:
        """Why this cannot be done, in words; None when it can."""
        if self.account is not None and action in self.account.actions:
            return None
        if self.api.session.kind == "key":
            return self.t("shell.needs_sign_in")
        return self.t("shell.needs_role", role=_LEAST_ROLE.get(action, _OPENAI_CONTRIBUTOR))

    def may(self, action: str) -> bool:
        return self.refusal(action) is None

    def kept(self, name: str) -> MutableMapping[str, Any]:
        """What this person left unfinished here (a draft, a filter); outlives reloads, the browser and the server."""
        drafts = cast("MutableMapping[str, Any]", app.storage.user)
        account = self.account.id.lower() if self.account else ""
        key = f"{self.api.session.name}|{account}|{name}"
        if key not in drafts:
            drafts[key] = {}
        return drafts[key]
