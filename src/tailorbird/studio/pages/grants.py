"""What the control plane says of roles, as the rows and words of a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tailorbird.studio import visit as rights
from tailorbird.studio.visit import Visit

_MAY = (
    ("upload", rights.UPLOAD),
    ("train", rights.TRAIN),
    ("deploy", rights.DEPLOY),
    ("chat", rights.CHAT),
    ("keys", rights.LIST_KEYS),
    ("roles", rights.WRITE_ROLES),
    ("usage", rights.READ_USAGES),
)


@dataclass(frozen=True, slots=True)
class RoleKind:
    """A role that can be given. `short` are its actions without what they all begin with."""

    id: str
    name: str
    short: tuple[str, ...]

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> RoleKind:
        properties = row["properties"]
        [allowed] = properties["permissions"]
        actions = [*allowed["actions"], *allowed["dataActions"]]
        return cls(row["id"], properties["roleName"], tuple(_short(action) for action in actions))


@dataclass(frozen=True, slots=True)
class Holder:
    id: str
    name: str
    kind: str

    @property
    def label(self) -> str:
        return f"{self.name} ({self.kind})"


def holders_of(principals: Iterable[Mapping[str, Any]]) -> dict[str, Holder]:
    """By object id, users before applications, each in the order of names."""
    found = [Holder(row["id"], row["name"], row["kind"]) for row in principals]
    return {one.id: one for one in sorted(found, key=lambda one: (one.kind != "User", one.name.lower()))}


def rows_of(
    assignments: Iterable[Mapping[str, Any]], kinds: Iterable[RoleKind], holders: Mapping[str, Holder]
) -> list[dict[str, str]]:
    """An assignment a row: its id, the holder's name (or id, of somebody from outside), the role, and how far up the
    scope lies: `account`, `group` or `subscription`."""
    names = {_last(kind.id): kind.name for kind in kinds}
    rows: list[dict[str, str]] = []
    for one in assignments:
        properties = one["properties"]
        holder = holders.get(properties["principalId"])
        role = _last(properties["roleDefinitionId"])
        rows.append(
            {
                "id": one["id"],
                "name": holder.name if holder else properties["principalId"],
                "role": names.get(role, role),
                "level": level_of(properties["scope"]),
            }
        )
    return sorted(rows, key=lambda row: (row["name"].lower(), row["role"]))


def level_of(scope: str) -> str:
    parts = scope.strip("/").lower().split("/")
    return "account" if "accounts" in parts else "group" if "resourcegroups" in parts else "subscription"


def may_words(visit: Visit) -> list[tuple[str, bool, str]]:
    """What a person does here, whether they may, and what they would need."""
    return [(name, visit.may(action), visit.refusal(action) or "") for name, action in _MAY]


def _last(path: str) -> str:
    return path.rsplit("/", 1)[-1].lower()


def _short(action: str) -> str:
    return action.removeprefix("Microsoft.CognitiveServices/").removeprefix("accounts/")
