"""One JSONL line as a typed record: chat example, prompt/completion, preference pair

The formats are OpenAI's: `{"messages": [...], "tools"?, "parallel_tool_calls"?, "functions"?}` for chat,
`{"prompt", "completion"}` for text, `{"input": {"messages": [...]}, "preferred_output", "non_preferred_output"}` for
preference pairs (OpenAI's published schema says `preferred_completion`; both spellings are read).

Two deprecated spellings are turned into today's, so that a chat template sees one shape: `functions` become `tools`,
and `function_call` with the `function` role becomes a tool call and its `tool` answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

from tailorbird.dataset.faults import Fault, inspect_messages, inspect_record, output_keys


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `content` is None only for an assistant turn that calls tools; text parts are joined without a gap."""

    role: str
    content: str | None
    name: str | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()
    tool_call_id: str | None = None
    weight: int = 1

    def to_template(self) -> dict[str, Any]:
        """The message as Hugging Face chat templates expect it.

        `developer` is shown as `system` and `function` as `tool`, the names open models were trained with. A tool
        call's arguments become a mapping when they are a JSON object (templates walk over them), else stay a string.
        Null content becomes "", because many templates would print the word None.
        """
        shown: dict[str, Any] = {
            "role": _TEMPLATE_ROLES.get(self.role, self.role),
            "content": "" if self.content is None else self.content,
        }
        if self.name is not None:
            shown["name"] = self.name
        if self.tool_calls:
            shown["tool_calls"] = [_call_for_template(call) for call in self.tool_calls]
        if self.tool_call_id is not None:
            shown["tool_call_id"] = self.tool_call_id
        return shown


_TEMPLATE_ROLES = {"developer": "system", "function": "tool"}


@dataclass(frozen=True, slots=True)
class ChatExample:
    """A conversation; the assistant's turns of weight 1 are learned."""

    messages: tuple[Message, ...]
    tools: list[dict[str, Any]] | None = None
    parallel_tool_calls: bool | None = None


@dataclass(frozen=True, slots=True)
class CompletionExample:
    """A prompt and the text to learn after it."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """A conversation and two ways to go on, the first better than the second."""

    messages: tuple[Message, ...]
    tools: list[dict[str, Any]] | None
    preferred: tuple[Message, ...]
    non_preferred: tuple[Message, ...]
    parallel_tool_calls: bool | None = None

    def conversations(self) -> tuple[ChatExample, ChatExample]:
        """The preferred and the non-preferred way as conversations of which only the output is learned."""
        given = tuple(replace(message, weight=0) for message in self.messages)
        preferred, non_preferred = (
            ChatExample(given + output, self.tools, self.parallel_tool_calls)
            for output in (self.preferred, self.non_preferred)
        )
        return preferred, non_preferred


Record = ChatExample | CompletionExample | PreferencePair


def parse_record(raw: object) -> Record | list[Fault]:
    """The record of one parsed JSON line, or every fault of that line, in the order of its fields."""
    kind, faults = inspect_record(raw)
    if faults or kind is None:
        return faults
    line = cast(dict[str, Any], raw)
    if kind == "completion":
        return CompletionExample(line["prompt"], line["completion"])
    if kind == "chat":
        return ChatExample(_build_messages(line["messages"]), _build_tools(line), line.get("parallel_tool_calls"))
    preferred, non_preferred = output_keys(line)
    return PreferencePair(
        _build_messages(line["input"]["messages"]),
        _build_tools(line["input"]),
        _build_messages(line[preferred]),
        _build_messages(line[non_preferred]),
        line["input"].get("parallel_tool_calls"),
    )


def parse_messages(raw: object) -> tuple[Message, ...] | list[Fault]:
    """The messages of a chat request, judged as a training line's are, except that any role may come last."""
    faults = inspect_messages(raw)
    return faults or _build_messages(cast(list[dict[str, Any]], raw))


def _build_messages(raw: Iterable[dict[str, Any]]) -> tuple[Message, ...]:
    return tuple(_build_message(message) for message in raw)


def _build_message(raw: dict[str, Any]) -> Message:
    content = raw.get("content")
    calls = raw.get("tool_calls") or ()
    if raw.get("function_call"):
        calls = ({"type": "function", "function": raw["function_call"]},)
    return Message(
        role=raw["role"],
        content=_joined(cast(list[dict[str, str]], content)) if isinstance(content, list) else content,
        name=raw.get("name"),
        tool_calls=tuple(calls),
        tool_call_id=raw.get("tool_call_id"),
        weight=raw.get("weight", 1),
    )


def _build_tools(line: dict[str, Any]) -> list[dict[str, Any]] | None:
    if line.get("functions"):
        return [{"type": "function", "function": function} for function in line["functions"]]
    return line.get("tools") or None


def _call_for_template(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return call
    if not isinstance(arguments, dict):
        return call
    return {**call, "function": {**function, "arguments": arguments}}


def _joined(parts: list[dict[str, str]]) -> str:
    return "".join(part["text"] for part in parts)
