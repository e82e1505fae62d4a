"""What the outside world can answer beside results, and a page of a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

T = TypeVar("T")
Order = Literal["asc", "desc"]


class LeaseLost(Exception):
    """Another worker has taken the job over; drop it without a trace."""


class AlreadyThere(Exception):
    """A row with this key exists."""


class BlobMissing(Exception):
    """No blob under this key."""


class TrainerCrashed(Exception):
    """The trainer's process ended without a last event; `exit_code` as the operating system gave it."""

    def __init__(self, exit_code: int, tail: str) -> None:
        super().__init__(f"trainer ended with exit code {exit_code}")
        self.exit_code = exit_code
        self.tail = tail


class EngineDown(Exception):
    """The engine cannot be reached or broke off."""


class ModeratorDown(Exception):
    """The moderator cannot be reached or does not answer as it should; nothing was judged."""


class AdapterUnknown(Exception):
    """The engine has no adapter (any more) by this name; load it and try again."""


class EngineRefused(Exception):
    """The engine says the request is at fault; the text may be shown."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a list; `has_more` says whether another follows."""

    items: list[T]
    has_more: bool
