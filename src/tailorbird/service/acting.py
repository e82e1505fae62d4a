"""Who acts at the moment, and for which request or job; told once at the edge.

The audit trail and every line of the log read it. It travels with the context of a task, into its threads and the
tasks it starts. What it says is for people to read later; nothing is decided by it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from tailorbird.domain.access import Principal

SERVICE = "Tailorbird"
"""Who acts when nobody asked: the clock, a start, a worker."""


@dataclass(slots=True)
class Acting:
    """Empty is not known. `address` is the other end of the connection, `error` the class of the refusal so far."""

    request_id: str = ""
    address: str = ""
    principal_id: str = ""
    principal_name: str = ""
    account: str = ""
    job: str = ""
    error: str = ""


_acting: ContextVar[Acting | None] = ContextVar("acting", default=None)


@contextmanager
def begun(acting: Acting) -> Generator[None]:
    """It acts until the block ends; the tasks that start inside go on in its name."""
    before = _acting.set(acting)
    try:
        yield
    finally:
        _acting.reset(before)


def current() -> Acting:
    """The service itself where nobody began."""
    return _acting.get() or Acting(principal_name=SERVICE)


def facts() -> dict[str, str]:
    """What a line of the log belongs to; empty is not known."""
    who = current()
    return {
        "request_id": who.request_id,
        "account": who.account,
        "principal": who.principal_name if who.request_id else "",
        "job": who.job,
    }


def identified(principal: Principal, account: str = "") -> None:
    """The first holder of a key or token is who asks; a second token only opens another door."""
    acting = current()
    if not acting.principal_id:
        acting.principal_id, acting.principal_name = principal.id, principal.name
        acting.account = acting.account or account
