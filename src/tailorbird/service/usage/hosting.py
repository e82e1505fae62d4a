"""What deployments cost by the hour: when they stood ready, and a charge for each hour that has begun."""

from __future__ import annotations

from datetime import datetime, timedelta

from tailorbird.domain.deployments import Deployment
from tailorbird.domain.pricing import HOUR_SECONDS, Charge, Hosting, PriceList, hosting_of
from tailorbird.domain.pricing import goes_on as is_paid_alike
from tailorbird.service.ports import Clock, Session, Store

_AT_ONCE = 100


def follow(tx: Session, deployment: Deployment, now: datetime) -> None:
    """Call it with every state, SKU or capacity a deployment is written with, in the same transaction."""
    wanted = hosting_of(deployment, now)
    goes_on = False
    for hosting in tx.hosting.of(deployment.account_id, deployment.name):
        if not goes_on and is_paid_alike(hosting, wanted):
            goes_on = True
        else:
            tx.hosting.close(hosting.id, now)
    if wanted is not None and not goes_on:
        tx.hosting.open(wanted)


class HostingMeter:
    """Any number of servers may charge at the same time: an hour's key lets one of them through."""

    def __init__(self, store: Store, prices: PriceList, clock: Clock) -> None:
        self._store = store
        self._prices = prices
        self._clock = clock

    def charge(self) -> None:
        """Charges every hour that has begun, also those that passed while no server ran."""
        now = self._clock.now()
        more = True
        while more:
            with self._store.begin() as tx:
                due = tx.hosting.due(now, _AT_ONCE)
                for hosting in due:
                    hours = hosting.begun_hours(now)
                    for hour in range(hosting.hours, hours):
                        tx.ledger.append(self._charge(hosting, hour))
                    tx.hosting.charged(hosting, max(hours, hosting.hours))
            more = len(due) == _AT_ONCE

    def _charge(self, hosting: Hosting, hour: int) -> Charge:
        meter = hosting.meter
        if meter is None:
            raise ValueError(f"{hosting.id} is not paid by the hour")
        return Charge(
            key=f"hosting/{hosting.id}/{hour}",
            account=hosting.account,
            meter=meter,
            quantity=hosting.units,
            unit_price=self._prices.of(hosting.model).of(meter),
            price_list=self._prices.version,
            model=hosting.model,
            at=hosting.started_at + timedelta(seconds=hour * HOUR_SECONDS),
            deployment=hosting.deployment,
        )
