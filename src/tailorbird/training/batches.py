"""A training file as token ids and weights, in seeded order, cut into optimizer batches and padded micro-batches."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from tailorbird.dataset.records import PreferencePair, Record
from tailorbird.dataset.render import Rendered, Renderer, RenderError
from tailorbird.dataset.validate import DatasetError, load_records
from tailorbird.protocol.training import TrainPlan
from tailorbird.training import TrainingError

# What one more forward and backward pass costs, in padded tokens it would have to save. Measured on one CPU core with a
# model of 5 million parameters, where it matters most: about 20 ms a pass and 0.3 ms a token.
_PASS_COST = 64


class ExampleRenderer(Protocol):
    def render_example(self, record: Record) -> Rendered: ...

    def render_pair(self, pair: PreferencePair) -> tuple[Rendered, Rendered]: ...


class Sample(Protocol):
    """What a batch is made of: one line of a file."""

    @property
    def line(self) -> int: ...

    @property
    def length(self) -> int:
        """Padded tokens it takes in a micro-batch where it is the longest."""
        ...

    @property
    def token_count(self) -> int:
        """Tokens it is charged with: all given ones, not only the trained."""
        ...

    @property
    def beginning(self) -> tuple[int, ...]:
        """The tokens by which it is told what it has in common with others."""
        ...


SampleT = TypeVar("SampleT", bound=Sample)


@dataclass(frozen=True, slots=True)
class Example:
    """One line of a file. `positions` are the indices of its trained tokens (never 0), `weights` their loss weights."""

    line: int
    token_ids: tuple[int, ...]
    positions: tuple[int, ...]
    weights: tuple[float, ...]

    @property
    def length(self) -> int:
        """Tokens that must pass through the model: those before the last trained one; no other can change the loss."""
        return self.positions[-1]

    @property
    def token_count(self) -> int:
        return len(self.token_ids)

    @property
    def beginning(self) -> tuple[int, ...]:
        return self.token_ids


@dataclass(frozen=True, slots=True)
class Pair:
    """One line of a preference file: the same prompt before two outputs. Its sides share a micro-batch.

    `reference` holds the summed log-probabilities of the preferred and the other output before the first step, in
    nats; not a number until they are known.
    """

    line: int
    preferred: Example
    non_preferred: Example
    reference: tuple[float, float] = (math.nan, math.nan)

    @property
    def length(self) -> int:
        return 2 * max(self.preferred.length, self.non_preferred.length)

    @property
    def token_count(self) -> int:
        return self.preferred.token_count + self.non_preferred.token_count

    @property
    def beginning(self) -> tuple[int, ...]:
        return self.preferred.token_ids

    @property
    def sides(self) -> tuple[Example, Example]:
        return self.preferred, self.non_preferred


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Examples below each other, padded on the right: a causal model never looks there, so no attention mask is needed.

    Packed, they stand behind each other in one row, `documents` are their lengths and `position_ids` begin anew with
    each. `rows` and `columns` address the K hidden states that predict the K `targets`; these belong to the examples
    `owners`.
    """

    input_ids: Tensor  # [B, T] int64
    position_ids: Tensor | None  # [1, T] int64
    documents: tuple[int, ...]
    owners: Tensor  # [K] int64
    rows: Tensor  # [K] int64
    columns: Tensor  # [K] int64
    targets: Tensor  # [K] int64
    weights: Tensor  # [K] float32


@dataclass(slots=True)
class RunData(Generic[SampleT]):
    """The samples of a run and which of them belong to which step."""

    plan: TrainPlan
    training: list[SampleT]
    validation: list[SampleT]
    steps_per_epoch: int
    total_steps: int
    epoch_tokens: int
    _order: tuple[int, list[list[int]]] = (0, [])  # the batches of the epoch in hand

    @classmethod
    def load(cls, plan: TrainPlan, read: Reader[SampleT]) -> RunData[SampleT]:
        """Renders both files of the plan with its base's template; raises TrainingError when one cannot be trained."""
        at = None if plan.rendered_at is None else datetime.fromisoformat(plan.rendered_at)
        renderer = Renderer.from_folder(plan.base_model, now=datetime.now if at is None else lambda: at)
        if renderer.template_hash != plan.template_hash:
            raise TrainingError(
                "template_changed", "The base model's chat template has changed since the job was created."
            )
        if plan.patience and not plan.validation_file:
            raise TrainingError("invalid_plan", "Patience needs a validation file to compare losses on.")
        training = read(plan.training_file, renderer, plan.max_tokens, "training file")
        validation: list[SampleT] = []
        if plan.validation_file:
            validation = read(plan.validation_file, renderer, plan.max_tokens, "validation file")
        steps_per_epoch = math.ceil(len(training) / plan.batch_size)
        epoch_tokens = sum(sample.token_count for sample in training)
        return cls(plan, training, validation, steps_per_epoch, steps_per_epoch * plan.n_epochs, epoch_tokens)

    def epoch(self, step: int) -> int:
        return (step - 1) // self.steps_per_epoch + 1

    def batch(self, step: int) -> list[SampleT]:
        epoch = self.epoch(step)
        if self._order[0] != epoch:
            order = epoch_order(len(self.training), seed=self.plan.seed, epoch=epoch)
            self._order = (epoch, cut(order, self.plan.batch_size))
        return [self.training[i] for i in self._order[1][(step - 1) % self.steps_per_epoch]]

    def validation_batch(self, step: int) -> list[SampleT]:
        """As many samples as a training batch, going round the validation file in its own order."""
        batches = cut(range(len(self.validation)), self.plan.batch_size)
        return [self.validation[i] for i in batches[(step - 1) % len(batches)]] if batches else []


Reader = Callable[[str, ExampleRenderer, int, str], list[SampleT]]
"""Reads, renders and measures every line of a file: its path, the renderer, the longest example in tokens and the name
customers know it by ("training file"). Raises TrainingError naming the line of the first sample that is invalid, too
long or has nothing to train on."""


def load_examples(path: str, renderer: ExampleRenderer, max_tokens: int, name: str) -> list[Example]:
    """The lines of a supervised file."""
    examples: list[Example] = []
    for line, record in _records(path, name):
        place = f"Line {line} of the {name}"
        if isinstance(record, PreferencePair):
            raise TrainingError(
                "wrong_kind", f"{place} is a preference pair: the method supervised takes chat or prompt examples."
            )
        with _refusals(place):
            rendered = renderer.render_example(record)
        examples.append(_example(line, rendered, max_tokens, place))
    return examples


def load_pairs(path: str, renderer: ExampleRenderer, max_tokens: int, name: str) -> list[Pair]:
    """The lines of a preference file; each side must fit on its own."""
    pairs: list[Pair] = []
    for line, record in _records(path, name):
        place = f"Line {line} of the {name}"
        if not isinstance(record, PreferencePair):
            raise TrainingError(
                "wrong_kind",
                f"{place} is no preference pair: the method dpo takes 'input', 'preferred_output' and "
                "'non_preferred_output'.",
            )
        with _refusals(place):
            sides = renderer.render_pair(record)
        preferred, non_preferred = (
            _example(line, side, max_tokens, f"{place}, {key},")
            for side, key in zip(sides, ("preferred_output", "non_preferred_output"), strict=True)
        )
        pairs.append(Pair(line, preferred, non_preferred))
    return pairs


def _records(path: str, name: str) -> list[tuple[int, Record]]:
    try:
        return load_records(path)
    except DatasetError as error:
        raise TrainingError("invalid_file", f"The {name} is not valid: {error}") from error


@contextmanager
def _refusals(place: str) -> Generator[None]:
    """Gives the template's refusal of one line its place in the file."""
    try:
        yield
    except RenderError as error:
        raise TrainingError("invalid_file", f"{place}: {error}") from error


def _example(line: int, rendered: Rendered, max_tokens: int, place: str) -> Example:
    count = len(rendered.token_ids)
    if count > max_tokens:
        raise TrainingError("example_too_long", f"{place} has {count} tokens, more than the limit of {max_tokens}.")
    # The first token has nothing before it, so no model can be trained to predict it.
    trained = [(i, weight) for i, weight in enumerate(rendered.weights) if weight > 0 and i > 0]
    if not trained:
        raise TrainingError("invalid_file", f"{place} has no token to train on.")
    positions, weights = zip(*trained, strict=True)
    return Example(line, tuple(rendered.token_ids), positions, weights)


def epoch_order(count: int, *, seed: int, epoch: int) -> list[int]:
    """The order of `count` examples in `epoch` (from 1): a function of seed and epoch, so that a resume repeats it."""
    # Sorting by a hash, not a library's shuffle: those may change from one release to the next, between two processes.
    return sorted(range(count), key=lambda i: hashlib.sha256(f"{seed} {epoch} {i}".encode()).digest())


def cut(order: Sequence[int], size: int) -> list[list[int]]:
    """Batches of `size` in the given order; the last one may be smaller."""
    return [list(order[start : start + size]) for start in range(0, len(order), size)]


def micro_batches(samples: Iterable[SampleT], *, token_limit: int) -> list[list[SampleT]]:
    """Groups an optimizer batch so that padding and passes together cost least.

    A group's padded size stays within `token_limit` unless it is a single sample. Neighbours in length share a group,
    so an exact search is a shortest path over the sorted lengths.
    """
    ordered = sorted(samples, key=lambda sample: (-sample.length, sample.line))
    best: list[float] = [0.0] + [float("inf")] * len(ordered)  # best[i]: cheapest grouping of the first i
    start_of = [0] * (len(ordered) + 1)
    for end in range(1, len(ordered) + 1):
        for start in range(end - 1, -1, -1):
            padded = (end - start) * ordered[start].length
            if padded > token_limit and end - start > 1:
                break
            cost = best[start] + padded + _PASS_COST
            if cost < best[end]:
                best[end], start_of[end] = cost, start
    groups: list[list[SampleT]] = []
    end = len(ordered)
    while end > 0:
        groups.append(ordered[start_of[end] : end])
        end = start_of[end]
    return groups[::-1]


def packs(samples: Iterable[SampleT], *, token_limit: int) -> list[list[SampleT]]:
    """Groups of at most `token_limit` given tokens, unless a single sample has more; as few as first fit finds."""
    groups: list[list[SampleT]] = []
    room: list[int] = []
    for sample in sorted(samples, key=lambda sample: (-sample.token_count, sample.line)):
        place = next((i for i, left in enumerate(room) if left >= sample.token_count), None)
        if place is None:
            place = len(groups)
            groups.append([])
            room.append(token_limit)
        groups[place].append(sample)
        room[place] -= sample.token_count
    return groups


def collate(examples: Sequence[Example], device: torch.device, *, packed: bool = False) -> MicroBatch:
    """One group as tensors; the padding token is 0, which token it is cannot matter."""
    lengths = [example.length for example in examples]
    starts = [0, *accumulate(lengths)][:-1] if packed else [0] * len(examples)
    input_ids = np.zeros((1, sum(lengths)) if packed else (len(examples), max(lengths)), dtype=np.int64)
    positions = np.zeros_like(input_ids) if packed else None
    for i, (example, start, length) in enumerate(zip(examples, starts, lengths, strict=True)):
        row = 0 if packed else i
        input_ids[row, start : start + length] = example.token_ids[:length]
        if positions is not None:
            positions[0, start : start + length] = range(length)
    owners = [i for i, example in enumerate(examples) for _ in example.positions]

    def on_device(values: list[int] | list[float], dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=device)

    return MicroBatch(
        input_ids=torch.from_numpy(input_ids).to(device),
        position_ids=None if positions is None else torch.from_numpy(positions).to(device),
        documents=tuple(lengths) if packed else (),
        owners=on_device(owners, torch.int64),
        rows=on_device([0] * len(owners) if packed else owners, torch.int64),
        columns=on_device(
            [start + i - 1 for example, start in zip(examples, starts, strict=True) for i in example.positions],
            torch.int64,
        ),
        targets=on_device([example.token_ids[i] for example in examples for i in example.positions], torch.int64),
        weights=on_device([weight for example in examples for weight in example.weights], torch.float32),
    )
