"""What answers cost: tokens counted in memory and in a journal on disk, charged by deployment and minute."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from tailorbird.domain.deployments import Deployment
from tailorbird.domain.pricing import ZERO, Charge, Meter, PriceList, pays_tokens
from tailorbird.service.ports import Clock, Journal, Journals, Store, TokenCount

_Key = tuple[str, str | None, str, bool]


@dataclass(slots=True)
class _Window:
    """One minute of one process: its journal, and sums by account, deployment and model."""

    minute: datetime
    journal: Journal
    sums: dict[_Key, list[int]] = field(default_factory=dict["_Key", "list[int]"])

    def add(self, count: TokenCount) -> None:
        key = (count.account, count.deployment, count.model, count.paid)
        sums = self.sums.setdefault(key, [0, 0])
        sums[0] += count.input_tokens
        sums[1] += count.output_tokens


class TokenMeter:
    """A request costs a line in the journal and no transaction. A minute is charged when it has passed, under keys that
    follow from its journal, so that charging it again after a crash writes nothing.

    Killing the process loses nothing: the next one on this machine charges what its journals hold.
    """

    def __init__(self, store: Store, prices: PriceList, journals: Journals, clock: Clock) -> None:
        self._store = store
        self._prices = prices
        self._journals = journals
        self._clock = clock
        self._lock = threading.Lock()
        self._charging = threading.Lock()
        self._open: dict[datetime, _Window] = {}
        self._passed: list[_Window] = []

    def count(
        self, account_id: str, deployment: Deployment | None, model: str, input_tokens: int, output_tokens: int
    ) -> None:
        """The tokens of one answer, or of the part of it that was given. `model` is the catalogue's name."""
        minute = self._clock.now().replace(second=0, microsecond=0)
        counted = TokenCount(
            minute=minute,
            account=account_id,
            deployment=None if deployment is None else deployment.name,
            model=model,
            paid=deployment is None or pays_tokens(deployment.sku_name),
            input_tokens=input_tokens,
            output_tokens=output_tokens,
        )
        with self._lock:
            window = self._open.get(minute)
            if window is None:
                window = self._open[minute] = _Window(minute, self._journals.open())
            window.journal.append(counted)
            window.add(counted)

    def charge(self, *, all_of_it: bool = False) -> None:
        """Charges the minutes that have passed; with `all_of_it` also the one that has not, as the process ends."""
        with self._charging:
            minute = self._clock.now().replace(second=0, microsecond=0)
            with self._lock:
                for window in [w for w in self._open.values() if all_of_it or w.minute < minute]:
                    # From here on nobody adds to it.
                    self._passed.append(self._open.pop(window.minute))
            while self._passed:
                self._settle(self._passed[0])
                self._passed.pop(0)

    def recover(self) -> None:
        """Charges what processes that were killed have left on this machine."""
        for journal in self._journals.abandoned():
            window = _Window(self._clock.now(), journal)
            settled = False
            try:
                for count in journal.counts():
                    window.minute = count.minute
                    window.add(count)
                self._settle(window)
                settled = True
            finally:
                if not settled:
                    journal.release()

    def _settle(self, window: _Window) -> None:
        with self._store.begin() as tx:
            for charge in self._charges(window):
                tx.ledger.append(charge)
        window.journal.remove()

    def _charges(self, window: _Window) -> Iterable[Charge]:
        for (account, deployment, model, paid), sums in window.sums.items():
            prices = self._prices.of(model)
            for meter, quantity in zip((Meter.INPUT_TOKENS, Meter.OUTPUT_TOKENS), sums, strict=True):
                if quantity:
                    yield Charge(
                        key=f"tokens/{window.journal.id}/{account}/{deployment or ''}/{model}/{paid}/{meter}",
                        account=account,
                        meter=meter,
                        quantity=quantity,
                        unit_price=prices.of(meter) if paid else ZERO,
                        price_list=self._prices.version,
                        model=model,
                        at=window.minute,
                        deployment=deployment,
                    )
