"""The weighted next-token loss of a batch, with logits only where a token is trained."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tailorbird.training.batches import Example, MicroBatch, collate, micro_batches, packs
from tailorbird.training.packing import documents

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Score:
    """Sums over trained tokens, each counted by its weight; means are taken once, over the whole batch."""

    nll: float = 0.0  # nats
    correct: float = 0.0
    weight: float = 0.0

    def __add__(self, other: Score) -> Score:
        return Score(self.nll + other.nll, self.correct + other.correct, self.weight + other.weight)

    @property
    def loss(self) -> float:
        return self.nll / self.weight

    @property
    def accuracy(self) -> float:
        return self.correct / self.weight


def target_logits(model: PreTrainedModel, batch: MicroBatch) -> Tensor:
    """Logits [K, V] of the K trained tokens in the model's dtype.

    The hidden states are thinned out on their way into the output head, inside the model's own forward: whatever an
    architecture does to its logits afterwards (scaling, soft-capping) is done by its own code.
    """
    with ExitStack() as around:
        around.enter_context(_only(cast(nn.Module, model.get_output_embeddings()), batch.rows, batch.columns))
        more: dict[str, Any] = {}
        if batch.documents:
            around.enter_context(documents(model, batch.documents))
            more["position_ids"] = batch.position_ids
        logits = cast(Any, model)(input_ids=batch.input_ids, use_cache=False, **more).logits  # [1, K, V]
    return logits[0]


@contextmanager
def _only(head: nn.Module, rows: Tensor, columns: Tensor) -> Generator[None]:
    def pick(_: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        return inputs[0][rows, columns].unsqueeze(0)  # [B, T, H] -> [1, K, H]

    handle = head.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        handle.remove()


def accumulate_gradients(
    model: PreTrainedModel, examples: Sequence[Example], *, token_limit: int, packed: bool = False
) -> Score:
    """Adds the gradient of the batch's mean loss to the trained parameters and returns the batch's score.

    The mean is over the trained tokens of all `examples`, so how they are grouped does not change the gradient.
    """
    total_weight = sum(weight for example in examples for weight in example.weights)
    score = Score()
    for batch in _collated(model, examples, token_limit, packed=packed):
        nll, part = _score(target_logits(model, batch), batch)
        (nll / total_weight).backward()
        score += part
    return score


@torch.no_grad()
def evaluate(model: PreTrainedModel, examples: Iterable[Example], *, token_limit: int, packed: bool = False) -> Score:
    """The score of `examples` with no gradient."""
    score = Score()
    for batch in _collated(model, examples, token_limit, packed=packed):
        score += _score(target_logits(model, batch), batch)[1]
    return score


@torch.no_grad()
def example_logprobs(model: PreTrainedModel, example: Example) -> list[float]:
    """Natural-log probability of each trained token given all before it, the example alone in its batch."""
    batch = collate([example], model.device)
    logprobs = functional.log_softmax(target_logits(model, batch).float(), dim=-1)
    return logprobs.gather(1, batch.targets.unsqueeze(1)).squeeze(1).tolist()


def _collated(
    model: PreTrainedModel, examples: Iterable[Example], token_limit: int, *, packed: bool
) -> Generator[MicroBatch]:
    for group in (packs if packed else micro_batches)(examples, token_limit=token_limit):
        yield collate(group, model.device, packed=packed)


def _score(logits: Tensor, batch: MicroBatch) -> tuple[Tensor, Score]:
    """The sum of weighted losses as a scalar to differentiate, and the same figures as numbers."""
    logits = logits.float()  # a bfloat16 log-sum-exp would round the loss to two digits
    nll = (functional.cross_entropy(logits, batch.targets, reduction="none") * batch.weights).sum()
    correct = ((logits.detach().argmax(-1) == batch.targets) * batch.weights).sum()
    return nll, Score(nll.item(), correct.item(), batch.weights.sum().item())
