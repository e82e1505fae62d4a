"""Reads the price list, every fault of it at once."""

from __future__ import annotations

import hashlib
import tomllib
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, cast

from tailorbird.domain.pricing import PriceList, Prices
from tailorbird.service.models import Catalogue

_FIELDS = {
    "training_hour": "training_hour",
    "training_1k": "training_tokens",
    "hosting_hour": "hosting_hour",
    "provisioned_hour": "provisioned_hour",
    "input_1k": "input_tokens",
    "output_1k": "output_tokens",
}
_MAX_PLACES = 12


class PricesError(ValueError):
    """The price list cannot be used; the message names every fault with its model and field."""


def load_prices(path: Path) -> PriceList:
    """Raises PricesError naming every fault, and OSError when the file cannot be read."""
    data = path.read_bytes()
    try:
        raw = tomllib.loads(data.decode("utf-8"), parse_float=Decimal)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PricesError(f"{path}: {error}") from error
    faults = [f"{name}: unknown; known are version, currency and model" for name in raw if name not in _TOP]
    version, currency = (_word(raw, name, faults) for name in ("version", "currency"))
    tables: dict[str, Any] = raw.get("model", {}) if isinstance(raw.get("model", {}), dict) else {}
    models = {name.lower(): _prices(f"[model.{name}]", table, faults) for name, table in tables.items()}
    if len(models) < len(tables):
        faults.append("[model]: a name stands there twice; upper and lower case are the same")
    if faults:
        raise PricesError(f"{path}: {len(faults)} fault(s)\n" + "\n".join(f"  {fault}" for fault in faults))
    return PriceList(f"{version}+{hashlib.sha256(data).hexdigest()[:8]}", currency, models)


def unpriced(prices: PriceList, catalogue: Catalogue) -> list[str]:
    """Names of the catalogue the price list says nothing of, which are free therefore."""
    return [entry.name for entry in catalogue.entries if prices.find(entry.name) is None]


_TOP = ("version", "currency", "model")


def _word(raw: dict[str, Any], name: str, faults: list[str]) -> str:
    value = raw.get(name)
    if isinstance(value, str) and value.strip():
        return value
    faults.append(f"{name}: " + ("missing" if value is None else f"{value!r} is not a text"))
    return ""


def _prices(title: str, table: Any, faults: list[str]) -> Prices:
    if not isinstance(table, dict):
        faults.append(f"{title}: must be a table")
        return Prices()
    found: dict[str, Decimal] = {}
    for name, value in cast("dict[str, Any]", table).items():
        if name not in _FIELDS:
            faults.append(f"{title} {name}: unknown; known are {', '.join(_FIELDS)}")
        elif (price := _price(value)) is None:
            faults.append(f"{title} {name}: {value!r} is not a price of 0 or more with up to {_MAX_PLACES} places")
        else:
            found[_FIELDS[name]] = price
    if "training_hour" in found and "training_tokens" in found:
        faults.append(f"{title}: training_hour and training_1k; training is paid in one of the two")
    return Prices(**found)


def _price(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        return None
    try:
        price = Decimal(value)
    except InvalidOperation:
        return None
    if not price.is_finite() or price < 0:
        return None
    places = price.as_tuple().exponent
    return price if isinstance(places, int) and -places <= _MAX_PLACES else None
