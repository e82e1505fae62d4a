"""The numbers of a job's steps as curves: in order, thinned for drawing, and whether they tell of over-fitting."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Point = Mapping[str, float]
Pair = list[float]

TRAIN_LOSS, TRAIN_ACCURACY = "train_loss", "train_mean_token_accuracy"
VALID_LOSS, VALID_ACCURACY = "valid_loss", "valid_mean_token_accuracy"
FULL_LOSS, FULL_ACCURACY = "full_valid_loss", "full_valid_mean_token_accuracy"
MEAN_TRAIN_LOSS = "mean_train_loss"
"""Ours: the mean over the steps since the last full validation, what a full validation is to be compared with."""

METRICS = (TRAIN_LOSS, VALID_LOSS, TRAIN_ACCURACY, VALID_ACCURACY, FULL_LOSS, FULL_ACCURACY)
MOST_POINTS = 800
"""More than a chart is pixels wide; a curve that is opened late gets no more of each line."""
# A validation loss this much above its best is more than noise.
_PARTED = 1.03


@dataclass(frozen=True, slots=True)
class Overfitting:
    """The validation loss was `best` at `best_step` and is `last` now, while the training loss went on falling."""

    best_step: int
    best: float
    last: float


@dataclass
class Curves:
    """Points by step; a step that is told again (a job that was resumed) replaces what was known of it."""

    points: list[Point] = field(default_factory=list[Point])
    _steps: list[float] = field(default_factory=list[float])

    def add(self, points: Iterable[Point]) -> list[Point]:
        """Those that were new, in the order they came."""
        new: list[Point] = []
        for point in points:
            step = point["step"]
            place = bisect_left(self._steps, step)
            if place < len(self._steps) and self._steps[place] == step:
                self.points[place] = point
                continue
            self._steps.insert(place, step)
            self.points.insert(place, point)
            new.append(point)
        return new

    def pairs(self, name: str, most: int = MOST_POINTS) -> list[Pair]:
        """`[step, value]` of every step that has this number, at most about `most` of them."""
        if name == MEAN_TRAIN_LOSS:
            return thinned(self._means(), most)
        return thinned(pairs(self.points, name), most)

    @property
    def overfitting(self) -> Overfitting | None:
        """None while there is nothing to say: fewer than two full validations, or losses that fall together."""
        full = pairs(self.points, FULL_LOSS)
        means = self._means()
        if len(full) < 2:
            return None
        best_step, best = min(full, key=lambda pair: pair[1])
        last_step, last = full[-1]
        then, now = _at(means, best_step), _at(means, last_step)
        if last_step == best_step or last < best * _PARTED or then is None or now is None or now >= then:
            return None
        return Overfitting(int(best_step), best, last)

    def _means(self) -> list[Pair]:
        found: list[Pair] = []
        losses: list[float] = []
        for point in self.points:
            if TRAIN_LOSS in point:
                losses.append(point[TRAIN_LOSS])
            if FULL_LOSS in point and losses:
                found.append([point["step"], sum(losses) / len(losses)])
                losses = []
        return found


def pairs(points: Iterable[Point], name: str) -> list[Pair]:
    return [[point["step"], point[name]] for point in points if name in point]


def thinned(line: Sequence[Pair], most: int) -> list[Pair]:
    """Of every stretch its lowest and its highest point, so that no peak is lost; the ends stay."""
    if len(line) <= most:
        return list(line)
    width = -(-2 * len(line) // most)
    kept: list[Pair] = [line[0]]
    for start in range(1, len(line) - 1, width):
        stretch = line[start : min(start + width, len(line) - 1)]
        ends = (min(stretch, key=_value), max(stretch, key=_value))
        kept += sorted({pair[0]: pair for pair in ends}.values(), key=_step)
    return [*kept, line[-1]]


def _step(pair: Pair) -> float:
    return pair[0]


def _value(pair: Pair) -> float:
    return pair[1]


def _at(line: Sequence[Pair], step: float) -> float | None:
    return next((value for at, value in line if at == step), None)
