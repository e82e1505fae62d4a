"""A question to a model, asked by the service itself: by graders that judge and by runs of evaluations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tailorbird.protocol.generation import Structure
from tailorbird.service.answers import ChatAsk, Sampling, ToolChoice
from tailorbird.service.chat import Chat


@dataclass(frozen=True, slots=True)
class Question:
    """`model` is a deployment or a model of the account. `schema` is a JSON schema the answer must follow."""

    model: str
    messages: Sequence[Mapping[str, Any]]
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    json_object: bool = False
    schema: dict[str, Any] | None = None
    tools: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """`model` is the served model's name."""

    text: str
    finish_reason: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    tool_calls: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


class Asker(Protocol):
    async def ask(self, account_id: str, question: Question) -> Reply:
        """Raises ServiceError."""
        ...


class ChatAsker:
    """Asks through chat, as a customer would: deployments by name, models by theirs."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat

    async def ask(self, account_id: str, question: Question) -> Reply:
        answer = await self._chat.chat(account_id, _ask(question), direct_models=True)
        choice = answer.choices[0]
        return Reply(
            text=choice.text,
            finish_reason=choice.finish_reason,
            model=answer.head.model,
            prompt_tokens=answer.usage.prompt_tokens,
            completion_tokens=answer.usage.completion_tokens,
            tool_calls=[
                {
                    "id": made.id,
                    "type": "function",
                    "function": {"name": made.call.name, "arguments": made.call.arguments},
                }
                for made in choice.calls
            ],
        )


def _ask(question: Question) -> ChatAsk:
    structure: Structure | None = None
    if question.schema is not None:
        structure = Structure("json_schema", json.dumps(question.schema))
    elif question.json_object:
        structure = Structure("json_object")
    sampling = Sampling(
        temperature=1.0 if question.temperature is None else question.temperature,
        top_p=1.0 if question.top_p is None else question.top_p,
        seed=question.seed,
    )
    return ChatAsk(
        question.model,
        list(question.messages),
        sampling,
        question.max_tokens,
        tools=ToolChoice([dict(tool) for tool in question.tools]) if question.tools else None,
        structure=structure,
    )
