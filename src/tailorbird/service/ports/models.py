"""The table of fine-tuned models."""

from __future__ import annotations

from typing import Protocol

from tailorbird.domain.models import TunedModel


class ModelTable(Protocol):
    def add(self, model: TunedModel) -> None:
        """Adding the same name again replaces it."""
        ...

    def find(self, account_id: str, reference: str) -> TunedModel | None:
        """By Azure name or OpenAI name."""
        ...

    def list(self, account_id: str) -> list[TunedModel]:
        """Oldest first."""
        ...

    def delete(self, account_id: str, name: str) -> bool: ...
