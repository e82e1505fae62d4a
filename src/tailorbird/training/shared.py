"""The losses of both methods over prefix trees: what the examples of a batch begin with alike is computed once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailorbird.training.batches import Example, Pair
from tailorbird.training.decoder.family import Decoder
from tailorbird.training.decoder.passes import Predictions, Sweep
from tailorbird.training.decoder.tree import Forest, grow
from tailorbird.training.losses import Score
from tailorbird.training.memory import until_it_fits
from tailorbird.training.preferences import PreferenceScore
from tailorbird.training.throughput import Work

log = logging.getLogger(__name__)

ScoreT = TypeVar("ScoreT")
_LEAST_LIMIT = 16


class Shared:
    """A model's scores and gradients over forests, in passes of at most `limit` tokens.

    When memory runs out in the middle of a batch, the batch starts over with half the limit, and at last with layers
    computed twice; its gradient is the same.
    """

    def __init__(self, decoder: Decoder, parameters: Sequence[torch.nn.Parameter], *, limit: int) -> None:
        self.decoder = decoder
        self.limit = limit
        self.recompute = False
        self.work = Work()
        self._parameters = list(parameters)

    def accumulate(self, examples: Sequence[Example]) -> Score:
        """Sets the trained parameters' gradients to those of the mean loss and returns the batch's score."""
        began = time.perf_counter()
        forest = grow(examples)
        shares = _per_target(forest, forest.weight / forest.weight.sum()).to(self.decoder.device)

        def whole() -> Score:
            self._forget_gradients()
            return _score(forest, self._sweep(forest, lambda numbers: shares[numbers]))

        score = self._sturdy(whole)
        self._count(forest, len(examples), began)
        return score

    def evaluate(self, examples: Sequence[Example]) -> Score:
        """The score of `examples` with no gradient, over one forest of all."""
        forest = grow(examples)
        return self._sturdy(lambda: _score(forest, self._sweep(forest)))

    def accumulate_pairs(self, pairs: Sequence[Pair], *, beta: float) -> PreferenceScore:
        """Sets the trained parameters' gradients to those of the mean loss and returns the batch's score."""
        began = time.perf_counter()
        forests: list[Forest] = []

        def whole() -> PreferenceScore:
            self._forget_gradients()
            forests.clear()
            score = PreferenceScore()
            for group, forest in self._groups(pairs):
                forests.append(forest)
                known = Predictions.of(forest.count, self.decoder.device)
                shares = _PairShares(group, forest, beta, len(pairs), known)
                # One pass: a pair's gradient is known when both of its sides are.
                Sweep(self.decoder, forest, forest.tokens, shares, self.recompute, known).run()
                score += _pair_score(group, forest, known, beta)
            return score

        score = self._sturdy(whole)
        for forest in forests:
            self._count(forest, 0, began)
            began = time.perf_counter()
        self.work.examples += len(pairs)
        return score

    def evaluate_pairs(self, pairs: Sequence[Pair], *, beta: float) -> PreferenceScore:
        """The score of `pairs` with no gradient."""
        forest = grow(_sides(pairs))
        return self._sturdy(lambda: _pair_score(pairs, forest, self._sweep(forest), beta))

    def logprobs(self, pairs: Sequence[Pair]) -> list[tuple[float, float]]:
        """The summed log-probabilities of each pair's preferred and other output, in nats."""
        forest = grow(_sides(pairs))
        sums = self._sturdy(lambda: _side_sums(pairs, forest, self._sweep(forest)))
        return [(float(preferred), float(other)) for preferred, other in sums]

    def _sweep(self, forest: Forest, coefficients: Callable[[Tensor], Tensor] | None = None) -> Predictions:
        known = Predictions.of(forest.count, self.decoder.device)
        Sweep(self.decoder, forest, self.limit, coefficients, self.recompute, known).run()
        return known

    def _groups(self, pairs: Sequence[Pair]) -> Generator[tuple[Sequence[Pair], Forest]]:
        """Pairs with prompts alike side by side, halved until a group's forest is within the limit."""
        forest = grow(_sides(pairs))
        if forest.tokens <= self.limit or len(pairs) == 1:
            yield pairs, forest
            return
        ordered = sorted(pairs, key=lambda pair: (pair.preferred.token_ids, pair.line))
        for half in (ordered[: len(ordered) // 2], ordered[len(ordered) // 2 :]):
            yield from self._groups(half)

    def _sturdy(self, compute: Callable[[], ScoreT]) -> ScoreT:
        return until_it_fits(compute, self._tighten)

    def _forget_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    def _tighten(self) -> bool:
        if self.limit > _LEAST_LIMIT:
            self.limit //= 2
        elif self.recompute:
            return False
        else:
            self.recompute = True
        self.work.cuts += 1
        log.warning("out of memory: going on with passes of %d tokens, recompute=%s", self.limit, self.recompute)
        return True

    def _count(self, forest: Forest, examples: int, began: float) -> None:
        work = self.work
        work.examples += examples
        work.targets += len(forest.target)
        work.given_tokens += forest.given_tokens
        work.tokens += forest.tokens
        work.operations += self.decoder.operations(forest)
        work.seconds += time.perf_counter() - began


class _PairShares:
    """The gradient of the mean loss of pairs by minus the log-probability of each of their tokens."""

    def __init__(self, pairs: Sequence[Pair], forest: Forest, beta: float, total: int, known: Predictions) -> None:
        self._pairs, self._forest, self._beta, self._total, self._known = pairs, forest, beta, total, known
        self._shares: Tensor | None = None

    def __call__(self, numbers: Tensor) -> Tensor:
        if self._shares is None:
            margins = _margins(self._pairs, self._forest, self._known, self._beta)
            pull = (
                self._beta / (1 + np.exp(margins)) / self._total
            )  # of the preferred side; the other's is the opposite
            by_side = np.stack((pull, -pull), axis=1).reshape(-1)
            shares = self._forest.weight * by_side[self._forest.owner]
            self._shares = _per_target(self._forest, shares).to(self._known.logprobs.device)
        return self._shares[numbers]


def _sides(pairs: Sequence[Pair]) -> list[Example]:
    """Example 2i is the preferred side of pair i, example 2i + 1 the other."""
    return [side for pair in pairs for side in pair.sides]


def _per_target(forest: Forest, values: NDArray[np.float64]) -> Tensor:
    """Sums [count] over the examples' trained tokens of each prediction."""
    return torch.from_numpy(np.bincount(forest.target, weights=values, minlength=forest.count)).float()


def _score(forest: Forest, known: Predictions) -> Score:
    weight = forest.weight
    logprobs, correct = known.logprobs.double().cpu().numpy(), known.correct.cpu().numpy()
    nll = -(logprobs[forest.target] * weight).sum()
    return Score(float(nll), float((correct[forest.target] * weight).sum()), float(weight.sum()))


def _side_sums(pairs: Sequence[Pair], forest: Forest, known: Predictions) -> NDArray[np.float64]:
    """Weighted sums of log-probabilities [pairs, 2]."""
    logprobs = known.logprobs.double().cpu().numpy()[forest.target] * forest.weight
    sums = np.bincount(forest.owner, weights=logprobs, minlength=2 * len(pairs))
    return sums.astype(np.float64).reshape(-1, 2)


def _margins(pairs: Sequence[Pair], forest: Forest, known: Predictions, beta: float) -> NDArray[np.float64]:
    gains = _side_sums(pairs, forest, known) - np.asarray([pair.reference for pair in pairs])
    return beta * (gains[:, 0] - gains[:, 1])


def _pair_score(pairs: Sequence[Pair], forest: Forest, known: Predictions, beta: float) -> PreferenceScore:
    margins = _margins(pairs, forest, known, beta)
    preferred = forest.weight * (forest.owner % 2 == 0)
    correct = known.correct.cpu().numpy()[forest.target]
    return PreferenceScore(
        nll=float(np.logaddexp(0.0, -margins).sum()),
        right=float((margins > 0).sum()),
        margin=float(margins.sum()),
        pairs=len(pairs),
        correct=float((correct * preferred).sum()),
        weight=float(preferred.sum()),
    )
