"""What chat, completion and embedding requests ask and get, in no dialect's words."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from tailorbird.dataset.calls import ToolCall
from tailorbird.domain.safety import Filtered
from tailorbird.protocol.generation import Structure
from tailorbird.service.rates import Allowance

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


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
class ToolChoice:
    """`tools` are shown to the model as they were sent; `allowed` are the names it may call, none named means all.

    `mode` "required" leaves it no choice but to call; "auto" with `checked` holds calls to the tools' schemas. `param`
    is the field the tools came in.
    """

    tools: Sequence[dict[str, Any]]
    mode: Literal["auto", "required"] = "auto"
    allowed: frozenset[str] = frozenset()
    many: bool = True
    checked: bool = False
    parallel_sent: bool | None = None
    param: str = "tools"

    @property
    def callable(self) -> list[dict[str, Any]]:
        """The tools that may be called."""
        return [tool for tool in self.tools if not self.allowed or tool["function"]["name"] in self.allowed]

    @property
    def names(self) -> frozenset[str]:
        """Their names."""
        return frozenset(tool["function"]["name"] for tool in self.callable)


@dataclass(frozen=True, slots=True)
class Keep:
    """Store the answer: `request` are the fields as they were sent."""

    request: dict[str, Any]
    metadata: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class ChatAsk:
    """`messages` as the customer sent them; `max_tokens` None is what the context leaves.

    `version` is the api-version, which a refusal for too many requests names.
    """

    model: str
    messages: object
    sampling: Sampling
    max_tokens: int | None = None
    tools: ToolChoice | None = None
    structure: Structure | None = None
    keep: Keep | None = None
    version: str = "v1"


@dataclass(frozen=True, slots=True)
class CompletionAsk:
    """Each prompt is a text or token ids. `max_tokens` 0 makes sense with `echo` only: it scores the prompt.

    Of `best_of` answers the `sampling.n` likeliest are given; None draws as many as are given.
    """

    model: str
    prompts: Sequence[str | list[int]]
    sampling: Sampling
    max_tokens: int | None = None
    echo: bool = False
    best_of: int | None = None
    version: str = "v1"


@dataclass(frozen=True, slots=True)
class EmbeddingAsk:
    """Each input is a text or token ids. `dimensions` None is the model's own number."""

    model: str
    inputs: Sequence[str | list[int]]
    dimensions: int | None = None
    version: str = "v1"


@dataclass(frozen=True, slots=True)
class TokenScore:
    """`logprob` None: the first token of an echoed prompt has nothing before it. `raw` are the token's bytes."""

    text: str
    raw: bytes
    logprob: float | None
    top: list[TokenScore] = field(default_factory=list["TokenScore"])


@dataclass(frozen=True, slots=True)
class MadeCall:
    """A tool call with the id by which its result will answer it."""

    id: str
    call: ToolCall


@dataclass(frozen=True, slots=True)
class Choice:
    index: int
    text: str
    finish_reason: FinishReason
    scores: list[TokenScore] | None = None
    calls: list[MadeCall] = field(default_factory=list[MadeCall])
    filtered: Filtered | None = None


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
    """`allowance`: what the deployment's rate limits leave; None without a deployment or limits.

    `prompts`: what the content filter says of each prompt; None where nothing is filtered."""

    head: Head
    choices: list[Choice]
    usage: Usage
    allowance: Allowance | None = None
    prompts: list[Filtered] | None = None


@dataclass(frozen=True, slots=True)
class CallDelta:
    """Part of call number `index`; `id` and `name` come with the first one."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    index: int
    text: str
    finish_reason: FinishReason | None = None
    scores: list[TokenScore] | None = None
    calls: tuple[CallDelta, ...] = ()
    filtered: Filtered | None = None


@dataclass(frozen=True, slots=True)
class AnswerStream:
    """Deltas as they come, then one Usage. Close `parts` early and the engine stops; errors come as ServiceErrors."""

    head: Head
    parts: AsyncGenerator[Delta | Usage, None]
    allowance: Allowance | None = None
    prompts: list[Filtered] | None = None


@dataclass(frozen=True, slots=True)
class Vectors:
    """One vector an input, each of length 1."""

    model: str
    vectors: Sequence[Sequence[float]]
    prompt_tokens: int
    allowance: Allowance | None = None
