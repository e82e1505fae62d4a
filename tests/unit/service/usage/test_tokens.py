"""Tokens: no transaction a request, a charge a minute, nothing lost and nothing twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tailorbird.domain.deployments import Deployment, ProvisioningState
from tailorbird.domain.pricing import Charge, Meter, PriceList, Prices
from tailorbird.infra.journal import FileJournal, FileJournals
from tailorbird.infra.schema import make_engine, migrate
from tailorbird.infra.store import SqlStore
from tailorbird.service.usage.tokens import TokenMeter

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
PRICES = PriceList("v", "USD", {"gpt-4o": Prices(input_tokens=Decimal("0.01"), output_tokens=Decimal("0.03"))})


def deployment(name: str, sku: str = "Standard") -> Deployment:
    return Deployment(
        "a", name, "m", "OpenAI", "1", "m", "weaver", None, "gpt-4o", sku, 3, ProvisioningState.SUCCEEDED,
        NOON, NOON, "me",
    )  # fmt: skip


@dataclass
class Till:
    store: SqlStore
    folder: Path
    time: datetime = NOON
    meters: list[TokenMeter] = field(default_factory=list[TokenMeter])

    def now(self) -> datetime:
        return self.time

    def meter(self) -> TokenMeter:
        self.meters.append(TokenMeter(self.store, PRICES, FileJournals(self.folder), self))
        return self.meters[-1]

    def kill(self, meter: TokenMeter) -> None:
        """As the kernel does it: open files are closed, and with them the locks go."""
        for window in [*meter._open.values(), *meter._passed]:
            assert isinstance(window.journal, FileJournal)
            os.close(window.journal._handle)
        self.meters.remove(meter)

    def charges(self) -> list[Charge]:
        with self.store.begin() as tx:
            return tx.ledger.page(["a", "b"], NOON, NOON + timedelta(days=9), after=None, limit=999).items[::-1]

    def sums(self) -> dict[tuple[str, Meter], int]:
        found: dict[tuple[str, Meter], int] = {}
        for charge in self.charges():
            key = (charge.deployment or charge.model, charge.meter)
            found[key] = found.get(key, 0) + charge.quantity
        return found


@pytest.fixture
def till(tmp_path: Path) -> Iterator[Till]:
    url = f"sqlite:///{tmp_path / 't.db'}"
    migrate(url)
    engine = make_engine(url)
    made = Till(SqlStore(engine), tmp_path / "usage")
    yield made
    for meter in list(made.meters):
        made.kill(meter)
    engine.dispose()


def test_a_minute_is_charged_when_it_has_passed_one_line_a_deployment_and_meter(till: Till) -> None:
    meter, bot = till.meter(), deployment("Bot")
    for _ in range(100):
        meter.count("a", bot, "gpt-4o", 10, 2)
    meter.count("a", None, "gpt-4o", 5, 0)
    meter.charge()
    assert till.charges() == []
    till.time += timedelta(seconds=61)
    meter.count("a", bot, "gpt-4o", 1, 1)
    meter.charge()
    assert till.sums() == {
        ("Bot", Meter.INPUT_TOKENS): 1000,
        ("Bot", Meter.OUTPUT_TOKENS): 200,
        ("gpt-4o", Meter.INPUT_TOKENS): 5,
    }
    assert len(till.charges()) == 3
    line = till.charges()[0]
    assert (line.at, line.price_list, line.unit_price, line.amount) == (NOON, "v", Decimal("0.01"), Decimal("0.01"))
    meter.charge(all_of_it=True)
    assert till.sums()["Bot", Meter.INPUT_TOKENS] == 1001
    assert list(till.folder.iterdir()) == []


def test_tokens_of_provisioned_throughput_are_counted_and_free(till: Till) -> None:
    meter = till.meter()
    meter.count("a", deployment("ptu", "ProvisionedManaged"), "gpt-4o", 10, 2)
    meter.charge(all_of_it=True)
    assert [(charge.quantity, charge.amount) for charge in till.charges()] == [(10, 0), (2, 0)]


def test_a_killed_process_loses_nothing_and_the_next_one_charges_it_once(till: Till) -> None:
    meter, bot = till.meter(), deployment("Bot")
    meter.count("a", bot, "gpt-4o", 10, 2)
    meter.count("b", deployment("other"), "gpt-4o", 7, 0)
    till.kill(meter)
    first, second = till.meter(), till.meter()
    first.recover()
    second.recover()
    assert till.sums() == {
        ("Bot", Meter.INPUT_TOKENS): 10,
        ("Bot", Meter.OUTPUT_TOKENS): 2,
        ("other", Meter.INPUT_TOKENS): 7,
    }


def test_a_living_process_keeps_its_own_minutes(till: Till) -> None:
    alive, other = till.meter(), till.meter()
    alive.count("a", deployment("Bot"), "gpt-4o", 10, 0)
    other.recover()
    alive.recover()
    assert till.charges() == []


def test_killed_between_charge_and_journal_it_is_charged_once(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = till.meter()
    meter.count("a", deployment("Bot"), "gpt-4o", 10, 2)

    def die(_: FileJournal) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FileJournal, "remove", die)
        with pytest.raises(KeyboardInterrupt):
            meter.charge(all_of_it=True)
    till.kill(meter)
    till.meter().recover()
    assert till.sums() == {("Bot", Meter.INPUT_TOKENS): 10, ("Bot", Meter.OUTPUT_TOKENS): 2}
    assert list(till.folder.iterdir()) == []


def test_while_the_database_is_away_minutes_wait_and_none_is_lost(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    meter, bot = till.meter(), deployment("Bot")
    meter.count("a", bot, "gpt-4o", 10, 0)
    till.time += timedelta(minutes=1)
    away: Callable[..., object] = lambda _: (_ for _ in ()).throw(OSError("away"))  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(SqlStore, "begin", away)
        with pytest.raises(OSError, match="away"):
            meter.charge()
    meter.count("a", bot, "gpt-4o", 1, 0)
    meter.charge(all_of_it=True)
    assert till.sums() == {("Bot", Meter.INPUT_TOKENS): 11}


def test_what_cannot_be_charged_yet_is_left_to_the_next_round(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = till.meter()
    dead.count("a", deployment("Bot"), "gpt-4o", 10, 0)
    till.kill(dead)
    meter = till.meter()
    away: Callable[..., object] = lambda _: (_ for _ in ()).throw(OSError("away"))  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(SqlStore, "begin", away)
        with pytest.raises(OSError, match="away"):
            meter.recover()
    meter.recover()
    assert till.sums() == {("Bot", Meter.INPUT_TOKENS): 10}
