"""The audit trail: written in the transaction of what it tells of, refusals by themselves; and who may read it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tailorbird.domain.access import ROLE_ACTIONS, Action, Principal, covers
from tailorbird.domain.audit import AUDITED, HERE, Act, Entry, Outcome, Wanted
from tailorbird.domain.errors import InvalidRequest, PermissionDenied, Unauthenticated
from tailorbird.service import acting
from tailorbird.service.ports import Clock, Page, Session, Store

REFUSALS_A_MINUTE = 60
"""Of one address. What comes beyond is counted only, so that nobody can fill the disk by guessing."""
_MINUTE = timedelta(seconds=60)
_WHOLE = re.compile(r"/subscriptions/[^/]+|/", re.IGNORECASE)
# What belongs to no subscription: the installation's own, and roles assigned at the root.
_ABOVE = (HERE, "/providers")


def record(tx: Session, at: datetime, action: Action | Act, resource: str, detail: str = "") -> None:
    """Writes that who acts did this, if the transaction comes to its end. `detail` is for people; no secret in it."""
    tx.audit.add(_entry(at, action, resource, detail, Outcome.SUCCEEDED))


def resource_in(tx: Session, account_id: str, below: str = "") -> str:
    """The ARM id of something in an account, as `/files/file-1`."""
    account = tx.accounts.get(account_id)
    return (f"{HERE}/accounts/{account_id}" if account is None else account.resource_id) + below


def _entry(at: datetime, action: Action | Act, resource: str, detail: str, outcome: Outcome) -> Entry:
    who = acting.current()
    return Entry(
        at=at,
        action=action.value,
        resource=resource,
        outcome=outcome,
        principal_id=who.principal_id,
        principal_name=who.principal_name,
        request_id=who.request_id,
        address=who.address,
        detail=detail,
    )


class Refusals:
    """What somebody wanted to do and was not let. `suppressed` counts those that were not written down."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.suppressed = 0
        self._store = store
        self._clock = clock
        self._minute = datetime.min.replace(tzinfo=UTC)
        self._seen: Counter[str] = Counter()

    def note(self, action: Action | Act, resource: str, detail: str = "") -> None:
        if isinstance(action, Action) and action not in AUDITED:
            return
        now = self._clock.now()
        if now - self._minute >= _MINUTE:
            self._minute, self._seen = now, Counter()
        address = acting.current().address
        self._seen[address] += 1
        if self._seen[address] > REFUSALS_A_MINUTE:
            self.suppressed += 1
            return
        with self._store.begin() as tx:
            tx.audit.add(_entry(now, action, resource, detail, Outcome.DENIED))

    @contextmanager
    def of_login(self, name: str) -> Generator[None]:
        """A login as `name` that fails inside is written down, without what was given as a secret."""
        try:
            yield
        except (InvalidRequest, Unauthenticated) as error:
            # Entra's number says which fault it was; its sentence could repeat what was typed.
            self.note(Act.LOGIN, f"{HERE}/logins/{name[:100]}", error.message.split(":", 1)[0])
            raise


class Audit:
    """Reading the trail."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, principal: Principal, wanted: Wanted, *, before: int | None, limit: int) -> Page[Entry]:
        """Of the scopes the caller owns: those of `wanted`, all when it names none. Who owns a subscription owns what
        belongs to the installation too. Raises PermissionDenied."""
        owned = tuple(a.scope for a in principal.assignments if Action.READ_AUDIT in ROLE_ACTIONS[a.role])
        if any(_WHOLE.fullmatch(scope) for scope in owned):
            owned += _ABOVE
        refused = [scope for scope in wanted.scopes if not any(covers(own, scope) for own in owned)]
        if refused or not owned:
            where = refused[0] if refused else "/"
            raise PermissionDenied(
                f"The client '{principal.name}' with object id '{principal.id}' does not have authorization to perform "
                f"action '{Action.READ_AUDIT}' over scope '{where}'. It takes the role Owner there."
            )
        scopes = wanted.scopes or owned
        return self.list(replace(wanted, scopes=scopes), before=before, limit=limit)

    def list(self, wanted: Wanted, *, before: int | None, limit: int) -> Page[Entry]:
        """Newest first, whoever asks."""
        with self._store.begin() as tx:
            return tx.audit.list(wanted, before=before, limit=limit)


def outcome_named(text: str) -> Outcome:
    """In any case. Raises InvalidRequest."""
    for outcome in Outcome:
        if outcome.lower() == text.lower():
            return outcome
    raise InvalidRequest(f"'{text}' is not an outcome; use {' or '.join(Outcome)}.", param="outcome")


def time_named(text: str, name: str) -> datetime:
    """ISO 8601; without a zone it is UTC. Raises InvalidRequest."""
    try:
        # A plus sign that nobody escaped has become a space.
        found = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    except ValueError:
        raise InvalidRequest(
            f"'{text}' is not a time; use ISO 8601, as 2026-11-21T12:00:00Z or 2026-11-21.", param=name
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
