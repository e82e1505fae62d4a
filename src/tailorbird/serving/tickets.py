"""What the scheduler takes in, works on and gives out: tickets, their choices, outputs and the report of a step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from tailorbird.protocol.generation import EmbeddingRequest, GenerationChunk, GenerationRequest
from tailorbird.serving.adapters import LoadedAdapter
from tailorbird.serving.sampling import PromptLogprob, Sampler, make_sampler
from tailorbird.serving.structure import Grammar, Guide
from tailorbird.serving.text import TextStream


@dataclass(frozen=True, slots=True)
class Limits:
    """`batch` sequences run at once; `step_tokens` prompt tokens run in one step beside the generating rows."""

    batch: int = 32
    step_tokens: int = 512


@dataclass(frozen=True, slots=True)
class PromptScores:
    """One entry a prompt token, the first None. Comes before the request's first chunk."""

    scores: list[PromptLogprob | None]


@dataclass(frozen=True, slots=True)
class EngineStopped:
    """The engine stopped before the request was done."""


@dataclass(frozen=True, slots=True)
class StructureBroken:
    """The structure became too much to follow in the middle of the answer; nothing more comes."""

    reason: str


Output = GenerationChunk | PromptScores | StructureBroken | EngineStopped


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step did, for the metrics."""

    running: int
    waiting: int
    batch: int
    prompt_tokens: int
    generated_tokens: int
    embedded_tokens: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A computed prompt, kept for the choices that have not begun: its memory and what it predicts [1, vocab]."""

    memory: Any
    logits: Tensor


@dataclass(slots=True, eq=False)
class Ticket:
    """A submitted request; `sink` is called on the engine's thread and must return at once.

    `followers` are the choices that neither run nor wait.
    """

    request: GenerationRequest
    adapter: LoadedAdapter | None
    sink: Callable[[Output], None]
    grammar: Grammar | None = None
    prompt: Prompt | None = None
    scores: list[PromptLogprob | None] = field(default_factory=list[PromptLogprob | None])
    followers: deque[Choice] = field(default_factory=deque["Choice"])
    unfinished: int = 0


@dataclass(slots=True, eq=False)
class Choice:
    """One choice of a request: its tokens, prompt included, and how many of them are computed."""

    ticket: Ticket
    index: int
    tokens: list[int]
    sampler: Sampler
    text: TextStream
    memory: Any = None
    computed: int = 0
    generated: int = 0

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.computed

    @property
    def guide(self) -> Guide | None:
        return self.sampler.guide

    @property
    def unscored(self) -> bool:
        """Prompt scores are still to be made; they come with choice 0, and only once."""
        request = self.ticket.request
        return request.score_prompt and self.index == 0 and len(self.ticket.scores) < len(request.prompt)


def make_choices(ticket: Ticket, tokenizer: Tokenizer, device: torch.device) -> list[Choice]:
    request, choices = ticket.request, list[Choice]()
    for index in range(request.n):
        guide = None if ticket.grammar is None else ticket.grammar.start(request.stop_token_ids)
        sampler = make_sampler(request, index, device, guide)
        text = TextStream(tokenizer, request.prompt, request.stop)
        choices.append(Choice(ticket, index, list(request.prompt), sampler, text))
    return choices


@dataclass(frozen=True, slots=True)
class Vectors:
    """The embeddings, one a text, in the order of the request."""

    vectors: list[list[float]]


@dataclass(slots=True, eq=False)
class TextsTicket:
    """A submitted embedding request; `sink` is called once, on the engine's thread, and must return at once."""

    request: EmbeddingRequest
    adapter: LoadedAdapter | None
    sink: Callable[[Vectors | EngineStopped], None]
    vectors: list[list[float]] = field(default_factory=list[list[float]])
