"""The tariff: what each model that can be tuned really is here, and what its training, hosting and answers cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tailorbird.domain.jobs import Method
from tailorbird.domain.models import BaseModel, CatalogueEntry
from tailorbird.domain.pricing import PriceList, Prices
from tailorbird.service.models import Catalogue


@dataclass(frozen=True, slots=True)
class Line:
    """A name customers use, the weights behind it, and its prices; a model without a price is free."""

    entry: CatalogueEntry
    base: BaseModel
    methods: tuple[Method, ...]
    prices: Prices


class Tariff:
    def __init__(self, catalogue: Catalogue, prices: PriceList) -> None:
        self._catalogue = catalogue
        self.prices = prices

    def lines(self) -> Sequence[Line]:
        """In the order of the catalogue."""
        return [
            Line(entry, self._catalogue.base(entry.base), _methods(entry), self.prices.of(entry.name))
            for entry in self._catalogue.entries
            if entry.tunable
        ]


def _methods(entry: CatalogueEntry) -> tuple[Method, ...]:
    """Preference pairs are conversations."""
    return (Method.SUPERVISED, Method.DPO) if entry.chat else (Method.SUPERVISED,)
