"""Money and spans of the usage page."""

from __future__ import annotations

from datetime import date

from tailorbird.studio.pages.amounts import by_day, in_use, money, totals
from tailorbird.studio.words import Words


def test_money_has_cents_and_prices_of_tokens_every_digit() -> None:
    assert money(Words("en"), "1234.5", "USD") == "$1,234.50"
    assert money(Words("nl"), "1234.5", "EUR") == "€1.234,50"
    assert money(Words("en"), "3", "CHF") == "3.00 CHF"
    assert money(Words("en"), "0.0004", "USD", exact=True) == "$0.0004"
    assert money(Words("en"), "100", "USD", exact=True) == "$100.00"


def test_spans_end_the_day_after_their_last() -> None:
    day = date(2026, 1, 31)
    assert in_use("this", day) == ("2026-01-01", "2026-02-01")
    assert in_use("last", day) == ("2025-12-01", "2026-01-01")
    assert in_use("year", day) == ("2025-01-31", "2026-02-01")


def row(day: str, meter: str, amount: str) -> dict[str, str]:
    return {"day": day, "meter": meter, "amount": amount}


def test_days_without_a_charge_are_zero_in_the_chart() -> None:
    rows = [row("2026-11-03", "hosting_hours", "1.70"), row("2026-11-01", "training_hours", "34")]
    assert by_day(rows) == (
        ["2026-11-01", "2026-11-02", "2026-11-03"],
        {"training_hours": [34.0, 0.0, 0.0], "hosting_hours": [0.0, 0.0, 1.7]},
    )
    assert by_day([]) == ([], {})


def test_the_dearest_comes_first_and_the_newest_day() -> None:
    models = [{"model": "a", "meter": "x", "amount": "9"}, {"model": "b", "meter": "x", "amount": "10"}]
    assert [one["model"] for one in totals(models, "model")] == ["b", "a"]
    days = [row("2026-11-01", "x", "1"), row("2026-11-02", "x", "0")]
    assert [one["day"] for one in totals(days, "day")] == ["2026-11-02", "2026-11-01"]
