"""Budgets of accounts: set, looked at, warned of, and what they refuse and retire when they are spent."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import datetime
from decimal import Decimal

from tailorbird.domain.audit import Act
from tailorbird.domain.errors import InvalidRequest, NotFound, QuotaExceeded
from tailorbird.domain.pricing import (
    Budget,
    BudgetAction,
    BudgetState,
    Period,
    PriceList,
    cents,
    period_end,
    period_start,
)
from tailorbird.service.audit import record, resource_in
from tailorbird.service.ports import Clock, Session, Store

log = logging.getLogger(__name__)


class Budgets:
    def __init__(self, store: Store, prices: PriceList, clock: Clock) -> None:
        self._store = store
        self._currency = prices.currency
        self._clock = clock

    def put(self, account_id: str, amount: Decimal, period: Period, actions: Collection[BudgetAction]) -> BudgetState:
        """Sets or replaces the account's budget. Raises InvalidRequest."""
        if not amount.is_finite() or amount <= 0 or amount != cents(amount):
            raise InvalidRequest(
                f"'amount' must be above 0 and have at most two decimal places, not {amount}.", param="amount"
            )
        now = self._clock.now()
        budget = Budget(
            account_id,
            amount,
            period,
            stop_jobs=BudgetAction.STOP_JOBS in actions,
            retire_deployments=BudgetAction.RETIRE_DEPLOYMENTS in actions,
            updated_at=now,
        )
        with self._store.begin() as tx:
            tx.budgets.put(budget)
            record(tx, now, Act.CHANGE_BUDGET, resource_in(tx, account_id, "/budget"), f"{amount} for each {period}")
            state = _state(tx, budget, now)
        log.info(
            "budget set",
            extra={"account": account_id, "amount": str(amount), "period": period, "actions": budget.actions},
        )
        return state

    def get(self, account_id: str) -> BudgetState:
        """Raises NotFound."""
        found = self.find(account_id)
        if found is None:
            raise _no_budget()
        return found

    def find(self, account_id: str) -> BudgetState | None:
        with self._store.begin() as tx:
            budget = tx.budgets.get(account_id)
            return None if budget is None else _state(tx, budget, self._clock.now())

    def delete(self, account_id: str) -> None:
        """Raises NotFound."""
        with self._store.begin() as tx:
            if not tx.budgets.delete(account_id):
                raise _no_budget()
            record(tx, self._clock.now(), Act.CHANGE_BUDGET, resource_in(tx, account_id, "/budget"), "removed")
        log.info("budget removed", extra={"account": account_id})

    def refuse_job(self, tx: Session, account_id: str) -> None:
        """Raises QuotaExceeded when the budget is spent and stops jobs."""
        budget = tx.budgets.get(account_id)
        if budget is not None and budget.stop_jobs:
            self._refuse(_state(tx, budget, self._clock.now()), "fine-tuning job", None)

    def refuse_deployment(self, tx: Session, account_id: str) -> None:
        """Raises QuotaExceeded when the budget is spent and retires deployments: a new one would not stay."""
        budget = tx.budgets.get(account_id)
        if budget is not None and budget.retire_deployments:
            self._refuse(_state(tx, budget, self._clock.now()), "deployment", "sku.name")

    def warn(self) -> list[str]:
        """Tells the operator's log of each mark an account has passed, once in a period; answers the accounts whose
        deployments are to be retired."""
        now = self._clock.now()
        retired: list[str] = []
        with self._store.begin() as tx:
            for budget in tx.budgets.list():
                state = _state(tx, budget, now)
                if state.reached and tx.budgets.warn(budget.account_id, state.start, state.reached):
                    log.warning("budget reached", extra={"account": budget.account_id, **self.shown(state)})
                if state.exceeded and budget.retire_deployments:
                    retired.append(budget.account_id)
        return retired

    def shown(self, state: BudgetState) -> dict[str, object]:
        """A budget as it is told, without the account."""
        budget = state.budget
        return {
            "amount": str(budget.amount),
            "currency": self._currency,
            "period": budget.period.value,
            "start": state.start.isoformat(),
            "end": state.end.isoformat(),
            "spent": str(cents(state.spent)),
            "reached": state.reached,
            "actions": [action.value for action in budget.actions],
        }

    def _refuse(self, state: BudgetState, what: str, param: str | None) -> None:
        if state.exceeded:
            budget = state.budget
            raise QuotaExceeded(
                f"The budget of this resource is spent: {cents(state.spent)} of {budget.amount} {self._currency} for "
                f"this {budget.period}, so no new {what} can be created before {state.end:%Y-%m-%d} (UTC). Raise the "
                "budget (PUT /tailorbird/v1/budget) or wait until then.",
                param=param,
            )


def _state(tx: Session, budget: Budget, now: datetime) -> BudgetState:
    start, end = period_start(budget.period, now), period_end(budget.period, now)
    return BudgetState(budget, start, end, tx.ledger.spent(budget.account_id, start, end))


def _no_budget() -> NotFound:
    return NotFound("This resource has no budget. Set one with PUT /tailorbird/v1/budget.")
