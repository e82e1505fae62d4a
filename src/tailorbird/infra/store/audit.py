"""The audit trail: entries added and found, never changed."""

from __future__ import annotations

import builtins
from typing import Any

import sqlalchemy as sa

from tailorbird.domain.audit import Entry, Wanted
from tailorbird.infra.tables.audit import audit
from tailorbird.service.ports import Page

_FIELDS = ("at", "action", "resource", "outcome", "principal_id", "principal_name", "request_id", "address", "detail")


class SqlAudit:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, entry: Entry) -> None:
        values: dict[str, Any] = {name: _storable(getattr(entry, name)) for name in _FIELDS}
        keys = {"resource_key": values["resource"].lower(), "principal_key": values["principal_name"].lower()}
        self._connection.execute(sa.insert(audit).values(values | keys))

    def list(self, wanted: Wanted, *, before: int | None, limit: int) -> Page[Entry]:
        query = sa.select(*(audit.c[name] for name in _FIELDS), audit.c.seq.label("number")).where(*_meets(wanted))
        if before is not None:
            query = query.where(audit.c.seq < before)
        rows = self._connection.execute(query.order_by(audit.c.seq.desc()).limit(limit + 1)).mappings().all()
        return Page([Entry(**row) for row in rows[:limit]], has_more=len(rows) > limit)


def _storable(value: object) -> object:
    # A NUL, which PostgreSQL keeps in no text, can come in a name somebody typed to log in with.
    return value.replace("\x00", "\N{REPLACEMENT CHARACTER}") if type(value) is str else value


def _meets(wanted: Wanted) -> builtins.list[sa.ColumnElement[bool]]:
    c = audit.c
    found: builtins.list[sa.ColumnElement[bool]] = []
    if "/" not in wanted.scopes:
        found.append(sa.or_(sa.false(), *(_within(scope) for scope in wanted.scopes)))
    if wanted.principal is not None:
        found.append(sa.or_(c.principal_id == wanted.principal, c.principal_key == wanted.principal.lower()))
    if wanted.action is not None:
        action, word = sa.func.lower(c.action), wanted.action.lower()
        asterisk = word.endswith("*")
        found.append(action.startswith(word.removesuffix("*"), autoescape=True) if asterisk else action == word)
    found += [] if wanted.outcome is None else [c.outcome == wanted.outcome]
    found += [] if wanted.request_id is None else [c.request_id == wanted.request_id]
    found += [] if wanted.since is None else [c.at >= wanted.since]
    found += [] if wanted.until is None else [c.at < wanted.until]
    return found


def _within(scope: str) -> sa.ColumnElement[bool]:
    key = scope.rstrip("/").lower()
    return sa.or_(audit.c.resource_key == key, audit.c.resource_key.startswith(f"{key}/", autoescape=True))
