"""The losses of both methods through a model's own code: documents packed where that is exact, padded elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch

from tailorbird.lm.lora import LoraLinear
from tailorbird.training.batches import Example, Pair
from tailorbird.training.losses import Score, accumulate_gradients, evaluate
from tailorbird.training.memory import until_it_fits
from tailorbird.training.preferences import PreferenceScore, accumulate_pair_gradients, evaluate_pairs, pair_logprobs
from tailorbird.training.throughput import Work

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

ScoreT = TypeVar("ScoreT")
_LEAST_LIMIT = 16


class Stock:
    """A model's scores and gradients in micro-batches of at most `limit` tokens.

    When memory runs out in the middle of a batch, the batch starts over with half the limit; its gradient is the same.
    """

    def __init__(
        self, model: PreTrainedModel, parameters: Sequence[torch.nn.Parameter], *, limit: int, packed: bool
    ) -> None:
        self.model = model
        self.limit = limit
        self.packed = packed
        self.work = Work()
        self._parameters = list(parameters)
        self._frozen, self._adapter = _sizes(model)

    def accumulate(self, examples: Sequence[Example]) -> Score:
        """Sets the trained parameters' gradients to those of the mean loss and returns the batch's score."""

        def whole(limit: int) -> Score:
            return accumulate_gradients(self.model, examples, token_limit=limit, packed=self.packed)

        return self._counted(examples, len(examples), whole)

    def evaluate(self, examples: Sequence[Example]) -> Score:
        """The score of `examples` with no gradient."""
        return self._sturdy(lambda limit: evaluate(self.model, examples, token_limit=limit, packed=self.packed))

    def accumulate_pairs(self, pairs: Sequence[Pair], *, beta: float) -> PreferenceScore:
        """Sets the trained parameters' gradients to those of the mean loss and returns the batch's score."""

        def whole(limit: int) -> PreferenceScore:
            return accumulate_pair_gradients(self.model, pairs, beta=beta, token_limit=limit, packed=self.packed)

        return self._counted([side for pair in pairs for side in pair.sides], len(pairs), whole)

    def evaluate_pairs(self, pairs: Sequence[Pair], *, beta: float) -> PreferenceScore:
        """The score of `pairs` with no gradient."""
        return self._sturdy(
            lambda limit: evaluate_pairs(self.model, pairs, beta=beta, token_limit=limit, packed=self.packed)
        )

    def logprobs(self, pairs: Sequence[Pair]) -> list[tuple[float, float]]:
        """The summed log-probabilities of each pair's preferred and other output, in nats."""
        return self._sturdy(lambda limit: pair_logprobs(self.model, pairs, token_limit=limit, packed=self.packed))

    def _counted(self, examples: Iterable[Example], count: int, compute: Callable[[int], ScoreT]) -> ScoreT:
        began = time.perf_counter()

        def whole(limit: int) -> ScoreT:
            for parameter in self._parameters:
                parameter.grad = None
            return compute(limit)

        score = self._sturdy(whole)
        work = self.work
        lengths = [example.length for example in examples]
        targets = sum(len(example.positions) for example in examples)
        work.examples += count
        work.targets += targets
        work.given_tokens += sum(lengths)
        work.tokens += sum(lengths)
        work.operations += self._operations(lengths, targets)
        work.seconds += time.perf_counter() - began
        return score

    def _operations(self, lengths: Sequence[int], targets: int) -> float:
        """As `Decoder.operations` counts them, of what the config tells."""
        config = cast(Any, self.model.config)
        head = cast(Any, self.model.get_output_embeddings()).weight.numel()
        seen = sum(length * (length + 1) // 2 for length in lengths)
        attention = 12.0 * config.num_hidden_layers * config.hidden_size * seen
        return (4.0 * self._frozen + 6.0 * self._adapter) * sum(lengths) + 4.0 * head * targets + attention

    def _sturdy(self, compute: Callable[[int], ScoreT]) -> ScoreT:
        return until_it_fits(lambda: compute(self.limit), self._tighten)

    def _tighten(self) -> bool:
        if self.limit <= _LEAST_LIMIT:
            return False
        self.limit //= 2
        self.work.cuts += 1
        log.warning("out of memory: going on with micro-batches of %d tokens", self.limit)
        return True


def _sizes(model: torch.nn.Module) -> tuple[int, int]:
    """Numbers of the adapted matrices and of the adapter."""
    frozen = adapter = 0
    for layer in model.modules():
        if isinstance(layer, LoraLinear):
            frozen += layer.base.weight.numel()
            adapter += layer.lora_a.numel() + layer.lora_b.numel()
    return frozen, adapter
