"""What is wrong with one JSONL line, field by field; builds nothing, so that judging a file is cheap

The rules are OpenAI's for fine-tuning files and chat requests. A check appends to the list it is given and goes on, so
one pass finds every fault of the line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

Fault = tuple[str | None, str]
"""Where in the line (`messages[1].role`; None for the whole line) and what is wrong there."""

Kind = Literal["chat", "completion", "preference"]

ROLES = ("system", "user", "assistant", "tool", "function", "developer")
MAX_MESSAGES = 2048
MAX_TOOLS = 128
MAX_CONTENT = 1_048_576
"""Characters in the content of one message."""


def inspect_record(raw: object) -> tuple[Kind | None, list[Fault]]:
    """The kind of one parsed JSON line (None when it is none) and all its faults, in the order of its fields."""
    faults: list[Fault] = []
    if not isinstance(raw, dict):
        return None, [(None, f"the line must be a JSON object, not {_kind_of(raw)}.")]
    line = cast(dict[str, Any], raw)
    if "messages" in line:
        _inspect_chat(line, faults)
        return "chat", faults
    if "prompt" in line or "completion" in line:
        _inspect_completion(line, faults)
        return "completion", faults
    if "input" in line or any(key in line for pair in _OUTPUT_SPELLINGS for key in pair):
        _inspect_preference(line, faults)
        return "preference", faults
    found = f"it has {_names(line)}" if line else "it is empty"
    return None, [
        (
            None,
            "the line is no training example: expected 'messages', or 'prompt' and 'completion', or 'input' with "
            f"'preferred_output' and 'non_preferred_output'; {found}.",
        )
    ]


def inspect_messages(raw: object) -> list[Fault]:
    """All faults of the messages of a chat request; any role may come last."""
    faults: list[Fault] = []
    _check_messages(raw, "messages", faults)
    return faults


_CHAT_KEYS = frozenset({"messages", "tools", "parallel_tool_calls", "functions"})
_COMPLETION_KEYS = frozenset({"prompt", "completion"})
_OUTPUT_SPELLINGS = (
    ("preferred_output", "non_preferred_output"),
    ("preferred_completion", "non_preferred_completion"),
)
_MESSAGE_KEYS: dict[str, frozenset[str]] = {
    "system": frozenset({"role", "content", "name"}),
    "developer": frozenset({"role", "content", "name"}),
    "user": frozenset({"role", "content", "name"}),
    "assistant": frozenset({"role", "content", "name", "tool_calls", "function_call", "weight"}),
    "tool": frozenset({"role", "content", "name", "tool_call_id"}),
    "function": frozenset({"role", "content", "name"}),
}
_EMPTY_SDK_KEYS = frozenset({"refusal", "audio", "annotations"})
"""What the SDK's `message.model_dump()` adds to an assistant turn; harmless while null or empty."""


def _inspect_chat(line: dict[str, Any], faults: list[Fault]) -> None:
    if not _CHAT_KEYS.issuperset(line):
        _refuse_unknown(line, _CHAT_KEYS, "", faults)
    _check_tools(line, "", faults)
    messages = line["messages"]
    before = len(faults)
    _check_messages(messages, "messages", faults)
    if len(faults) == before:
        _check_one_call_at_a_time(line, messages, "messages", faults)
        if messages[-1]["role"] == "assistant" and messages[-1].get("weight", 1):
            return
    if not isinstance(messages, list) or not messages:
        return
    turns = [cast(dict[str, Any], turn) if isinstance(turn, dict) else {} for turn in cast(list[Any], messages)]
    roles = [turn.get("role") for turn in turns]
    if "assistant" not in roles:
        faults.append(("messages", "there is no assistant message, so there is nothing to learn."))
    elif roles[-1] in ROLES and roles[-1] != "assistant":
        faults.append(("messages", f"the last message must be the assistant's, not one with role {roles[-1]!r}."))
    elif all(turn.get("weight", 1) == 0 for turn in turns if turn.get("role") == "assistant"):
        faults.append(("messages", "every assistant message has weight 0, so there is nothing to learn."))


def _inspect_completion(line: dict[str, Any], faults: list[Fault]) -> None:
    if not _COMPLETION_KEYS.issuperset(line):
        _refuse_unknown(line, _COMPLETION_KEYS, "", faults)
    for key in ("prompt", "completion"):
        if key not in line:
            faults.append((key, "is missing."))
        elif not isinstance(line[key], str):
            faults.append((key, f"must be a string, not {_kind_of(line[key])}."))
        # A prompt may be empty: OpenAI's way to teach free text.
        elif key == "completion" and not line[key]:
            faults.append((key, "is empty, so there is nothing to learn."))


def _inspect_preference(line: dict[str, Any], faults: list[Fault]) -> None:
    keys = output_keys(line)
    _refuse_unknown(line, {"input", *keys}, "", faults)
    before = line.get("input")
    waiting: set[str] = set()
    given: dict[str, Any] = {}
    if isinstance(before, dict):
        given = cast(dict[str, Any], before)
        _refuse_unknown(given, _CHAT_KEYS, "input.", faults)
        _check_tools(given, "input.", faults)
        known = len(faults)
        waiting = _check_messages(given.get("messages"), "input.messages", faults)
        if len(faults) == known:
            _check_given(given["messages"], faults)
            _check_one_call_at_a_time(given, given["messages"], "input.messages", faults)
    else:
        faults.append(("input", "is missing." if before is None else f"must be an object, not {_kind_of(before)}."))
    for key in keys:
        known = len(faults)
        _check_messages(line.get(key), key, faults, frozenset(waiting))
        if len(faults) == known:
            _check_one_call_at_a_time(given, line[key], key, faults)
            if all(turn.get("weight", 1) == 0 for turn in line[key] if turn["role"] == "assistant"):
                faults.append((key, "every assistant message has weight 0, so there is nothing to learn."))


def _check_given(messages: list[dict[str, Any]], faults: list[Fault]) -> None:
    """What is given before two outputs is never learned: a weight that says otherwise is a mistake."""
    for index, message in enumerate(messages):
        if message.get("weight", 0) != 0:
            text = "must be 0 or absent: of a preference pair only the outputs are learned."
            faults.append((f"input.messages[{index}].weight", text))


def _check_one_call_at_a_time(
    line: dict[str, Any], messages: list[dict[str, Any]], where: str, faults: list[Fault]
) -> None:
    """Holds sound messages to what their line says about parallel calls."""
    if line.get("parallel_tool_calls") is not False:
        return
    for index, message in enumerate(messages):
        if len(message.get("tool_calls") or ()) > 1:
            faults.append((f"{where}[{index}].tool_calls", "has several calls, but parallel_tool_calls is false."))


def output_keys(line: Mapping[str, Any]) -> tuple[str, str]:
    """The names under which a preference line holds its preferred and its non-preferred output."""
    return next((pair for pair in _OUTPUT_SPELLINGS if any(key in line for key in pair)), _OUTPUT_SPELLINGS[0])


def _check_messages(messages: object, where: str, faults: list[Fault], after: frozenset[str] | None = None) -> set[str]:
    """Returns the ids of the tool calls still unanswered at the end.

    `after` is given when these turns go on from an input: its unanswered calls. Only assistant and tool may speak then.
    """
    continues = after is not None
    if not isinstance(messages, list):
        faults.append((where, "is missing." if messages is None else f"must be a list, not {_kind_of(messages)}."))
        return set()
    turns = cast(list[Any], messages)
    if not turns:
        faults.append((where, "is empty."))
    elif len(turns) > MAX_MESSAGES:
        faults.append((where, f"has {len(turns)} messages; at most {MAX_MESSAGES} are allowed."))
        return set()
    calls = _OpenCalls(where, set(after or ()))
    for index, turn in enumerate(turns):
        if not isinstance(turn, dict):
            faults.append((f"{where}[{index}]", f"must be an object, not {_kind_of(turn)}."))
            continue
        message = cast(dict[str, Any], turn)
        # Most turns of most files are just this; the long way round is for the others.
        content = message.get("content")
        if (
            len(message) == 2
            and type(content) is str
            and 0 < len(content) <= MAX_CONTENT
            and not content.isspace()
            and not calls.waiting
        ):
            role = message.get("role")
            if role == "assistant" or (not continues and role in _PLAIN_ROLES):
                continue
        _check_message(message, f"{where}[{index}]", faults)
        calls.follow(message, index, faults)
        if continues and message.get("role") not in ("assistant", "tool"):
            faults.append((f"{where}[{index}].role", "must be assistant or tool in an output."))
    if continues and turns and not any(_role(turn) == "assistant" for turn in turns):
        faults.append((where, "there is no assistant message."))
    return calls.waiting


_PLAIN_ROLES = ("user", "system", "developer")


@dataclass(slots=True)
class _OpenCalls:
    """Follows tool calls and their answers through one conversation."""

    where: str
    waiting: set[str]

    def follow(self, message: dict[str, Any], index: int, faults: list[Fault]) -> None:
        role = message.get("role")
        if role == "tool":
            answered = message.get("tool_call_id")
            if isinstance(answered, str) and answered not in self.waiting:
                text = f"{answered!r} answers no open tool call of the assistant turn before."
                faults.append((f"{self.where}[{index}].tool_call_id", text))
            self.waiting -= {answered} if isinstance(answered, str) else set()
            return
        if self.waiting and role is not None:
            text = f"tool call(s) {_names(self.waiting)} must be answered by tool messages first."
            faults.append((f"{self.where}[{index}]", text))
            self.waiting = set()
        raw_calls = message.get("tool_calls")
        if role == "assistant" and isinstance(raw_calls, list):
            ids = [
                cast(dict[str, Any], call).get("id") for call in cast(list[Any], raw_calls) if isinstance(call, dict)
            ]
            self.waiting = {call_id for call_id in ids if isinstance(call_id, str)}


def _check_message(message: dict[str, Any], where: str, faults: list[Fault]) -> None:
    role = message.get("role")
    if role not in ROLES:
        if "role" not in message:
            text = f"is missing; one of {', '.join(ROLES)}."
        else:
            text = f"{_shown(role)} is not one of {', '.join(ROLES)}."
        faults.append((f"{where}.role", text))
        return
    known = _MESSAGE_KEYS[role]
    if not known.issuperset(message):
        if role == "assistant":
            known |= {key for key in _EMPTY_SDK_KEYS if not message.get(key)}
        _refuse_unknown(message, known, f"{where}.", faults, of=f"a message with role {role}")
    name = message.get("name")
    if name is not None and (not isinstance(name, str) or not name):
        faults.append((f"{where}.name", "must be a non-empty string."))
    if role == "function" and name is None:
        faults.append((f"{where}.name", "is missing: the name of the function that answered."))
    if role == "tool" and not (isinstance(message.get("tool_call_id"), str) and message["tool_call_id"]):
        faults.append((f"{where}.tool_call_id", "is missing: the id of the tool call this message answers."))
    if "weight" in message and role == "assistant":
        weight = message["weight"]
        if type(weight) is not int or weight not in (0, 1):
            faults.append((f"{where}.weight", f"must be 0 or 1, not {_shown(weight)}."))
    calls = role == "assistant" and _check_calls(message, where, faults)
    # A tool may answer with nothing, and a turn that calls tools need not speak.
    _check_content(message, where, faults, may_be_null=calls, may_be_empty=calls or role in ("tool", "function"))


def _check_content(
    message: dict[str, Any], where: str, faults: list[Fault], *, may_be_null: bool, may_be_empty: bool
) -> None:
    content = message.get("content")
    if isinstance(content, str):
        if not may_be_empty and (not content or content.isspace()):
            faults.append((f"{where}.content", "is empty."))
        _check_length(len(content), f"{where}.content", faults)
    elif content is None:
        if not may_be_null:
            faults.append((f"{where}.content", "is null." if "content" in message else "is missing."))
    elif isinstance(content, list):
        before = len(faults)
        _check_parts(cast(list[Any], content), f"{where}.content", faults)
        parts = cast(list[dict[str, str]], content)
        if len(faults) == before and not may_be_empty and all(not part["text"].strip() for part in parts):
            faults.append((f"{where}.content", "is empty."))
        if len(faults) == before:
            _check_length(sum(len(part["text"]) for part in parts), f"{where}.content", faults)
    else:
        faults.append((f"{where}.content", f"must be a string or a list of text parts, not {_kind_of(content)}."))


def _check_length(characters: int, where: str, faults: list[Fault]) -> None:
    if characters > MAX_CONTENT:
        faults.append((where, f"has {characters} characters; at most {MAX_CONTENT} are allowed."))


def _check_parts(parts: list[Any], where: str, faults: list[Fault]) -> None:
    for index, part in enumerate(parts):
        here = f"{where}[{index}]"
        if not isinstance(part, dict):
            faults.append((here, f"must be an object, not {_kind_of(part)}."))
            continue
        given = cast(dict[str, Any], part)
        kind = given.get("type")
        if kind in ("image_url", "input_audio", "file"):
            faults.append((f"{here}.type", f"{kind!r} is not supported: this service trains text models."))
        elif kind != "text":
            faults.append((f"{here}.type", f"{_shown(kind)} is not supported; only 'text' parts are."))
        else:
            _refuse_unknown(given, {"type", "text"}, f"{here}.", faults)
            if not isinstance(given.get("text"), str):
                faults.append((f"{here}.text", f"must be a string, not {_kind_of(given.get('text'))}."))


def _check_calls(message: dict[str, Any], where: str, faults: list[Fault]) -> bool:
    """Whether this assistant turn calls anything, rightly or wrongly."""
    calls, legacy = message.get("tool_calls"), message.get("function_call")
    if legacy is not None:
        if calls is not None:
            faults.append((f"{where}.function_call", "cannot stand beside tool_calls."))
        _check_function_call(legacy, f"{where}.function_call", faults)
    if calls is None:
        return legacy is not None
    if not isinstance(calls, list) or not calls:
        faults.append((f"{where}.tool_calls", "must be a non-empty list."))
        return True
    seen: set[str] = set()
    for index, call in enumerate(cast(list[Any], calls)):
        here = f"{where}.tool_calls[{index}]"
        if not isinstance(call, dict):
            faults.append((here, f"must be an object, not {_kind_of(call)}."))
            continue
        given = cast(dict[str, Any], call)
        _refuse_unknown(given, {"id", "type", "function"}, f"{here}.", faults)
        call_id = given.get("id")
        if not isinstance(call_id, str) or not call_id:
            faults.append((f"{here}.id", "must be a non-empty string."))
        elif call_id in seen:
            faults.append((f"{here}.id", f"{call_id!r} is used twice."))
        else:
            seen.add(call_id)
        if given.get("type") != "function":
            faults.append((f"{here}.type", f"must be 'function', not {_shown(given.get('type'))}."))
        _check_function_call(given.get("function"), f"{here}.function", faults)
    return True


def _check_function_call(call: object, where: str, faults: list[Fault]) -> None:
    if not isinstance(call, dict):
        faults.append((where, "is missing." if call is None else f"must be an object, not {_kind_of(call)}."))
        return
    given = cast(dict[str, Any], call)
    _refuse_unknown(given, {"name", "arguments"}, f"{where}.", faults)
    _check_function_name(given.get("name"), f"{where}.name", faults)
    if not isinstance(given.get("arguments"), str):
        faults.append((f"{where}.arguments", f"must be a string of JSON, not {_kind_of(given.get('arguments'))}."))


_FUNCTION_NAME = re.compile("[A-Za-z0-9_-]{1,64}").fullmatch


def _check_function_name(name: object, where: str, faults: list[Fault]) -> None:
    if not (isinstance(name, str) and _FUNCTION_NAME(name)):
        faults.append((where, f"must be 1 to 64 letters, digits, underscores or dashes, not {_shown(name)}."))


def _check_tools(line: dict[str, Any], prefix: str, faults: list[Fault]) -> None:
    parallel = line.get("parallel_tool_calls")
    if parallel is not None and not isinstance(parallel, bool):
        faults.append((f"{prefix}parallel_tool_calls", f"must be true or false, not {_kind_of(parallel)}."))
    if line.get("tools") is not None and line.get("functions") is not None:
        faults.append((f"{prefix}functions", "cannot stand beside tools."))
    check: Callable[[dict[str, Any], str, list[Fault]], None]
    for key, check in (("tools", _check_tool), ("functions", _check_function)):
        value = line.get(key)
        if value is None:
            continue
        if not isinstance(value, list):
            faults.append((f"{prefix}{key}", f"must be a list, not {_kind_of(value)}."))
            continue
        entries = cast(list[Any], value)
        if len(entries) > MAX_TOOLS:
            faults.append((f"{prefix}{key}", f"has {len(entries)} entries; at most {MAX_TOOLS} are allowed."))
        for index, entry in enumerate(entries):
            here = f"{prefix}{key}[{index}]"
            if isinstance(entry, dict):
                check(cast(dict[str, Any], entry), here, faults)
            else:
                faults.append((here, f"must be an object, not {_kind_of(entry)}."))


def _check_tool(tool: dict[str, Any], where: str, faults: list[Fault]) -> None:
    _refuse_unknown(tool, {"type", "function"}, f"{where}.", faults)
    if tool.get("type") != "function":
        faults.append((f"{where}.type", f"must be 'function', not {_shown(tool.get('type'))}."))
    function = tool.get("function")
    if isinstance(function, dict):
        _check_function(cast(dict[str, Any], function), f"{where}.function", faults)
    else:
        faults.append((f"{where}.function", "must be an object with a name and parameters."))


def _check_function(function: dict[str, Any], where: str, faults: list[Fault]) -> None:
    _refuse_unknown(function, {"name", "description", "parameters", "strict"}, f"{where}.", faults)
    _check_function_name(function.get("name"), f"{where}.name", faults)
    for key, wanted, words in (
        ("description", str, "a string"),
        ("parameters", dict, "an object"),
        ("strict", bool, "true or false"),
    ):
        if function.get(key) is not None and not isinstance(function[key], wanted):
            faults.append((f"{where}.{key}", f"must be {words}, not {_kind_of(function[key])}."))


def _refuse_unknown(
    given: Mapping[str, Any], known: Iterable[str], prefix: str, faults: list[Fault], of: str | None = None
) -> None:
    allowed = set(known)
    for key in given:
        if key not in allowed:
            text = (
                f"is not a field of {of}." if of else f"is not a known field; known are {', '.join(sorted(allowed))}."
            )
            faults.append((f"{prefix}{key[:80]}", text))


def _role(turn: object) -> object:
    return cast(dict[str, Any], turn).get("role") if isinstance(turn, dict) else None


def _kind_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"


def _shown(value: object) -> str:
    """A value in a fault's text: strings in single quotes, the rest as JSON, never long."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _names(names: Iterable[str]) -> str:
    shown = [repr(name[:40]) for name in sorted(names)]
    return ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "")
