"""Body of a budget."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from tailorbird.api.bodies import Body
from tailorbird.domain.pricing import BudgetAction, Period


def _amount(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("use a number or a text such as '250.00'")
    try:
        # Through text: 0.1 is a tenth here.
        return Decimal(str(value))
    except InvalidOperation:
        raise ValueError("use a number or a text such as '250.00'") from None


def _word(kind: type[Period] | type[BudgetAction]) -> BeforeValidator:
    def read(value: Any) -> Period | BudgetAction:
        if value not in set(kind):
            raise ValueError(f"use {' or '.join(repr(word.value) for word in kind)}")
        return kind(value)

    return BeforeValidator(read)


class BudgetBody(Body):
    amount: Annotated[Decimal, BeforeValidator(_amount)]
    period: Annotated[Period, _word(Period)] = Period.MONTH
    actions: list[Annotated[BudgetAction, _word(BudgetAction)]] = Field(
        default_factory=lambda: [BudgetAction.STOP_JOBS], max_length=2
    )
