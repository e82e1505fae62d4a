"""One batch computed by several processes: each gets a part of its samples, and the gradients are added up exactly.

The first process sends an order with each process's samples, and the adapter's values where they have changed; all
compute; gradients, weighted by the share of the trained tokens that each process had, and scores come back to it. It
alone takes the optimizer's step. So all train from the same numbers, and it alone has anything to save.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import chain, pairwise
from typing import Any, Literal, TypeVar

import torch

from tailorbird.training.batches import Example, Pair, SampleT
from tailorbird.training.losses import Score
from tailorbird.training.methods import Trained
from tailorbird.training.preferences import PreferenceScore
from tailorbird.training.ranks import Ranks
from tailorbird.training.shared import Shared
from tailorbird.training.stock import Stock
from tailorbird.training.throughput import Work

ScoreT = TypeVar("ScoreT", Score, PreferenceScore)


@dataclass(frozen=True, slots=True)
class Order:
    """What a process is to do with its `samples`. `share`: of the whole batch, what its gradient counts."""

    what: Literal["accumulate", "evaluate", "accumulate_pairs", "evaluate_pairs", "logprobs", "cut", "work", "leave"]
    samples: Sequence[Any] = ()
    share: float = 0.0
    beta: float = 0.0
    fresh: bool = False  # the adapter's values follow
    limit: int = 0
    recompute: bool = False


class Split(Trained):
    """A `Trained` over all processes, for the first of them; the others `serve`."""

    def __init__(self, own: Shared | Stock, parameters: Sequence[torch.nn.Parameter], ranks: Ranks) -> None:
        self._hand = _Hand(own, list(parameters), ranks)
        self._ranks = ranks
        self._known = False  # whether the others have the adapter as it is

    def accumulate(self, examples: Sequence[Example]) -> Score:
        self._known = False
        score = self._score("accumulate", cut_evenly(examples, self._ranks.size), _weight, 0.0, Score)
        self._known = False  # the optimizer's step comes next
        return score

    def evaluate(self, examples: Sequence[Example]) -> Score:
        return self._score("evaluate", cut_evenly(examples, self._ranks.size), _weight, 0.0, Score)

    def accumulate_pairs(self, pairs: Sequence[Pair], *, beta: float) -> PreferenceScore:
        self._known = False
        parts = cut_evenly(pairs, self._ranks.size)
        score = self._score("accumulate_pairs", parts, len, beta, PreferenceScore)
        self._known = False
        return score

    def evaluate_pairs(self, pairs: Sequence[Pair], *, beta: float) -> PreferenceScore:
        return self._score("evaluate_pairs", cut_evenly(pairs, self._ranks.size), len, beta, PreferenceScore)

    def logprobs(self, pairs: Sequence[Pair]) -> list[tuple[float, float]]:
        parts = cut_evenly(pairs, self._ranks.size)
        found = self._ranks.collect(self._hand.obey(self._give("logprobs", parts)))
        of_parts = zip(chain(*parts), chain(*found), strict=True)
        known = {id(pair): both for pair, both in of_parts}
        return [known[id(pair)] for pair in pairs]

    @property
    def processes(self) -> int:
        return self._ranks.size

    def cut(self) -> None:
        """Lets the others cut their work as the first process does."""
        own = self._hand.own
        recompute = isinstance(own, Shared) and own.recompute
        self._ranks.deal([Order("cut", limit=own.limit, recompute=recompute)] * self._ranks.size)

    def work(self) -> Work:
        """Of all; the seconds are those of the one that took longest."""
        self._ranks.deal([Order("work")] * self._ranks.size)
        return reduce(Work.beside, self._ranks.collect(self._hand.own.work))

    def _score(
        self,
        what: Literal["accumulate", "evaluate", "accumulate_pairs", "evaluate_pairs"],
        parts: Sequence[Sequence[Any]],
        weigh: Callable[[Sequence[Any]], float],
        beta: float,
        kind: type[ScoreT],
    ) -> ScoreT:
        return kind(*self._hand.obey(self._give(what, parts, weigh, beta)))

    def _give(
        self,
        what: Literal["accumulate", "evaluate", "accumulate_pairs", "evaluate_pairs", "logprobs"],
        parts: Sequence[Sequence[Any]],
        weigh: Callable[[Sequence[Any]], float] = len,
        beta: float = 0.0,
    ) -> Order:
        whole = sum(weigh(part) for part in parts)
        fresh, self._known = not self._known, True
        return self._ranks.deal([Order(what, part, weigh(part) / whole, beta, fresh) for part in parts])


def serve(own: Shared | Stock, parameters: Sequence[torch.nn.Parameter], ranks: Ranks) -> None:
    """Computes what the first process orders, until it says that this is all."""
    hand = _Hand(own, list(parameters), ranks)
    while (order := ranks.deal(None)).what != "leave":
        answer = hand.obey(order)
        if order.what in ("logprobs", "work"):
            ranks.collect(answer)


def dismiss(ranks: Ranks) -> None:
    """Lets the others go; the first process calls it when nothing is under way."""
    if ranks.size > 1:
        ranks.deal([Order("leave")] * ranks.size)


class _Hand:
    """What each process does with an order, the first one included."""

    def __init__(self, own: Shared | Stock, parameters: list[torch.nn.Parameter], ranks: Ranks) -> None:
        self.own = own
        self._parameters = parameters
        self._ranks = ranks

    def obey(self, order: Order) -> Any:
        if order.what == "work":
            return self.own.work
        if order.what == "cut":
            self.own.limit = order.limit
            if isinstance(self.own, Shared):
                self.own.recompute = order.recompute
            return None
        if order.fresh:
            self._renew()
        own, samples = self.own, order.samples
        match order.what:
            case "accumulate":
                return self._summed(partial(own.accumulate, samples), order, Score(), gradients=True)
            case "evaluate":
                return self._summed(partial(own.evaluate, samples), order, Score())
            case "accumulate_pairs":
                compute = partial(own.accumulate_pairs, samples, beta=order.beta)
                return self._summed(compute, order, PreferenceScore(), gradients=True)
            case "evaluate_pairs":
                return self._summed(partial(own.evaluate_pairs, samples, beta=order.beta), order, PreferenceScore())
            case "logprobs":
                return own.logprobs(samples) if samples else []
            case "leave":
                return None

    def _summed(
        self, compute: Callable[[], ScoreT], order: Order, nothing: ScoreT, *, gradients: bool = False
    ) -> list[float]:
        """The figures of the whole batch in the first process; the gradients are in its parameters then."""
        for parameter in self._parameters:
            parameter.grad = None
        score = compute() if order.samples else nothing
        figures = torch.tensor(list(dataclasses.astuple(score)), dtype=torch.float64)
        self._ranks.add_up(figures)
        if gradients:
            self._add_gradients(order.share)
        return figures.tolist()

    @torch.no_grad()
    def _add_gradients(self, share: float) -> None:
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]
        flat = torch.cat([part.flatten() for part in parts]).mul_(share)
        self._ranks.add_up(flat)
        for parameter, part in zip(self._parameters, flat.split([p.numel() for p in parts]), strict=True):
            parameter.grad = part.view_as(parameter) if self._ranks.first else None

    @torch.no_grad()
    def _renew(self) -> None:
        flat = torch.cat([parameter.detach().flatten() for parameter in self._parameters])
        self._ranks.copy(flat)
        for parameter, part in zip(self._parameters, flat.split([p.numel() for p in self._parameters]), strict=True):
            parameter.copy_(part.view_as(parameter))


def cut_evenly(samples: Sequence[SampleT], size: int) -> list[list[SampleT]]:
    """`size` parts of about the same number of tokens to compute; samples that begin alike stay side by side."""
    ordered = sorted(samples, key=lambda sample: (sample.beginning, sample.line))
    shared = [0, *(_common(a.beginning, b.beginning) for a, b in pairwise(ordered))]
    costs = [max(1, sample.length - known) for sample, known in zip(ordered, shared, strict=False)]
    parts: list[list[SampleT]] = [[] for _ in range(size)]
    whole, before = sum(costs), 0
    for sample, cost in zip(ordered, costs, strict=True):
        parts[min(size - 1, int((before + cost / 2) * size / whole))].append(sample)
        before += cost
    return parts


def _common(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """How many first tokens are the same; whole stretches are compared at once."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if left[:middle] == right[:middle] else (low, middle - 1)
    return low


def _weight(examples: Sequence[Example]) -> float:
    return sum(weight for example in examples for weight in example.weights)
