"""Money: meters, price lists, charges of the ledger, budgets; amounts are exact decimals, never floats."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum

from tailorbird.domain.deployments import DEVELOPER, PROVISIONED_SKUS, Deployment, ProvisioningState

ZERO = Decimal(0)
CENT = Decimal("0.01")
QUARTER_SECONDS, HOUR_SECONDS = 900, 3600
WARN_AT = (50, 80, 100)
"""Percents of a budget at which its account is warned."""

_VERSION = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{3,4})$")


class Meter(StrEnum):
    """What is counted, each in whole numbers of its smallest part: quarters of an hour, begun hours, tokens.

    PROVISIONED_HOURS are unit-hours: begun hours times the deployment's capacity.
    """

    TRAINING_HOURS = "training_hours"
    TRAINING_TOKENS = "training_tokens"
    HOSTING_HOURS = "hosting_hours"
    PROVISIONED_HOURS = "provisioned_hours"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"


PRICED_PER: dict[Meter, int] = {
    Meter.TRAINING_HOURS: 4,
    Meter.TRAINING_TOKENS: 1000,
    Meter.HOSTING_HOURS: 1,
    Meter.PROVISIONED_HOURS: 1,
    Meter.INPUT_TOKENS: 1000,
    Meter.OUTPUT_TOKENS: 1000,
}
"""How many of a meter's smallest parts one unit price is for: an hour has four quarters, a token price is for 1,000."""

_TOKEN_METERS = (Meter.TRAINING_TOKENS, Meter.INPUT_TOKENS, Meter.OUTPUT_TOKENS)


def unit_of(meter: Meter) -> str:
    """What `shown` counts in."""
    return "tokens" if meter in _TOKEN_METERS else "hours"


def shown(meter: Meter, quantity: int) -> Decimal:
    """A quantity in its unit: hours with three digits, as in `Training hours billed: 0.500`; tokens as they are."""
    if meter in _TOKEN_METERS:
        return Decimal(quantity)
    return (Decimal(quantity) / PRICED_PER[meter]).quantize(Decimal("0.001"))


def amount_of(meter: Meter, quantity: int, unit_price: Decimal) -> Decimal:
    """Exact, for the divisors are 1, 4 and 1,000. Nothing is rounded before a total is shown."""
    return quantity * unit_price / PRICED_PER[meter]


def cents(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, ROUND_HALF_UP)


@dataclass(frozen=True, slots=True)
class Prices:
    """One model's, per hour or per 1,000 tokens. Of the two ways to pay for training at most one is set.

    `hosting` is per deployment of a fine-tuned model; `provisioned` per unit of capacity, for any model.
    """

    training_hour: Decimal | None = None
    training_tokens: Decimal | None = None
    hosting_hour: Decimal = ZERO
    provisioned_hour: Decimal = ZERO
    input_tokens: Decimal = ZERO
    output_tokens: Decimal = ZERO

    @property
    def training_meter(self) -> Meter:
        """Without a price training is counted in tokens, and free."""
        return Meter.TRAINING_HOURS if self.training_hour is not None else Meter.TRAINING_TOKENS

    def of(self, meter: Meter) -> Decimal:
        return {
            Meter.TRAINING_HOURS: self.training_hour or ZERO,
            Meter.TRAINING_TOKENS: self.training_tokens or ZERO,
            Meter.HOSTING_HOURS: self.hosting_hour,
            Meter.PROVISIONED_HOURS: self.provisioned_hour,
            Meter.INPUT_TOKENS: self.input_tokens,
            Meter.OUTPUT_TOKENS: self.output_tokens,
        }[meter]


FREE = Prices()


@dataclass(frozen=True, slots=True)
class PriceList:
    """`version` stands on every charge and changes with every change of the file."""

    version: str = "none"
    currency: str = "USD"
    models: Mapping[str, Prices] = field(default_factory=dict[str, Prices])
    """By model name in lower case."""

    def find(self, model: str) -> Prices | None:
        """By the model's own name, else by its name without the version at its end (`gpt-4o-2024-08-06`: `gpt-4o`)."""
        name = model.lower()
        return self.models.get(name) or self.models.get(_VERSION.sub("", name))

    def of(self, model: str) -> Prices:
        """A model the list does not name is free."""
        return self.find(model) or FREE


NO_PRICES = PriceList()


@dataclass(frozen=True, slots=True)
class Charge:
    """One line of the ledger. `key` follows from what is charged, so that charging it again writes nothing.

    It names the job or the deployment; neither is set when a model was asked directly, which `model` then names.
    `account` is the account's id: the line outlives the account.
    """

    key: str
    account: str
    meter: Meter
    quantity: int
    unit_price: Decimal
    price_list: str
    model: str
    at: datetime
    job_id: str | None = None
    deployment: str | None = None

    @property
    def amount(self) -> Decimal:
        return amount_of(self.meter, self.quantity, self.unit_price)


# --- training ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Work:
    """What a job has trained so far: steps, their tokens, and the seconds they took when trained for the first time.

    Steps trained again after a crash, queueing, pauses and the loading of models are in none of the three.
    `finished_at` and `total_seconds` (start to end, without pauses) are set when the job has succeeded: what later
    estimates are made of, with `cost_tokens`, the tokens the whole run is worth including its validation.
    """

    job_id: str
    account_id: str
    base: str
    method: str
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    cost_tokens: int = 0
    total_seconds: float | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """How fast a base model trains here, measured on made-up text before a job has shown it. `machine` says where.

    `taken_at` is when a worker began to measure. With `measured_at` set and `token_seconds` 0 it could not be measured.
    `beside_seconds` is what a trainer takes to start and to leave.
    """

    base: str
    taken_at: datetime | None = None
    measured_at: datetime | None = None
    machine: str = ""
    token_seconds: float = 0.0
    step_seconds: float = 0.0
    beside_seconds: float = 0.0


def training_quantity(meter: Meter, work: Work) -> int:
    """Begun quarters of active hours, or tokens."""
    return begun(work.seconds, QUARTER_SECONDS) if meter is Meter.TRAINING_HOURS else work.tokens


def begun(seconds: float, length: int) -> int:
    """How many intervals of `length` seconds have begun after so many seconds; microseconds decide nothing."""
    micros = round(seconds * 1_000_000)
    return max(0, -(-micros // (length * 1_000_000)))


# --- hosting ----------------------------------------------------------------------------------------------------------


def hosting_meter(sku_name: str, *, tuned: bool) -> Meter | None:
    """What an hour of a deployment is counted with; None where only tokens are paid."""
    if sku_name in PROVISIONED_SKUS:
        return Meter.PROVISIONED_HOURS
    return Meter.HOSTING_HOURS if tuned and sku_name != DEVELOPER else None


def hourly(prices: Prices, sku_name: str, capacity: int, *, tuned: bool) -> Decimal:
    """What an hour of a deployment costs, whether or not anybody uses it."""
    meter = hosting_meter(sku_name, tuned=tuned)
    if meter is None:
        return ZERO
    return prices.of(meter) * (capacity if meter is Meter.PROVISIONED_HOURS else 1)


@dataclass(frozen=True, slots=True)
class Hosting:
    """A stretch of time in which a deployment stood ready under one SKU and capacity. `hours` were charged so far.

    `account` is the account's id: what is still to be charged outlives the account.
    """

    id: str
    account: str
    deployment: str
    model: str
    sku_name: str
    capacity: int
    tuned: bool
    started_at: datetime
    ended_at: datetime | None = None
    hours: int = 0

    @property
    def meter(self) -> Meter | None:
        """Provisioned throughput is paid by unit and hour, a fine-tuned model by the hour. None: by tokens alone, as a
        base model and the developer tier are."""
        return hosting_meter(self.sku_name, tuned=self.tuned)

    @property
    def units(self) -> int:
        """What one hour counts for."""
        return self.capacity if self.meter is Meter.PROVISIONED_HOURS else 1

    def begun_hours(self, now: datetime) -> int:
        """Each begun hour is a whole one; an hour begins the moment the one before has ended."""
        end = now if self.ended_at is None else min(self.ended_at, now)
        return max(1, begun((end - self.started_at).total_seconds(), HOUR_SECONDS))


def hosting_of(deployment: Deployment, now: datetime) -> Hosting | None:
    """The stretch that begins now; None while nothing is paid by the hour.

    Deployments that are being made, have failed or are going cost nothing; a paused one keeps its place and pays."""
    if deployment.state is not ProvisioningState.SUCCEEDED:
        return None
    made = Hosting(
        id=f"{deployment.account_id}/{deployment.name.lower()}/{now.astimezone(UTC):%Y%m%dT%H%M%S.%f}",
        account=deployment.account_id,
        deployment=deployment.name,
        model=deployment.catalogue_name,
        sku_name=deployment.sku_name,
        capacity=deployment.capacity,
        tuned=deployment.checkpoint_id is not None,
        started_at=now,
    )
    return None if made.meter is None else made


def goes_on(hosting: Hosting, wanted: Hosting | None) -> bool:
    """Whether `wanted` is paid as `hosting` is, so that the hour that has begun is not begun again."""
    return wanted is not None and (hosting.model, hosting.meter, hosting.units) == (
        wanted.model,
        wanted.meter,
        wanted.units,
    )


def pays_tokens(sku_name: str) -> bool:
    """Whoever pays for throughput by the hour has paid for its tokens."""
    return sku_name not in PROVISIONED_SKUS


# --- budgets ----------------------------------------------------------------------------------------------------------


class Period(StrEnum):
    DAY = "day"
    MONTH = "month"
    YEAR = "year"


def period_start(period: Period, now: datetime) -> datetime:
    """In UTC, as everything that is billed."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period is Period.DAY:
        return today
    return today.replace(day=1) if period is Period.MONTH else today.replace(month=1, day=1)


def period_end(period: Period, now: datetime) -> datetime:
    """The start of the next one."""
    start = period_start(period, now)
    far = {Period.DAY: timedelta(days=1), Period.MONTH: timedelta(days=32), Period.YEAR: timedelta(days=367)}
    return period_start(period, start + far[period])


class BudgetAction(StrEnum):
    """STOP_JOBS refuses new fine-tuning jobs; RETIRE_DEPLOYMENTS deletes the account's deployments and refuses new
    ones (their models stay)."""

    STOP_JOBS = "stop_jobs"
    RETIRE_DEPLOYMENTS = "retire_deployments"


@dataclass(frozen=True, slots=True)
class Budget:
    """`warned` is the highest of WARN_AT the operator was told of in the period that began at `warned_since`."""

    account_id: str
    amount: Decimal
    period: Period
    stop_jobs: bool
    retire_deployments: bool
    updated_at: datetime
    warned: int = 0
    warned_since: datetime | None = None

    @property
    def actions(self) -> list[BudgetAction]:
        chosen = ((self.stop_jobs, BudgetAction.STOP_JOBS), (self.retire_deployments, BudgetAction.RETIRE_DEPLOYMENTS))
        return [action for on, action in chosen if on]


@dataclass(frozen=True, slots=True)
class BudgetState:
    """How a budget stands in the period from `start` to `end`. `reached` is the highest of WARN_AT passed, or 0."""

    budget: Budget
    start: datetime
    end: datetime
    spent: Decimal

    @property
    def exceeded(self) -> bool:
        return self.spent >= self.budget.amount

    @property
    def reached(self) -> int:
        return max((p for p in WARN_AT if self.spent * 100 >= self.budget.amount * p), default=0)
