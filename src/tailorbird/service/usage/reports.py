"""Usage as people read it: totals by day, model, deployment or account, and the lines they are made of."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from tailorbird.domain.access import Account
from tailorbird.domain.pricing import ZERO, Charge, Meter, PriceList, amount_of, cents, shown, unit_of
from tailorbird.service.ports import GroupBy, Page, Store


@dataclass(frozen=True, slots=True)
class UsageRow:
    """`amount` is exact. `group` is None for what belongs to no deployment."""

    group: str | None
    meter: Meter
    quantity: Decimal
    unit: str
    unit_price: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class UsageReport:
    start: datetime
    end: datetime
    group_by: GroupBy
    currency: str
    rows: Sequence[UsageRow]

    @property
    def total(self) -> Decimal:
        """In cents: the exact sum, rounded once."""
        return cents(sum((row.amount for row in self.rows), ZERO))


class Reports:
    def __init__(self, store: Store, prices: PriceList) -> None:
        self._store = store
        self._prices = prices

    def usage(self, accounts: Sequence[Account], start: datetime, end: datetime, group_by: GroupBy) -> UsageReport:
        """Of these accounts, from `start` up to but not including `end`. Groups of accounts carry their names."""
        with self._store.begin() as tx:
            totals = tx.ledger.totals([account.id for account in accounts], start, end, group_by)
        names = {account.id: account.name for account in accounts} if group_by == "account" else {}
        rows = [
            UsageRow(
                group=names.get(total.group or "", total.group),
                meter=total.meter,
                quantity=shown(total.meter, total.quantity),
                unit=unit_of(total.meter),
                unit_price=total.unit_price,
                amount=amount_of(total.meter, total.quantity, total.unit_price),
            )
            for total in totals
        ]
        return UsageReport(start, end, group_by, self._prices.currency, rows)

    def charges(
        self, accounts: Sequence[Account], start: datetime, end: datetime, *, after: str | None, limit: int
    ) -> Page[Charge]:
        with self._store.begin() as tx:
            return tx.ledger.page([account.id for account in accounts], start, end, after=after, limit=limit)


def plain(amount: Decimal) -> str:
    """All its digits, two places at least: 25.50, 0.0000004."""
    exponent = amount.normalize().as_tuple().exponent
    places = max(2, -exponent) if isinstance(exponent, int) else 2
    return f"{amount:.{places}f}"


def as_csv(report: UsageReport) -> str:
    """One line a row and no total: what reads it can add."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((report.group_by, "meter", "quantity", "unit", "unit_price", "amount", "currency"))
    for row in report.rows:
        writer.writerow(
            (row.group or "", row.meter.value, row.quantity, row.unit, plain(row.unit_price), plain(row.amount),
             report.currency)
        )  # fmt: skip
    return out.getvalue()
