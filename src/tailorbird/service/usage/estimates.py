"""What a job would take and cost before it is made: tokens by the one renderer, time by what was measured here."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from tailorbird.dataset.render import Rendered, RenderError
from tailorbird.dataset.validate import Problem, beginning, read_records
from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.files import File
from tailorbird.domain.jobs import EventKind, Hyperparameters, Job, resolve
from tailorbird.domain.models import BaseModel
from tailorbird.domain.pricing import QUARTER_SECONDS, Calibration, Meter, PriceList, amount_of, begun
from tailorbird.service.intake import NewJob
from tailorbird.service.models import Catalogue
from tailorbird.service.ports import Blobs, Session, Store
from tailorbird.service.usage.pace import (
    Pace,
    Range,
    Source,
    pace_of_calibration,
    pace_of_catalogue,
    pace_of_runs,
    usable,
)
from tailorbird.service.usage.prefixes import SAMPLE, cost_share

_EXACT_BYTES = 32 * 1024 * 1024
"""Longer files are counted up to here and the rest is taken to be like it."""
_LAST_RUNS = 9
_FORWARD = 1 / 3
"""What a validation token costs next to a trained one: one pass forward instead of a pass forward and one back."""
_LOOK_SECONDS, _TAKEN_SECONDS, _MEASURED_SECONDS = 0.25, 3.0, 90.0
"""How often an estimate looks whether its base was measured, and how long it waits for a worker to begin and to end."""


@dataclass(frozen=True, slots=True)
class Cost:
    """`quantity` and the amounts are for the likely, the shortest and the longest training."""

    meter: Meter
    quantity: int
    unit_price: Decimal
    amount: Decimal
    low: Decimal
    high: Decimal
    currency: str
    price_list: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """`training` are the active seconds that hours are billed by; `total` goes from when a worker takes the job up to
    its end: validation, screening and proof included, waiting in the queue not.

    `exact` says whether every line was counted, `source` where times come from, `measured_runs` from how many jobs.
    """

    job: Job
    hyperparameters: Hyperparameters
    examples: int
    epoch_tokens: int
    trained_tokens: int
    steps: int
    exact: bool
    training: Range
    total: Range
    source: Source
    measured_runs: int
    cost: Cost


class Estimator:
    """`draft` makes a job of what is asked, with all its checks, and writes nothing.

    `wait` sleeps; with it a base that no job was trained on here is measured first. `screened` says whether there is a
    moderator, whose work takes time as well."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        catalogue: Catalogue,
        draft: Callable[[str, NewJob], Job],
        prices: PriceList,
        *,
        wait: Callable[[float], None] | None = None,
        screened: bool = False,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._catalogue = catalogue
        self._draft = draft
        self._prices = prices
        self._wait = wait
        self._screened = screened

    def estimate(self, account_id: str, new: NewJob) -> Estimate:
        """Raises what creating the job would raise, and InvalidRequest with the line that would fail it."""
        job = self._draft(account_id, new)
        with self._store.begin() as tx:
            training = tx.files.kept(account_id, job.training_file)
            valid_bytes = _bytes(tx, job.account_id, job.validation_file)
            runs = usable(tx.work.finished(job.base, job.method.value, _LAST_RUNS))
        if training is None:
            raise InvalidRequest(f"The file {job.training_file!r} was deleted.", param="training_file")
        counted = self._count(job, training)
        base = self._catalogue.base(job.base)
        chosen = resolve(job.asked, counted.examples, base.auto, job.method)
        epochs, batch = chosen.n_epochs or 1, chosen.batch_size or 1
        steps = math.ceil(counted.examples / batch) * epochs
        trained = counted.tokens * epochs
        cost_tokens = _worth(counted.tokens, epochs, training.bytes, valid_bytes, cost_share(counted.sample, batch))
        pace = pace_of_runs(runs) if runs else self._unproved_pace(base)
        seconds = pace.training(cost_tokens, steps)
        return Estimate(
            job=job,
            hyperparameters=chosen,
            examples=counted.examples,
            epoch_tokens=counted.tokens,
            trained_tokens=trained,
            steps=steps,
            exact=counted.exact,
            training=seconds,
            total=seconds + pace.beside,
            source=pace.source,
            measured_runs=len(runs),
            cost=self._cost(job.model, trained, seconds),
        )

    def _unproved_pace(self, base: BaseModel) -> Pace:
        """Of a base that no job was trained on here."""
        measured = self._calibration(base.key)
        if measured is None:
            return pace_of_catalogue(base.train_tokens_per_second)
        return pace_of_calibration(measured, screened=self._screened)

    def _calibration(self, base: str) -> Calibration | None:
        """Asks a worker for it and waits where there is one; None when none measures, or none could."""
        waited = 0.0
        while True:
            with self._store.begin() as tx:
                if self._wait is not None and waited == 0:
                    tx.calibrations.ask(base)
                found = tx.calibrations.get(base)
            if found is not None and found.measured_at is not None:
                return found if found.token_seconds > 0 else None
            patience = _MEASURED_SECONDS if found is not None and found.taken_at is not None else _TAKEN_SECONDS
            if self._wait is None or waited >= patience:
                return None
            self._wait(_LOOK_SECONDS)
            waited += _LOOK_SECONDS

    def _cost(self, model: str, trained_tokens: int, seconds: Range) -> Cost:
        prices = self._prices.of(model)
        meter = prices.training_meter
        price = prices.of(meter)

        def quantity(active: float) -> int:
            return begun(active, QUARTER_SECONDS) if meter is Meter.TRAINING_HOURS else trained_tokens

        low, likely, high = (
            amount_of(meter, quantity(active), price) for active in (seconds.low, seconds.likely, seconds.high)
        )
        return Cost(
            meter, quantity(seconds.likely), price, likely, low, high, self._prices.currency, self._prices.version
        )

    def _count(self, job: Job, file: File) -> _Counted:
        """Raises InvalidRequest naming the line that would fail the job."""
        renderer = self._catalogue.renderer(job.base)
        longest = self._catalogue.base(job.base).max_tokens
        exact = file.bytes <= _EXACT_BYTES
        examples = tokens = 0
        sample: list[Sequence[Rendered]] = []
        for item in read_records(beginning(self._blobs.read(file.blob_key), _EXACT_BYTES)):
            if isinstance(item, Problem):
                # A file that is not read to its end is cut off in the middle of a line.
                if exact:
                    raise InvalidRequest(str(item), param="training_file")
                continue
            line, record = item
            try:
                made = renderer.render_record(record)
            except RenderError as error:
                raise InvalidRequest(f"Line {line}: {error}", param="training_file") from error
            lengths = [len(one.token_ids) for one in made]
            if max(lengths) > longest:
                raise InvalidRequest(
                    f"Line {line}: {max(lengths)} tokens; {job.model} takes at most {longest}. Shorten it.",
                    param="training_file",
                )
            examples += 1
            tokens += sum(lengths)
            if len(sample) < SAMPLE:
                sample.append(made)
        if not exact:
            scale = file.bytes / _EXACT_BYTES
            examples, tokens = file.examples or round(examples * scale), round(tokens * scale)
        if examples == 0:
            raise InvalidRequest(f"The file {file.id} has no examples.", param="training_file")
        return _Counted(examples, tokens, exact, sample)


@dataclass(frozen=True, slots=True)
class _Counted:
    examples: int
    tokens: int
    exact: bool
    sample: list[Sequence[Rendered]]


def _worth(epoch_tokens: int, epochs: float, training_bytes: int, valid_bytes: int, share: float) -> int:
    """A run's computation in trained tokens: its own, and those of a validation batch beside each step and of the whole
    validation file at each epoch's end; each is worth `share`. Estimates and measurements both use it."""
    trained = epoch_tokens * epochs
    checked = 0.0
    if valid_bytes and training_bytes:
        whole_file = epoch_tokens * valid_bytes / training_bytes
        checked = trained + whole_file * epochs
    return round((trained + checked * _FORWARD) * share)


def _worth_of(tx: Session, job: Job, share: float) -> int | None:
    """The same of a job that has been trained; None when its files are gone."""
    training = _bytes(tx, job.account_id, job.training_file)
    if not training or not job.epoch_tokens or job.trained_tokens is None or job.resolved is None:
        return None
    valid = _bytes(tx, job.account_id, job.validation_file)
    # A run may have stopped before the epochs it was asked for.
    epochs = min(job.resolved.n_epochs or 1, job.trained_tokens / job.epoch_tokens)
    return _worth(job.epoch_tokens, epochs, training, valid, share)


def remember(tx: Session, job: Job, share: float, now: datetime) -> None:
    """Keeps what a job that has just succeeded took, for the estimates of others; its tokens are worth `share`."""
    work = tx.work.get(job.id)
    if work is not None and (cost := _worth_of(tx, job, share)):
        taken_up = tx.jobs.find_event(job.id, EventKind.VALIDATING.value)
        ready = timedelta() if taken_up is None or job.started_at is None else job.started_at - taken_up.created_at
        total = (ready + job.running_time(now)).total_seconds()
        tx.work.put(dataclasses.replace(work, cost_tokens=cost, total_seconds=total, finished_at=now))


def _bytes(tx: Session, account_id: str, file_id: str | None) -> int:
    found = None if file_id is None else tx.files.kept(account_id, file_id)
    return 0 if found is None else found.bytes
