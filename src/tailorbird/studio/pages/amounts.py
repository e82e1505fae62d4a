"""Money, spans of time and sums of the usage page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from tailorbird.studio.words import Words

METERS = (
    "training_hours",
    "training_tokens",
    "hosting_hours",
    "provisioned_hours",
    "input_tokens",
    "output_tokens",
)
_SIGNS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥"}


def money(t: Words, amount: str | Decimal, currency: str, *, exact: bool = False) -> str:
    """Cents; `exact` keeps every digit, for prices of a token."""
    value = Decimal(amount)
    digits = max(2, -int(value.normalize().as_tuple().exponent)) if exact else 2
    sign = _SIGNS.get(currency)
    text = t.number(float(value), digits)
    return f"{sign}{text}" if sign else f"{text} {currency}"


def in_use(span: str, today: date | None = None) -> tuple[str, str]:
    """First day and the day after the last: `this` month so far, the `last` one, or a `year` back."""
    now = today or datetime.now(UTC).date()
    first = now.replace(day=1)
    if span == "last":
        return (first - timedelta(days=1)).replace(day=1).isoformat(), first.isoformat()
    if span == "year":
        return (now - timedelta(days=365)).isoformat(), (now + timedelta(days=1)).isoformat()
    return first.isoformat(), (now + timedelta(days=1)).isoformat()


def by_day(rows: Iterable[Mapping[str, Any]]) -> tuple[list[str], dict[str, list[float]]]:
    """Every day between the first and the last, and each meter's amounts on those days."""
    found: dict[str, dict[str, Decimal]] = {}
    for row in rows:
        day = found.setdefault(row["day"], {})
        day[row["meter"]] = day.get(row["meter"], Decimal(0)) + Decimal(row["amount"])
    if not found:
        return [], {}
    first, last = date.fromisoformat(min(found)), date.fromisoformat(max(found))
    days = [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]
    meters = [meter for meter in METERS if any(meter in amounts for amounts in found.values())]
    return days, {meter: [float(found.get(day, {}).get(meter, Decimal(0))) for day in days] for meter in meters}


def totals(rows: Iterable[Mapping[str, Any]], group: str) -> list[Mapping[str, Any]]:
    """The rows as they should be read: newest day first, else the dearest first."""
    if group == "day":
        return sorted(rows, key=lambda row: (row["day"], row["meter"]), reverse=True)
    return sorted(rows, key=lambda row: Decimal(row["amount"]), reverse=True)
