"""The table of stored chat completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tailorbird.domain.completions import StoredCompletion
from tailorbird.service.ports.outcomes import Order, Page


class CompletionTable(Protocol):
    def add(self, completion: StoredCompletion) -> None:
        """Raises AlreadyThere."""
        ...

    def get(self, account_id: str, completion_id: str) -> StoredCompletion | None: ...

    def list(
        self,
        account_id: str,
        *,
        model: str | None,
        metadata: Mapping[str, str],
        after: str | None,
        limit: int,
        order: Order,
    ) -> Page[StoredCompletion]:
        """By creation time. `model` is a served model's or a deployment's name; all pairs of `metadata` must be there.

        `after` is the id of the last item of the page before; one that is not in the list yields nothing."""
        ...

    def set_metadata(self, account_id: str, completion_id: str, metadata: Mapping[str, str]) -> bool:
        """Replaces all pairs; says whether there was such a completion."""
        ...

    def delete(self, account_id: str, completion_id: str) -> bool:
        """Says whether there was one."""
        ...
