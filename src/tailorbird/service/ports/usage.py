"""The tables of cost: the ledger, what is hosted, trained and calibrated, budgets; and the journal of tokens."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, Protocol

from tailorbird.domain.pricing import Budget, Calibration, Charge, Hosting, Meter, Work
from tailorbird.service.ports.outcomes import Page

GroupBy = Literal["day", "model", "deployment", "account"]


@dataclass(frozen=True, slots=True)
class Total:
    """Charges of one meter at one unit price. `group` is the UTC day, model, deployment or account id; None is what
    belongs to no deployment."""

    group: str | None
    meter: Meter
    unit_price: Decimal
    quantity: int


class LedgerTable(Protocol):
    """Lines are only ever appended; the database refuses to change or delete one."""

    def append(self, charge: Charge) -> bool:
        """Writes it unless its key is there already; says whether it was new."""
        ...

    def totals(self, accounts: Collection[str], start: datetime, end: datetime, group_by: GroupBy) -> list[Total]:
        """Of these accounts' charges from `start` up to but not including `end`, by group and meter."""
        ...

    def spent(self, account: str, start: datetime, end: datetime) -> Decimal:
        """The sum of one account's charges in that time, exact."""
        ...

    def page(
        self, accounts: Collection[str], start: datetime, end: datetime, *, after: str | None, limit: int
    ) -> Page[Charge]:
        """Newest first; `after` is the key of the last charge of the page before."""
        ...


class HostingTable(Protocol):
    def open(self, opened: Hosting) -> None:
        """Opening the same id again changes nothing."""
        ...

    def of(self, account: str, deployment: str) -> list[Hosting]:
        """What has not ended of this deployment (case-insensitive)."""
        ...

    def close(self, hosting_id: str, at: datetime) -> None:
        """Closing what has ended changes nothing."""
        ...

    def due(self, now: datetime, limit: int) -> list[Hosting]:
        """Those of every account that may have begun an hour that is not charged, longest due first."""
        ...

    def charged(self, seen: Hosting, hours: int) -> None:
        """So many hours of it, as it was read, have been charged; the number only grows."""
        ...


class WorkTable(Protocol):
    """What jobs have trained."""

    def get(self, job_id: str) -> Work | None: ...

    def put(self, work: Work) -> None:
        """Steps, tokens and seconds only grow."""
        ...

    def finished(self, base: str, method: str, limit: int) -> list[Work]:
        """Of jobs that succeeded on this base, newest first."""
        ...


class CalibrationTable(Protocol):
    """One for each base model: what was asked for, is being measured or was measured."""

    def get(self, base: str) -> Calibration | None: ...

    def put(self, calibration: Calibration) -> None: ...

    def ask(self, base: str) -> None:
        """Has it measured, unless it was asked for before."""
        ...

    def take(self, now: datetime, stale: datetime, bases: Collection[str]) -> Calibration | None:
        """One of these bases that is to be measured and that nobody began to measure since `stale`; it is the
        caller's then."""
        ...


class BudgetTable(Protocol):
    def get(self, account_id: str) -> Budget | None: ...

    def put(self, budget: Budget) -> None: ...

    def delete(self, account_id: str) -> bool: ...

    def list(self) -> list[Budget]: ...

    def warn(self, account_id: str, since: datetime, percent: int) -> bool:
        """Remembers that a warning was given; False when this or a higher one was given in this period already."""
        ...


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens of one answer. `minute` is the one it ended in; `deployment` None: the model was asked directly.

    `paid` is false where the throughput they ran through is paid by the hour."""

    minute: datetime
    account: str
    deployment: str | None
    model: str
    paid: bool
    input_tokens: int
    output_tokens: int


class Journal(Protocol):
    """Counts of one process on its machine's disk, until they are charges. `id` is unlike every other journal's."""

    @property
    def id(self) -> str: ...

    def append(self, count: TokenCount) -> None:
        """Survives the death of this process from here on; fast enough for every request."""
        ...

    def counts(self) -> list[TokenCount]:
        """All of them; of one whose writer was killed, all that were appended."""
        ...

    def remove(self) -> None:
        """Everything in it was charged."""
        ...

    def release(self) -> None:
        """Leaves it, as it is, to whoever finds it next."""
        ...


class Journals(Protocol):
    def open(self) -> Journal:
        """A new one."""
        ...

    def abandoned(self) -> Iterator[Journal]:
        """Those whose processes have ended, one after the other; each is given to one caller only, who charges and
        removes it, or releases it."""
        ...
