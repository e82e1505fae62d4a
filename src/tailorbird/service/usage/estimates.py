"""What a job would take and cost before it is made: tokens by the one renderer, time by what earlier jobs took."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from tailorbird.dataset.render import RenderError
from tailorbird.dataset.validate import Problem, read_records
from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.files import File
from tailorbird.domain.jobs import Hyperparameters, Job, resolve
from tailorbird.domain.pricing import QUARTER_SECONDS, Meter, PriceList, Work, amount_of, begun
from tailorbird.service.intake import NewJob
from tailorbird.service.models import Catalogue
from tailorbird.service.ports import Blobs, Session, Store
from tailorbird.service.usage.prefixes import SAMPLE, distinct_share
from tailorbird.service.validation import sequences

_EXACT_BYTES = 32 * 1024 * 1024
"""Longer files are counted up to here and the rest is taken to be like it."""
_LAST_RUNS = 9
_FORWARD = 1 / 3
"""What a validation token costs next to a trained one: one pass forward instead of a pass forward and one back."""
_STEP_TOKENS = 64
"""What a step costs beside its tokens, in tokens, until runs of different shapes tell (`training/batches.py` has the
measurement of a pass)."""
_PRIOR = 0.02
_GUESSED_RATE = 1_000.0
"""Tokens a second of a base nobody has measured."""
_START_SECONDS = 10.0
"""Loading, checkpoints, proof and screening together, before the first job has shown what they take here."""
_MEASURED_DOUBT, _GUESSED_DOUBT = 1.25, 2.0


@dataclass(frozen=True, slots=True)
class Range:
    low: float
    likely: float
    high: float


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
    """`training` are the active seconds that hours are billed by; `total` goes from the start of the job to its end.

    `exact` says whether every line was counted. `measured_runs` is how many finished jobs the times were taken from.
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
    measured_runs: int
    cost: Cost


class Estimator:
    """`draft` makes a job of what is asked, with all its checks, and writes nothing."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        catalogue: Catalogue,
        draft: Callable[[str, NewJob], Job],
        prices: PriceList,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._catalogue = catalogue
        self._draft = draft
        self._prices = prices

    def estimate(self, account_id: str, new: NewJob) -> Estimate:
        """Raises what creating the job would raise, and InvalidRequest with the line that would fail it."""
        job = self._draft(account_id, new)
        with self._store.begin() as tx:
            training = tx.files.kept(account_id, job.training_file)
            valid_bytes = _bytes(tx, job.account_id, job.validation_file)
            runs = tx.work.finished(job.base, job.method.value, _LAST_RUNS)
        if training is None:
            raise InvalidRequest(f"The file {job.training_file!r} was deleted.", param="training_file")
        counted = self._count(job, training)
        base = self._catalogue.base(job.base)
        chosen = resolve(job.asked, counted.examples, base.auto, job.method)
        epochs, batch = chosen.n_epochs or 1, chosen.batch_size or 1
        steps = math.ceil(counted.examples / batch) * epochs
        trained = counted.tokens * epochs
        cost_tokens = _worth(counted.tokens, epochs, training.bytes, valid_bytes, distinct_share(counted.sample, batch))
        seconds, total = _times(cost_tokens, steps, base.train_tokens_per_second, runs)
        return Estimate(
            job=job,
            hyperparameters=chosen,
            examples=counted.examples,
            epoch_tokens=counted.tokens,
            trained_tokens=trained,
            steps=steps,
            exact=counted.exact,
            training=seconds,
            total=total,
            measured_runs=len(runs),
            cost=self._cost(job.model, trained, seconds),
        )

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
        sample: list[list[list[int]]] = []
        for item in read_records(self._chunks(file)):
            if isinstance(item, Problem):
                # A file that is not read to its end is cut off in the middle of a line.
                if exact:
                    raise InvalidRequest(str(item), param="training_file")
                continue
            line, record = item
            try:
                made = sequences(renderer, record)
            except RenderError as error:
                raise InvalidRequest(f"Line {line}: {error}", param="training_file") from error
            lengths = [len(ids) for ids in made]
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

    def _chunks(self, file: File) -> Iterator[bytes]:
        read = 0
        for chunk in self._blobs.read(file.blob_key):
            yield chunk[: _EXACT_BYTES - read]
            read += len(chunk)
            if read >= _EXACT_BYTES:
                return


@dataclass(frozen=True, slots=True)
class _Counted:
    examples: int
    tokens: int
    exact: bool
    sample: list[list[list[int]]]


def _worth(epoch_tokens: int, epochs: int, training_bytes: int, valid_bytes: int, share: float) -> int:
    """A run's computation in trained tokens: its own, and those of a validation batch beside each step and of the whole
    validation file at each epoch's end; `share` of them are computed. Estimates and measurements both use it."""
    trained = epoch_tokens * epochs
    checked = 0.0
    if valid_bytes and training_bytes:
        whole_file = epoch_tokens * valid_bytes / training_bytes
        checked = trained + whole_file * epochs
    return round((trained + checked * _FORWARD) * share)


def _worth_of(tx: Session, job: Job, share: float) -> int | None:
    """The same of a job that has been trained; None when its files are gone."""
    training = _bytes(tx, job.account_id, job.training_file)
    if not training or job.epoch_tokens is None or job.resolved is None:
        return None
    valid = _bytes(tx, job.account_id, job.validation_file)
    return _worth(job.epoch_tokens, job.resolved.n_epochs or 1, training, valid, share)


def remember(tx: Session, job: Job, share: float, now: datetime) -> None:
    """Keeps what a job that has just succeeded took, for the estimates of others; `share` of its tokens counts."""
    work = tx.work.get(job.id)
    if work is not None and (cost := _worth_of(tx, job, share)):
        total = job.running_time(now).total_seconds()
        tx.work.put(dataclasses.replace(work, cost_tokens=cost, total_seconds=total, finished_at=now))


def _bytes(tx: Session, account_id: str, file_id: str | None) -> int:
    found = None if file_id is None else tx.files.kept(account_id, file_id)
    return 0 if found is None else found.bytes


@dataclass(frozen=True, slots=True)
class _Pace:
    """Seconds of a token and of a step; what runs took that it was taken from, as multiples of what it says of them."""

    token: float
    step: float
    low: float
    high: float

    def of(self, cost_tokens: int, steps: int) -> float:
        return self.token * cost_tokens + self.step * steps


def _pace(runs: Sequence[Work]) -> _Pace:
    """Least squares of the relative errors. Runs that were all alike do not tell tokens from steps, so a faint prior
    holds the two at their usual ratio."""
    rows = [(run.cost_tokens / run.seconds, run.steps / run.seconds) for run in runs]
    prior = _PRIOR * statistics.mean(steps * steps for _, steps in rows)
    tt = sum(tokens * tokens for tokens, _ in rows) + prior * _STEP_TOKENS**2
    ts = sum(tokens * steps for tokens, steps in rows) - prior * _STEP_TOKENS
    ss = sum(steps * steps for _, steps in rows) + prior
    t, s = sum(tokens for tokens, _ in rows), sum(steps for _, steps in rows)
    determinant = tt * ss - ts * ts
    token, step = (t * ss - s * ts) / determinant, (s * tt - t * ts) / determinant
    if token <= 0 or step < 0:
        worth = [tokens + steps * _STEP_TOKENS for tokens, steps in rows]
        token = sum(worth) / sum(value * value for value in worth)
        step = token * _STEP_TOKENS
    seen = [1 / (token * tokens + step * steps) for tokens, steps in rows]
    return _Pace(token, step, min(1 / _MEASURED_DOUBT, *seen), max(_MEASURED_DOUBT, *seen))


def _times(cost_tokens: int, steps: int, catalogue_rate: float | None, runs: Sequence[Work]) -> tuple[Range, Range]:
    """Active and total seconds."""
    usable = [run for run in runs if run.cost_tokens and run.seconds > 0]
    if usable:
        pace = _pace(usable)
        rests = [max(0.0, run.total_seconds - run.seconds) for run in usable if run.total_seconds is not None]
        beside = Range(min(rests), statistics.median(rests), max(rests)) if rests else Range(0, 0, 0)
    else:
        token = 1 / (catalogue_rate or _GUESSED_RATE)
        pace = _Pace(token, token * _STEP_TOKENS, 1 / _GUESSED_DOUBT, _GUESSED_DOUBT)
        beside = Range(_START_SECONDS / _GUESSED_DOUBT, _START_SECONDS, _START_SECONDS * _GUESSED_DOUBT)
    likely = pace.of(cost_tokens, steps)
    training = Range(likely * pace.low, likely, likely * pace.high)
    return training, Range(training.low + beside.low, likely + beside.likely, training.high + beside.high)
