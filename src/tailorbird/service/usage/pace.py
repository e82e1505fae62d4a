"""How fast a base model trains here: seconds of a token and of a step, fitted to what runs took or to a calibration."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tailorbird.domain.pricing import Calibration, Work

STEP_TOKENS = 64
"""What a step costs beside its tokens, in tokens, until runs of different shapes tell (`training/batches.py` has the
measurement of a pass)."""
_PRIOR = 0.02
_GUESSED_RATE = 1_000.0
"""Tokens a second of a base nobody has measured."""
_START_SECONDS = 10.0
"""Loading, checkpoints, proof and screening together, on a machine nobody has measured."""
_PROVE_SECONDS, _SCREEN_SECONDS = 2.0, 8.0
"""Validation, proof and registration; screening of data and model. Until a job has shown them (weaver, two cores)."""
_MEASURED_DOUBT, _CALIBRATED_DOUBT, _GUESSED_DOUBT = 1.25, 1.5, 2.0


class Source(StrEnum):
    """What times are made of."""

    JOBS = "jobs"
    CALIBRATION = "calibration"
    CATALOGUE = "catalogue"


@dataclass(frozen=True, slots=True)
class Range:
    low: float
    likely: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.likely + other.likely, self.high + other.high)


def within(likely: float, doubt: float) -> Range:
    return Range(likely / doubt, likely, likely * doubt)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of a token and of a step; what runs took that it was taken from, as multiples of what it says of them.

    `beside` is what a job takes from when a worker takes it up to its end, beside the active seconds of its training.
    """

    source: Source
    token: float
    step: float
    low: float
    high: float
    beside: Range

    def training(self, cost_tokens: int, steps: int) -> Range:
        likely = self.token * cost_tokens + self.step * steps
        return Range(likely * self.low, likely, likely * self.high)


def usable(runs: Sequence[Work]) -> list[Work]:
    return [run for run in runs if run.cost_tokens and run.seconds > 0]


def pace_of_runs(runs: Sequence[Work]) -> Pace:
    """`runs` are usable, and at least one."""
    token, step = fitted(runs)
    seen = [run.seconds / (token * run.cost_tokens + step * run.steps) for run in runs]
    rests = [max(0.0, run.total_seconds - run.seconds) for run in runs if run.total_seconds is not None]
    beside = Range(min(rests), statistics.median(rests), max(rests)) if rests else Range(0, 0, 0)
    return Pace(Source.JOBS, token, step, min(1 / _MEASURED_DOUBT, *seen), max(_MEASURED_DOUBT, *seen), beside)


def pace_of_calibration(measured: Calibration, *, screened: bool) -> Pace:
    rest = measured.beside_seconds + _PROVE_SECONDS + (_SCREEN_SECONDS if screened else 0.0)
    low, high = 1 / _CALIBRATED_DOUBT, _CALIBRATED_DOUBT
    beside = within(rest, _GUESSED_DOUBT)
    return Pace(Source.CALIBRATION, measured.token_seconds, measured.step_seconds, low, high, beside)


def pace_of_catalogue(tokens_per_second: float | None) -> Pace:
    token, beside = 1 / (tokens_per_second or _GUESSED_RATE), within(_START_SECONDS, _GUESSED_DOUBT)
    return Pace(Source.CATALOGUE, token, token * STEP_TOKENS, 1 / _GUESSED_DOUBT, _GUESSED_DOUBT, beside)


def fitted(runs: Sequence[Work]) -> tuple[float, float]:
    """Seconds of a token and of a step, by least squares of the relative errors; `runs` as for `pace_of_runs`.

    Runs that were all alike do not tell tokens from steps, so a faint prior holds the two at their usual ratio."""
    rows = [(run.cost_tokens / run.seconds, run.steps / run.seconds) for run in runs]
    prior = _PRIOR * statistics.mean(steps * steps for _, steps in rows)
    tt = sum(tokens * tokens for tokens, _ in rows) + prior * STEP_TOKENS**2
    ts = sum(tokens * steps for tokens, steps in rows) - prior * STEP_TOKENS
    ss = sum(steps * steps for _, steps in rows) + prior
    t, s = sum(tokens for tokens, _ in rows), sum(steps for _, steps in rows)
    determinant = tt * ss - ts * ts
    token, step = (t * ss - s * ts) / determinant, (s * tt - t * ts) / determinant
    if token <= 0 or step < 0:
        worth = [tokens + steps * STEP_TOKENS for tokens, steps in rows]
        token = sum(worth) / sum(value * value for value in worth)
        step = token * STEP_TOKENS
    return token, step
