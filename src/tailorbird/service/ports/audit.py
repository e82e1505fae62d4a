"""The table of the audit trail."""

from __future__ import annotations

from typing import Protocol

from tailorbird.domain.audit import Entry, Wanted
from tailorbird.service.ports.outcomes import Page


class AuditTable(Protocol):
    """It only grows: the database itself refuses to change or delete what is in it."""

    def add(self, entry: Entry) -> None:
        """The database gives it its number."""
        ...

    def list(self, wanted: Wanted, *, before: int | None, limit: int) -> Page[Entry]:
        """Newest first; `before` is the number the page before ended with."""
        ...
