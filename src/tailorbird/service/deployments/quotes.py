"""What a deployment costs and when the clock ends it; and, before it is made, what it would be allowed."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from tailorbird.domain.access import Account
from tailorbird.domain.deployments import (
    DEVELOPER,
    PROVISIONED_SKUS,
    REQUESTS_PER_UNIT,
    TOKENS_PER_UNIT,
    Deployment,
    Ending,
    Limits,
    ending_of,
)
from tailorbird.domain.pricing import ZERO, PriceList, hourly, pays_tokens
from tailorbird.service.deployments import rules
from tailorbird.service.deployments.offers import Offers
from tailorbird.service.models import Catalogue
from tailorbird.service.ports import Clock, Store
from tailorbird.service.sources import Asked, source_to_deploy


@dataclass(frozen=True, slots=True)
class Price:
    """`hour` is paid whether or not anybody asks; the two token prices are per 1,000 tokens."""

    hour: Decimal
    input_tokens: Decimal
    output_tokens: Decimal
    currency: str
    price_list: str


@dataclass(frozen=True, slots=True)
class Quote:
    """`left` is the capacity the location's quota has for this model and SKU, `quota` all of it; both in the unit of a
    capacity. The two rates are None where none is kept. `idle_days` and `developer_hours` are None where that clock
    does not run."""

    served_model: str
    base_model: str
    tuned: bool
    sku_name: str
    skus: tuple[str, ...]
    capacity: int
    tokens_per_minute: int | None
    requests_per_minute: int | None
    quota: int
    left: int
    price: Price
    idle_days: float | None
    developer_hours: float | None
    taken_by: str | None
    """The deployment that serves this fine-tuned model already; there cannot be a second."""


class Quotes:
    def __init__(
        self, store: Store, catalogue: Catalogue, offers: Offers, clock: Clock, limits: Limits, prices: PriceList
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._offers = offers
        self._clock = clock
        self._limits = limits
        self._prices = prices

    def price(self, deployment: Deployment) -> Price:
        return self._price(
            deployment.catalogue_name,
            deployment.sku_name,
            deployment.capacity,
            tuned=deployment.checkpoint_id is not None,
        )

    def ending(self, deployment: Deployment) -> Ending | None:
        return ending_of(deployment, self._limits)

    def before(self, account: Account, model_name: str, sku_name: str = "Standard", capacity: int = 1) -> Quote:
        """Of a deployment that does not exist. Raises InvalidRequest for what cannot be deployed; too much capacity is
        no fault here, `left` tells."""
        rules.check_capacity(capacity)
        with self._store.begin() as tx:
            asked = Asked(model_name, "OpenAI", None)
            source, version = source_to_deploy(tx, self._catalogue, account.id, asked, self._clock.now().date())
            other = None if source.checkpoint_id is None else tx.deployments.of_checkpoint(source.checkpoint_id)
        tuned = source.checkpoint_id is not None
        sku = rules.check_sku(sku_name, model_name, version, tuned=tuned)
        limited = self._limits.rate_limits and sku not in PROVISIONED_SKUS
        return Quote(
            served_model=source.served_azure,
            base_model=source.catalogue_name,
            tuned=tuned,
            sku_name=sku,
            skus=rules.skus_of(tuned=tuned),
            capacity=capacity,
            tokens_per_minute=capacity * TOKENS_PER_UNIT if limited else None,
            requests_per_minute=capacity * REQUESTS_PER_UNIT if limited else None,
            quota=self._limits.quota,
            left=self._offers.left(account, source.catalogue_name, sku),
            price=self._price(source.catalogue_name, sku, capacity, tuned=tuned),
            idle_days=self._limits.idle_days if tuned and self._limits.idle_days > 0 else None,
            developer_hours=self._limits.developer_hours
            if sku == DEVELOPER and self._limits.developer_hours > 0
            else None,
            taken_by=None if other is None or other.account_id != account.id else other.name,
        )

    def _price(self, model: str, sku_name: str, capacity: int, *, tuned: bool) -> Price:
        prices = self._prices.of(model)
        by_token = pays_tokens(sku_name)
        return Price(
            hour=hourly(prices, sku_name, capacity, tuned=tuned),
            input_tokens=prices.input_tokens if by_token else ZERO,
            output_tokens=prices.output_tokens if by_token else ZERO,
            currency=self._prices.currency,
            price_list=self._prices.version,
        )
