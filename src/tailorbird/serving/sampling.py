"""From logits to the next token of every row: penalties, bias, structure, temperature, top_p, seeds; log-probabilities.

What a row draws depends on its own logits and its own generator, never on its neighbours in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tailorbird.protocol.generation import GenerationRequest, TokenLogprob, TopLogprob
from tailorbird.serving.structure import Guide, mask

_GREEDY_BELOW = 1e-5  # vLLM's _SAMPLING_EPS: smaller temperatures overflow and mean greedy anyway
_NUCLEUS_FIRST = 256  # likeliest tokens looked at before the whole vocabulary is sorted


@dataclass(slots=True, eq=False)
class Sampler:
    """How one choice of a request draws its tokens, and what it drew so far."""

    temperature: float
    top_p: float
    presence: float
    frequency: float
    bias_ids: Tensor | None
    bias_values: Tensor | None
    generator: torch.Generator | None
    guide: Guide | None = None
    counts: dict[int, int] = field(default_factory=dict[int, int])

    @property
    def greedy(self) -> bool:
        return self.temperature < _GREEDY_BELOW

    def adjust(self, logits: Tensor) -> Tensor:
        """Bias and penalties over one row's logits [vocab]; a new tensor when there is something to change.

        Penalties count generated tokens only: mu[j] - c[j] * frequency - (c[j] > 0) * presence.
        Source: https://platform.openai.com/docs/advanced-usage (frequency and presence penalties)
        """
        if self.bias_ids is None and not (self.counts and (self.presence or self.frequency)):
            return logits
        logits = logits.clone()
        if self.bias_ids is not None and self.bias_values is not None:
            logits[self.bias_ids] += self.bias_values
        if self.counts:
            ids = torch.tensor(list(self.counts), device=logits.device)
            often = torch.tensor(list(self.counts.values()), dtype=logits.dtype, device=logits.device)
            logits[ids] -= often * self.frequency + self.presence
        return logits

    def drew(self, token: int) -> None:
        if self.presence or self.frequency:
            self.counts[token] = self.counts.get(token, 0) + 1


def make_sampler(request: GenerationRequest, index: int, device: torch.device, guide: Guide | None = None) -> Sampler:
    """The sampler of choice `index`; with a seed, choice i draws as a request of its own with seed + i would."""
    generator = None
    if request.temperature >= _GREEDY_BELOW:
        generator = torch.Generator()
        if request.seed is None:
            generator.seed()
        else:
            generator.manual_seed((request.seed + index) % 2**63)
    bias = request.logit_bias
    return Sampler(
        temperature=request.temperature,
        top_p=request.top_p,
        presence=request.presence_penalty,
        frequency=request.frequency_penalty,
        bias_ids=torch.tensor(list(bias), device=device) if bias else None,
        bias_values=torch.tensor(list(bias.values()), device=device) if bias else None,
        generator=generator,
        guide=guide,
    )


def sample(logits: Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """One token for each row of logits [rows, vocab], which are left as they are."""
    rows = list(logits.unbind())
    adjusted = [sampler.adjust(row) for sampler, row in zip(samplers, rows, strict=True)]
    if any(new is not old for new, old in zip(adjusted, rows, strict=True)):
        logits = torch.stack(adjusted)
    logits = mask(logits, [sampler.guide for sampler in samplers])
    tokens: list[int] = logits.argmax(dim=-1).tolist()
    for nucleus in (False, True):
        drawn = [i for i, s in enumerate(samplers) if not s.greedy and (s.top_p < 1.0) == nucleus]
        if drawn:
            chosen = [samplers[i] for i in drawn]
            rest = logits if len(drawn) == len(samplers) else logits[drawn]
            for i, token in zip(drawn, _draw(rest, chosen, nucleus), strict=True):
                tokens[i] = token
    for sampler, token in zip(samplers, tokens, strict=True):
        sampler.drew(token)
    return tokens


def _draw(logits: Tensor, samplers: Sequence[Sampler], nucleus: bool) -> list[int]:
    """Inverse transform sampling: a uniform number from the row's own generator, looked up in the cumulated row."""
    heat = torch.tensor([[s.temperature] for s in samplers], device=logits.device)
    # Minus the maximum before dividing: a small temperature must not overflow.
    weights = torch.softmax((logits - logits.amax(dim=-1, keepdim=True)) / heat, dim=-1)
    uniform = torch.cat([torch.rand(1, dtype=torch.float64, generator=s.generator) for s in samplers])
    uniform = uniform.to(logits.device)[:, None]
    if not nucleus:
        return _look_up(weights, uniform)[:, 0].tolist()
    share = torch.tensor([[s.top_p] for s in samplers], device=logits.device)
    likeliest, ids = _sorted_head(weights, share)
    before = likeliest.cumsum(dim=-1) - likeliest
    kept = likeliest * (before < share)  # the smallest set that reaches top_p: a token stays while it is not reached
    return ids.gather(1, _look_up(kept, uniform))[:, 0].tolist()


def _look_up(weights: Tensor, uniform: Tensor) -> Tensor:
    """Index [rows, 1] of the first weight whose running sum exceeds uniform x total; never one of weight 0."""
    running = weights.double().cumsum(dim=-1)
    found = torch.searchsorted(running, uniform * running[:, -1:], right=True)
    return found.clamp_(max=weights.shape[1] - 1)


def _sorted_head(weights: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest tokens [rows, k] and their ids, best first, together at least `share` [rows, 1] of the total."""
    if weights.shape[1] > 2 * _NUCLEUS_FIRST:
        likeliest, ids = weights.topk(_NUCLEUS_FIRST, dim=-1)
        if bool((likeliest.sum(dim=-1, keepdim=True) > share).all()):
            return likeliest, ids
    return weights.sort(dim=-1, descending=True, stable=True)


def token_logprobs(logits: Tensor, tokens: Sequence[int], top: int) -> list[TokenLogprob]:
    """Natural-log probabilities of the given token of each row of logits [rows, vocab] and of the `top` likeliest."""
    normal = logits.logsumexp(dim=-1, keepdim=True)
    own = (logits.gather(1, torch.tensor(tokens, device=logits.device)[:, None]) - normal)[:, 0].tolist()
    if top == 0:
        return [TokenLogprob(token, value) for token, value in zip(tokens, own, strict=True)]
    values, ids = logits.topk(top, dim=-1)
    best = zip(ids.tolist(), (values - normal).tolist(), strict=True)
    return [
        TokenLogprob(token, value, [TopLogprob(i, v) for i, v in zip(row_ids, row_values, strict=True)])
        for token, value, (row_ids, row_values) in zip(tokens, own, best, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class PromptLogprob:
    """A prompt token's natural-log probability given what precedes it; rank 1 is the likeliest token."""

    token_id: int
    logprob: float
    rank: int


def prompt_logprobs(logits: Tensor, tokens: Sequence[int]) -> list[PromptLogprob]:
    """The given token of each row of logits [rows, vocab]."""
    own = logits.gather(1, torch.tensor(tokens, device=logits.device)[:, None])
    values = (own - logits.logsumexp(dim=-1, keepdim=True))[:, 0].tolist()
    ranks = ((logits > own).sum(dim=-1) + 1).tolist()
    return [PromptLogprob(*row) for row in zip(tokens, values, ranks, strict=True)]
