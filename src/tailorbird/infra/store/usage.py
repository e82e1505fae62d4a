"""Cost: the ledger, what is hosted, what jobs have trained, how fast bases train, budgets."""

from __future__ import annotations

import builtins
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import sqlalchemy as sa

from tailorbird.domain.pricing import HOUR_SECONDS, ZERO, Budget, Calibration, Charge, Hosting, Work, amount_of
from tailorbird.infra.store.rows import Rows, insert_new, insert_or_replace
from tailorbird.infra.tables.usage import budgets, calibrations, hosting, job_work, ledger
from tailorbird.service.ports import GroupBy, Page, Total

_CHARGES = Rows(Charge, ledger)
_HOSTING = Rows(Hosting, hosting)
_WORK = Rows(Work, job_work)
_CALIBRATIONS = Rows(Calibration, calibrations)
_BUDGETS = Rows(Budget, budgets)

_GROUPS: dict[GroupBy, sa.Column[str]] = {
    "day": ledger.c.day,
    "model": ledger.c.model,
    "deployment": ledger.c.deployment,
    "account": ledger.c.account,
}


class SqlLedger:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def append(self, charge: Charge) -> bool:
        row = {**_CHARGES.values(charge), "day": charge.at.astimezone(UTC).date().isoformat()}
        return insert_new(self._connection, ledger, row, ("key",))

    def totals(self, accounts: Collection[str], start: datetime, end: datetime, group_by: GroupBy) -> list[Total]:
        """In the order of groups, meters and prices."""
        group, c = _GROUPS[group_by], ledger.c
        query = (
            sa.select(group, c.meter, c.unit_price, sa.func.sum(c.quantity))
            .where(*_within(accounts, start, end))
            .group_by(group, c.meter, c.unit_price)
        )
        found = [
            Total(name, meter, price, int(quantity)) for name, meter, price, quantity in self._connection.execute(query)
        ]
        return sorted(found, key=lambda total: (total.group or "", total.meter, total.unit_price))

    def spent(self, account: str, start: datetime, end: datetime) -> Decimal:
        totals = self.totals([account], start, end, "account")
        return sum((amount_of(total.meter, total.quantity, total.unit_price) for total in totals), ZERO)

    def page(
        self, accounts: Collection[str], start: datetime, end: datetime, *, after: str | None, limit: int
    ) -> Page[Charge]:
        return _CHARGES.page(
            self._connection,
            *_within(accounts, start, end),
            order=[ledger.c.at, ledger.c.seq],
            descending=True,
            last=None if after is None else ledger.c.key == after,
            limit=limit,
        )


def _within(accounts: Collection[str], start: datetime, end: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return ledger.c.account.in_(list(accounts)), ledger.c.at >= start, ledger.c.at < end


class SqlHosting:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def open(self, opened: Hosting) -> None:
        row = {
            **_HOSTING.values(opened),
            "deployment_key": opened.deployment.lower(),
            "due_at": _due(opened, opened.hours),
            "settled": False,
        }
        insert_new(self._connection, hosting, row, ("id",))

    def of(self, account: str, deployment: str) -> builtins.list[Hosting]:
        """Oldest first."""
        c = hosting.c
        named = (c.account == account, c.deployment_key == deployment.lower(), c.ended_at.is_(None))
        return _HOSTING.all(self._connection, *named, order=[c.started_at])

    def close(self, hosting_id: str, at: datetime) -> None:
        same = (hosting.c.id == hosting_id, hosting.c.ended_at.is_(None))
        self._connection.execute(sa.update(hosting).where(*same).values(ended_at=at))

    def due(self, now: datetime, limit: int) -> builtins.list[Hosting]:
        query = (
            sa.select(*_HOSTING.columns)
            .where(hosting.c.settled.is_(False), hosting.c.due_at <= now)
            .order_by(hosting.c.due_at, hosting.c.id)
            .limit(limit)
        )
        return [_HOSTING.thing(row) for row in self._connection.execute(query).mappings()]

    def charged(self, seen: Hosting, hours: int) -> None:
        """One that had ended when it was read needs no other look."""
        values = {"hours": hours, "due_at": _due(seen, hours), "settled": seen.ended_at is not None}
        same = (hosting.c.id == seen.id, hosting.c.hours <= hours)
        self._connection.execute(sa.update(hosting).where(*same).values(values))


def _due(of: Hosting, hours: int) -> datetime:
    return of.started_at + timedelta(seconds=hours * HOUR_SECONDS)


class SqlWork:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def get(self, job_id: str) -> Work | None:
        return _WORK.one(self._connection, job_work.c.job_id == job_id)

    def put(self, work: Work) -> None:
        """Of two who write, the one who is further on is right."""
        row = _WORK.values(work)
        if insert_new(self._connection, job_work, row, ("job_id",)):
            return
        same = (job_work.c.job_id == work.job_id, job_work.c.steps <= work.steps)
        self._connection.execute(sa.update(job_work).where(*same).values(row))

    def finished(self, base: str, method: str, limit: int) -> builtins.list[Work]:
        c = job_work.c
        query = (
            sa.select(*_WORK.columns)
            .where(c.base == base, c.method == method, c.finished_at.is_not(None))
            .order_by(c.finished_at.desc(), c.job_id)
            .limit(limit)
        )
        return [_WORK.thing(row) for row in self._connection.execute(query).mappings()]


class SqlCalibrations:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def get(self, base: str) -> Calibration | None:
        return _CALIBRATIONS.one(self._connection, calibrations.c.base == base)

    def put(self, calibration: Calibration) -> None:
        insert_or_replace(self._connection, calibrations, _CALIBRATIONS.values(calibration), ("base",))

    def ask(self, base: str) -> None:
        insert_new(self._connection, calibrations, _CALIBRATIONS.values(Calibration(base)), ("base",))

    def take(self, now: datetime, stale: datetime, bases: Collection[str]) -> Calibration | None:
        c = calibrations.c
        left = sa.or_(c.taken_at.is_(None), c.taken_at < stale)
        free = (c.base.in_(list(bases)), c.measured_at.is_(None), left)
        found = next(iter(_CALIBRATIONS.all(self._connection, *free, order=[c.base])), None)
        if found is None:
            return None
        taken = sa.update(calibrations).where(c.base == found.base, *free).values(taken_at=now)
        return found if self._connection.execute(taken).rowcount == 1 else None


class SqlBudgets:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def get(self, account_id: str) -> Budget | None:
        return _BUDGETS.one(self._connection, budgets.c.account_id == account_id)

    def put(self, budget: Budget) -> None:
        """What it was warned of is forgotten: the limits are others now."""
        insert_or_replace(self._connection, budgets, _BUDGETS.values(budget), ("account_id",))

    def delete(self, account_id: str) -> bool:
        return self._connection.execute(sa.delete(budgets).where(budgets.c.account_id == account_id)).rowcount > 0

    def list(self) -> builtins.list[Budget]:
        """By account."""
        return _BUDGETS.all(self._connection, order=[budgets.c.account_id])

    def warn(self, account_id: str, since: datetime, percent: int) -> bool:
        c = budgets.c
        new = sa.or_(c.warned_since.is_(None), c.warned_since != since, c.warned < percent)
        written = sa.update(budgets).where(c.account_id == account_id, new).values(warned=percent, warned_since=since)
        return self._connection.execute(written).rowcount == 1
