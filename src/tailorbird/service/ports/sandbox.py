"""Where a customer's grading code runs, away from everything that is the service's."""

from __future__ import annotations

from typing import Any, Protocol


class SandboxRefused(Exception):
    """The operator has not allowed code of customers to run here; the message says what to do."""


class SandboxBroken(Exception):
    """The sandbox itself failed; `kind` names how."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class CodeFailed(Exception):
    """The customer's code raised, took too long or answered something that is no number; the message may be shown."""


class Sandbox(Protocol):
    def check(self) -> None:
        """Raises SandboxRefused when no code may run."""
        ...

    async def grade(self, source: str, sample: dict[str, Any], item: dict[str, Any]) -> float:
        """What `grade(sample, item)` of the source answers. Raises SandboxRefused, SandboxBroken, CodeFailed."""
        ...
