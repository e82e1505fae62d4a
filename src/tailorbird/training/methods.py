"""The methods of training: what a batch is, what its loss is, and which example stands for it in the proof."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol

from tailorbird.protocol.training import TrainPlan
from tailorbird.training.batches import Example, Pair, RunData, SampleT, epoch_order, load_examples, load_pairs
from tailorbird.training.losses import Score
from tailorbird.training.preferences import PreferenceScore, with_references
from tailorbird.training.turns import Stopwatch, Turns


class Trained(Protocol):
    """A model with its adapter, and one way to compute its batches: as prefix trees, or through its own code.

    `accumulate` and `accumulate_pairs` set the trained parameters' gradients to those of the mean loss.
    """

    def accumulate(self, examples: Sequence[Example]) -> Score: ...

    def evaluate(self, examples: Sequence[Example]) -> Score: ...

    def accumulate_pairs(self, pairs: Sequence[Pair], *, beta: float) -> PreferenceScore: ...

    def evaluate_pairs(self, pairs: Sequence[Pair], *, beta: float) -> PreferenceScore: ...

    def logprobs(self, pairs: Sequence[Pair]) -> list[tuple[float, float]]:
        """The summed log-probabilities of each pair's preferred and other output, in nats."""
        ...


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over the samples of one batch or file; rewards are None where the method knows none."""

    loss: float
    accuracy: float
    reward_accuracy: float | None = None
    reward_margin: float | None = None


class Method(ABC, Generic[SampleT]):
    """One way to learn from a file. The loop around it is the same for all of them."""

    def __init__(self, plan: TrainPlan, data: RunData[SampleT]) -> None:
        self.plan = plan
        self.data = data

    @abstractmethod
    def prepare(
        self, model: Trained, fingerprint: str, stop_requested: Callable[[], bool], watch: Stopwatch
    ) -> Turns[bool]:
        """What must be known of `model` as the run starts, before a saved state goes in; False when told to stop."""

    @abstractmethod
    def _accumulate_gradients(self, model: Trained, samples: Sequence[SampleT]) -> Figures:
        """Sets the trained parameters' gradients to those of the mean loss over one optimizer batch."""

    @abstractmethod
    def _probe(self, sample: SampleT) -> Example:
        """The example of `sample` that the engine's log-probabilities are compared on."""

    @abstractmethod
    def _examples(self, samples: Sequence[SampleT]) -> list[Example]:
        """The token sequences of `samples`."""

    @abstractmethod
    def _evaluate(self, model: Trained, samples: Sequence[SampleT]) -> Figures: ...

    def train(self, model: Trained, step: int) -> Figures:
        """Sets the trained parameters' gradients to those of the mean loss over the batch of `step`."""
        return self._accumulate_gradients(model, self.data.batch(step))

    def batches(self, token_limit: int) -> Iterator[list[Example]]:
        """The token sequences of the first batches, until `token_limit` tokens were given."""
        given = 0
        for step in range(1, self.data.steps_per_epoch + 1):
            examples = self._examples(self.data.batch(step))
            yield examples
            given += sum(example.token_count for example in examples)
            if given >= token_limit:
                return

    def probes(self) -> list[Example]:
        """The first examples of the first epoch, for the proof."""
        order = epoch_order(len(self.data.training), seed=self.plan.seed, epoch=1)
        return [self._probe(self.data.training[i]) for i in order[: self.plan.probe_count]]

    def validate(self, model: Trained, step: int) -> Figures | None:
        """On the validation batch of `step`; None without a validation file."""
        samples = self.data.validation_batch(step)
        return self._evaluate(model, samples) if samples else None

    def validate_all(self, model: Trained) -> Figures | None:
        return self._evaluate(model, self.data.validation) if self.data.validation else None


class Supervised(Method[Example]):
    """Learns to write the assistant's turns."""

    def prepare(
        self, model: Trained, fingerprint: str, stop_requested: Callable[[], bool], watch: Stopwatch
    ) -> Turns[bool]:
        yield from ()
        return True

    def _accumulate_gradients(self, model: Trained, samples: Sequence[Example]) -> Figures:
        return _figures(model.accumulate(samples))

    def _probe(self, sample: Example) -> Example:
        return sample

    def _examples(self, samples: Sequence[Example]) -> list[Example]:
        return list(samples)

    def _evaluate(self, model: Trained, samples: Sequence[Example]) -> Figures:
        return _figures(model.evaluate(samples))


class Preference(Method[Pair]):
    """Learns which of two outputs is better than it thought before: `prepare` comes first."""

    def prepare(
        self, model: Trained, fingerprint: str, stop_requested: Callable[[], bool], watch: Stopwatch
    ) -> Turns[bool]:
        pairs = yield from with_references(
            model.logprobs,
            [*self.data.training, *self.data.validation],
            Path(self.plan.run_folder),
            fingerprint,
            stop_requested=stop_requested,
            watch=watch,
        )
        if pairs is None:
            return False
        count = len(self.data.training)
        self.data.training, self.data.validation = pairs[:count], pairs[count:]
        return True

    def _accumulate_gradients(self, model: Trained, samples: Sequence[Pair]) -> Figures:
        return _pair_figures(model.accumulate_pairs(samples, beta=self.plan.beta))

    def _probe(self, sample: Pair) -> Example:
        return sample.preferred

    def _examples(self, samples: Sequence[Pair]) -> list[Example]:
        return [side for pair in samples for side in pair.sides]

    def _evaluate(self, model: Trained, samples: Sequence[Pair]) -> Figures:
        return _pair_figures(model.evaluate_pairs(samples, beta=self.plan.beta))


def load_method(plan: TrainPlan) -> Supervised | Preference:
    """The plan's method with its files read; raises TrainingError when they cannot be trained on."""
    match plan.method:
        case "supervised":
            return Supervised(plan, RunData[Example].load(plan, load_examples))
        case "dpo":
            return Preference(plan, RunData[Pair].load(plan, load_pairs))


def _figures(score: Score) -> Figures:
    return Figures(score.loss, score.accuracy)


def _pair_figures(score: PreferenceScore) -> Figures:
    return Figures(
        score.nll / score.pairs,
        score.correct / score.weight,
        score.right / score.pairs,
        score.margin / score.pairs,
    )
