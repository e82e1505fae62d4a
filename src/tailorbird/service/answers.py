"""What chat and completion requests ask and get, in no dialect's words."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tailorbird.protocol.generation import FinishReason


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn; ranges were checked where the request was parsed. `top_logprobs` None asks for none."""

    temperature: float = 1.0
    top_p: float = 1.0
    n: int = 1
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = field(default_factory=dict[int, float])
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class ChatAsk:
    """`messages` as the customer sent them; `max_tokens` None is what the context leaves."""

    model: str
    messages: object
    sampling: Sampling
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class CompletionAsk:
    """Each prompt is a text or token ids. `max_tokens` 0 makes sense with `echo` only: it scores the prompt."""

    model: str
    prompts: Sequence[str | list[int]]
    sampling: Sampling
    max_tokens: int | None = None
    echo: bool = False


@dataclass(frozen=True, slots=True)
class TokenScore:
    """`logprob` None: the first token of an echoed prompt has nothing before it. `raw` are the token's bytes."""

    text: str
    raw: bytes
    logprob: float | None
    top: list[TokenScore] = field(default_factory=list["TokenScore"])


@dataclass(frozen=True, slots=True)
class Choice:
    index: int
    text: str
    finish_reason: FinishReason
    scores: list[TokenScore] | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Head:
    """What every part of one answer repeats. `model` is the served model's name, never the deployment's."""

    id: str
    created_at: datetime
    model: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Answer:
    head: Head
    choices: list[Choice]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Delta:
    index: int
    text: str
    finish_reason: FinishReason | None = None
    scores: list[TokenScore] | None = None


@dataclass(frozen=True, slots=True)
class AnswerStream:
    """Deltas as they come, then one Usage. Close `parts` early and the engine stops; errors come as ServiceErrors."""

    head: Head
    parts: AsyncGenerator[Delta | Usage, None]
