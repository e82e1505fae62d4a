"""Direct preference optimisation: the loss of pairs, measured from the model the run starts from.

    loss = -log sigmoid(beta * ((logp - ref) of the preferred output - (logp - ref) of the other))

`logp` is the summed log-probability of an output's trained tokens, `ref` the same before the first step. The reference
is computed once and kept in the run folder, so no second model is ever in memory and a resume reads what is there.
Source: Rafailov et al., https://arxiv.org/abs/2305.18290, equation 7.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tailorbird.protocol.training import STATE_FOLDER
from tailorbird.training.batches import MicroBatch, Pair, collate, micro_batches, packs
from tailorbird.training.checkpoints import replace_file
from tailorbird.training.losses import target_logits
from tailorbird.training.turns import Stopwatch, Turns

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

_REFERENCE_FILE = "reference.json"
_CHUNK = 32  # pairs scored between two looks at the stop signal
_SAVE_EVERY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class PreferenceScore:
    """Sums over pairs, and over the trained tokens of their preferred sides; means are taken once, over all."""

    nll: float = 0.0  # the sum of the pairs' losses, nats
    right: float = 0.0  # pairs whose preferred output has the higher reward
    margin: float = 0.0  # the sum of reward differences, nats
    pairs: int = 0
    correct: float = 0.0
    weight: float = 0.0

    def __add__(self, other: PreferenceScore) -> PreferenceScore:
        return PreferenceScore(
            self.nll + other.nll,
            self.right + other.right,
            self.margin + other.margin,
            self.pairs + other.pairs,
            self.correct + other.correct,
            self.weight + other.weight,
        )


def accumulate_pair_gradients(
    model: PreTrainedModel, pairs: Sequence[Pair], *, beta: float, token_limit: int, packed: bool = False
) -> PreferenceScore:
    """Adds the gradient of the batch's mean loss to the trained parameters and returns the batch's score."""
    score = PreferenceScore()
    for group in (packs if packed else micro_batches)(pairs, token_limit=token_limit):
        losses, part = _score(model, group, beta, packed=packed)
        cast(Any, losses / len(pairs)).backward()
        score += part
    return score


@torch.no_grad()
def evaluate_pairs(
    model: PreTrainedModel, pairs: Sequence[Pair], *, beta: float, token_limit: int, packed: bool = False
) -> PreferenceScore:
    """The score of `pairs` with no gradient."""
    score = PreferenceScore()
    for group in (packs if packed else micro_batches)(pairs, token_limit=token_limit):
        score += _score(model, group, beta, packed=packed)[1]
    return score


def with_references(
    logprobs: Callable[[Sequence[Pair]], list[tuple[float, float]]],
    pairs: Sequence[Pair],
    run_folder: Path,
    fingerprint: str,
    *,
    stop_requested: Callable[[], bool],
    watch: Stopwatch,
) -> Turns[list[Pair] | None]:
    """The pairs with their reference, read from the run folder as far as it is there; None when told to stop before.

    `logprobs` computes them for some pairs, with the model as the run starts. What was computed is kept: a stopped or
    killed process loses at most the last half minute of it. `fingerprint` names the plan; pairs of other tokens are
    computed anew.
    """
    path = run_folder / STATE_FOLDER / _REFERENCE_FILE
    fingerprint = _fingerprint(fingerprint, pairs)
    found = _load(path, fingerprint)[: len(pairs)]
    log.info("computing the reference of %d of %d pairs", len(pairs) - len(found), len(pairs))
    saved_at = time.monotonic()
    while len(found) < len(pairs):
        if stop_requested():
            _save(path, fingerprint, found)
            return None
        found += logprobs(pairs[len(found) : len(found) + _CHUNK])
        if time.monotonic() - saved_at > _SAVE_EVERY_SECONDS:
            _save(path, fingerprint, found)
            saved_at = time.monotonic()
        yield from watch.turn()
    _save(path, fingerprint, found)
    return [replace(pair, reference=reference) for pair, reference in zip(pairs, found, strict=True)]


@torch.no_grad()
def pair_logprobs(
    model: PreTrainedModel, pairs: Sequence[Pair], *, token_limit: int, packed: bool = False
) -> list[tuple[float, float]]:
    """The summed log-probabilities of each pair's preferred and other output, in nats."""
    values: dict[int, tuple[float, float]] = {}  # by identity: the lines of two files have the same numbers
    for group in (packs if packed else micro_batches)(pairs, token_limit=token_limit):
        batch = _collate_pairs(group, model.device, packed=packed)
        logprobs = _token_logprobs(target_logits(model, batch), batch)
        preferred, non_preferred = _summed(logprobs, batch, len(group))
        sums = cast(list[tuple[float, float]], zip(preferred.tolist(), non_preferred.tolist(), strict=True))
        values |= {id(pair): both for pair, both in zip(group, sums, strict=True)}
    return [values[id(pair)] for pair in pairs]


def _collate_pairs(pairs: Sequence[Pair], device: torch.device, *, packed: bool) -> MicroBatch:
    """Example 2i is the preferred side of pair i, example 2i + 1 the other."""
    return collate([side for pair in pairs for side in pair.sides], device, packed=packed)


def _score(
    model: PreTrainedModel, pairs: Sequence[Pair], beta: float, *, packed: bool
) -> tuple[Tensor, PreferenceScore]:
    """The sum of the pairs' losses as a scalar to differentiate, and the figures as numbers."""
    batch = _collate_pairs(pairs, model.device, packed=packed)
    logits = target_logits(model, batch)
    logprobs = torch.stack(_summed(_token_logprobs(logits, batch), batch, len(pairs)), dim=1)  # [P, 2]
    rewards = beta * (logprobs - logprobs.new_tensor([pair.reference for pair in pairs]))
    margins = rewards[:, 0] - rewards[:, 1]  # [P]
    losses = -functional.logsigmoid(margins).sum()
    of_preferred = batch.weights * (batch.owners % 2 == 0)
    correct = ((logits.detach().argmax(-1) == batch.targets) * of_preferred).sum()
    score = PreferenceScore(
        losses.item(),
        float((margins > 0).sum().item()),
        margins.sum().item(),
        len(pairs),
        correct.item(),
        of_preferred.sum().item(),
    )
    return losses, score


def _token_logprobs(logits: Tensor, batch: MicroBatch) -> Tensor:
    """Log-probability [K] of each trained token, times its weight."""
    # A bfloat16 log-sum-exp would round the difference of two outputs away.
    return -functional.cross_entropy(logits.float(), batch.targets, reduction="none") * batch.weights


def _summed(logprobs: Tensor, batch: MicroBatch, pairs: int) -> tuple[Tensor, Tensor]:
    """The sums over the preferred and over the non-preferred output of each pair, two tensors [P]."""
    sums = torch.zeros(2 * pairs, dtype=logprobs.dtype, device=logprobs.device)
    sums = sums.index_add(0, batch.owners, logprobs)
    return sums[0::2], sums[1::2]


def _fingerprint(of_plan: str, pairs: Sequence[Pair]) -> str:
    digest = hashlib.sha256(of_plan.encode())
    for pair in pairs:
        for side in pair.sides:
            digest.update(f"{len(side.token_ids)} {len(side.positions)} ".encode())
            digest.update(np.asarray(side.token_ids + side.positions, dtype=np.int64).tobytes())
            digest.update(np.asarray(side.weights, dtype=np.float64).tobytes())
    return digest.hexdigest()


def _load(path: Path, fingerprint: str) -> list[tuple[float, float]]:
    try:
        stored = json.loads(path.read_text("ascii"))
        if stored["fingerprint"] == fingerprint:
            return [(float(preferred), float(non_preferred)) for preferred, non_preferred in stored["logprobs"]]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        # Computing it again costs time and changes nothing: the run starts from the same numbers.
        log.warning("the saved reference cannot be read (%s); computing it again", error)
    return []


def _save(path: Path, fingerprint: str, logprobs: Sequence[tuple[float, float]]) -> None:
    path.parent.mkdir(exist_ok=True)
    replace_file(path, json.dumps({"fingerprint": fingerprint, "logprobs": logprobs}).encode("ascii"))
