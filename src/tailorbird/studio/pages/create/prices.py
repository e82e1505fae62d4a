"""Prices of a model in words: of its training, and of hosting what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tailorbird.studio.pages.amounts import money
from tailorbird.studio.words import Words


def training(t: Words, meter: str, unit_price: str, currency: str) -> str:
    """Per hour or per 1,000 tokens, as the service meters this model."""
    if Decimal(unit_price) == 0:
        return t("create.free")
    key = "create.price_hours" if meter == "training_hours" else "create.price_tokens"
    return t(key, price=money(t, unit_price, currency, exact=True))


def hosting(t: Words, line: Mapping[str, Any] | None) -> str:
    """What a deployment costs, asked or not; of a line of the tariff."""
    if line is None or Decimal(line["hosting_hour"]) == 0:
        return t("create.hosting_free")
    return t("create.hosting", price=money(t, line["hosting_hour"], line["currency"], exact=True))
