"""The table of verdicts on models."""

from __future__ import annotations

from typing import Protocol

from tailorbird.domain.safety import Verdict


class VerdictTable(Protocol):
    def put(self, verdict: Verdict) -> None:
        """Putting the same subject and set version again replaces it."""
        ...

    def get(self, subject: str, set_version: str) -> Verdict | None: ...

    def newest(self, subject: str) -> Verdict | None:
        """By any set version, the one measured last."""
        ...
