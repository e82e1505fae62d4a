"""Cost: what is metered and charged while the server runs, budgets, estimates and reports.

The ledger's rules: only what has a price list's meter is charged, under a key that follows from what is charged, so
that no crash and no second server charges it again. Queueing, pauses, failed jobs and models nobody deploys are free.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tailorbird.domain.deployments import Deployment
from tailorbird.service.usage.budgets import Budgets
from tailorbird.service.usage.estimates import Estimator
from tailorbird.service.usage.hosting import HostingMeter
from tailorbird.service.usage.reports import Reports
from tailorbird.service.usage.tariff import Tariff
from tailorbird.service.usage.tokens import TokenMeter

log = logging.getLogger(__name__)


class Retiring(Protocol):
    """Deployments, as far as budgets end them."""

    def list(self, account_id: str) -> Sequence[Deployment]: ...

    async def delete(self, account_id: str, name: str, why: str = "") -> bool: ...


@dataclass(frozen=True, slots=True)
class Cost:
    """Everything of it that a server runs and answers with."""

    tokens: TokenMeter
    hosting: HostingMeter
    budgets: Budgets
    estimator: Estimator
    reports: Reports
    tariff: Tariff
    deployments: Retiring
    charge_seconds: float = 5.0

    async def run(self) -> None:
        """Charges tokens, first those that killed processes left; ends only by being cancelled."""
        meters = [self.tokens.recover, self.tokens.charge]
        while True:
            for charge in meters:
                try:
                    await asyncio.to_thread(charge)
                except Exception:
                    # What is not charged stays in the journals; the next round tries again.
                    log.exception("tokens could not be charged")
            await asyncio.sleep(self.charge_seconds)

    async def sweep(self) -> None:
        """Charges hosting and minds the budgets."""
        await asyncio.to_thread(self.hosting.charge)
        for account_id in await asyncio.to_thread(self.budgets.warn):
            for deployment in await asyncio.to_thread(self.deployments.list, account_id):
                log.warning(
                    "deployment retired: the budget is spent",
                    extra={"account": account_id, "deployment": deployment.name},
                )
                await self.deployments.delete(account_id, deployment.name, why="the budget is spent")

    def close(self) -> None:
        """Charges the minute that has not passed, as the server ends."""
        self.tokens.charge(all_of_it=True)
