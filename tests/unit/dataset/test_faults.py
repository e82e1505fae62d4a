"""Every fault of a line is found and says where it is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird.dataset.faults import inspect_record
from tailorbird.dataset.records import parse_record

USER = {"role": "user", "content": "a"}
ANSWER = {"role": "assistant", "content": "b"}
FUNCTION = {"name": "f", "parameters": {}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLED = {"role": "assistant", "tool_calls": [CALL]}
ANSWERED = {"role": "tool", "tool_call_id": "c1", "content": "x"}
ROLES = "system, user, assistant, tool, function, developer"


def chat(*messages: object, **more: object) -> dict[str, Any]:
    return {"messages": list(messages), **more}


def pair(*messages: object, **outputs: object) -> dict[str, Any]:
    return {
        "input": {"messages": list(messages)},
        "preferred_output": [ANSWER],
        "non_preferred_output": [ANSWER],
    } | outputs


CASES: list[tuple[object, str | None, str]] = [
    ([], None, "the line must be a JSON object, not a list."),
    ({}, None, "it is empty"),
    ({"text": "a"}, None, "it has 'text'"),
    ({"messages": None}, "messages", "is missing."),
    ({"messages": "a"}, "messages", "must be a list, not a string."),
    (chat(), "messages", "is empty."),
    (chat(*[ANSWER] * 2049), "messages", "has 2049 messages; at most 2048 are allowed."),
    (chat("a", ANSWER), "messages[0]", "must be an object, not a string."),
    (chat({"content": "a"}, ANSWER), "messages[0].role", f"is missing; one of {ROLES}."),
    (chat({"role": "bot", "content": "a"}, ANSWER), "messages[0].role", f"'bot' is not one of {ROLES}."),
    (chat({"role": ["user"], "content": "a"}, ANSWER), "messages[0].role", f'["user"] is not one of {ROLES}.'),
    (chat(USER), "messages", "there is no assistant message, so there is nothing to learn."),
    (chat(ANSWER, USER), "messages", "the last message must be the assistant's, not one with role 'user'."),
    (chat(USER, {**ANSWER, "weight": 0}),
     "messages", "every assistant message has weight 0, so there is nothing to learn."),
    (chat(USER, {**ANSWER, "weight": 2}), "messages[1].weight", "must be 0 or 1, not 2."),
    (chat(USER, {**ANSWER, "weight": True}), "messages[1].weight", "must be 0 or 1, not true."),
    (chat(USER, {**ANSWER, "weight": 1.0}), "messages[1].weight", "must be 0 or 1, not 1.0."),
    (chat(USER, {**ANSWER, "weight": None}), "messages[1].weight", "must be 0 or 1, not null."),
    (chat({**USER, "weight": 1}, ANSWER), "messages[0].weight", "is not a field of a message with role user."),
    (chat({**USER, "content": ""}, ANSWER), "messages[0].content", "is empty."),
    (chat({**USER, "content": " \n"}, ANSWER), "messages[0].content", "is empty."),
    (chat({**USER, "content": None}, ANSWER), "messages[0].content", "is null."),
    (chat({"role": "user"}, ANSWER), "messages[0].content", "is missing."),
    (chat({**USER, "content": 3}, ANSWER),
     "messages[0].content", "must be a string or a list of text parts, not a number."),
    (chat({**USER, "content": []}, ANSWER), "messages[0].content", "is empty."),
    (chat({**USER, "content": ["a"]}, ANSWER), "messages[0].content[0]", "must be an object, not a string."),
    (chat({**USER, "content": [{"type": "text"}]}, ANSWER),
     "messages[0].content[0].text", "must be a string, not null."),
    (chat({**USER, "content": [{"type": "image_url", "image_url": {"url": "u"}}]}, ANSWER),
     "messages[0].content[0].type",
     "'image_url' is not supported: this service trains text models."),
    (chat({**USER, "content": [{"type": "refusal", "refusal": "no"}]}, ANSWER), "messages[0].content[0].type",
     "'refusal' is not supported; only 'text' parts are."),
    (chat(USER, {**ANSWER, "content": ""}), "messages[1].content", "is empty."),
    (chat(USER, {**ANSWER, "refusal": "no"}),
     "messages[1].refusal", "is not a field of a message with role assistant."),
    (chat({**USER, "name": ""}, ANSWER), "messages[0].name", "must be a non-empty string."),
    (chat({**USER, "nmae": "x"}, ANSWER), "messages[0].nmae", "is not a field of a message with role user."),
    (chat(USER, ANSWER, tool=[]),
     "tool", "is not a known field; known are functions, messages, parallel_tool_calls, tools."),
    (chat(USER, ANSWER, parallel_tool_calls=1), "parallel_tool_calls", "must be true or false, not a number."),
    (chat(USER, ANSWER, tools={}), "tools", "must be a list, not an object."),
    (chat(USER, ANSWER, tools=["f"]), "tools[0]", "must be an object, not a string."),
    (chat(USER, ANSWER, tools=[{"type": "function"}]),
     "tools[0].function", "must be an object with a name and parameters."),
    (chat(USER, ANSWER, tools=[{"type": "x", "function": FUNCTION}]), "tools[0].type", "must be 'function', not 'x'."),
    (chat(USER, ANSWER, functions=[{"name": "a b"}]), "functions[0].name",
     "must be 1 to 64 letters, digits, underscores or dashes, not 'a b'."),
    (chat(USER, ANSWER, functions=[{**FUNCTION, "parameters": "{}"}]), "functions[0].parameters",
     "must be an object, not a string."),
    (chat(USER, ANSWER, functions=[FUNCTION], tools=[]), "functions", "cannot stand beside tools."),
    (chat(USER, ANSWER, functions=[FUNCTION] * 129), "functions", "has 129 entries; at most 128 are allowed."),
    (chat(USER, {**CALLED, "tool_calls": []}), "messages[1].tool_calls", "must be a non-empty list."),
    (chat(USER, {**CALLED, "tool_calls": ["f"]}), "messages[1].tool_calls[0]", "must be an object, not a string."),
    (chat(USER, {**CALLED, "tool_calls": [CALL, CALL]}), "messages[1].tool_calls[1].id", "'c1' is used twice."),
    (chat(USER, {**CALLED, "tool_calls": [{**CALL, "id": ""}]}),
     "messages[1].tool_calls[0].id", "must be a non-empty string."),
    (chat(USER, {**CALLED, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": {}}}]}),
     "messages[1].tool_calls[0].function.arguments", "must be a string of JSON, not an object."),
    (chat(USER, {**CALLED, "tool_calls": [CALL, {**CALL, "id": "c2"}]}, parallel_tool_calls=False),
     "messages[1].tool_calls", "has several calls, but parallel_tool_calls is false."),
    (chat(USER, {**CALLED, "function_call": CALL["function"]}),
     "messages[1].function_call", "cannot stand beside tool_calls."),
    (chat(USER, CALLED, ANSWER), "messages[2]", "tool call(s) 'c1' must be answered by tool messages first."),
    (chat(USER, CALLED, {**ANSWERED, "tool_call_id": "c2"}, ANSWERED, ANSWER), "messages[2].tool_call_id",
     "'c2' answers no open tool call of the assistant turn before."),
    (chat(USER, CALLED, ANSWERED, ANSWERED, ANSWER), "messages[3].tool_call_id",
     "'c1' answers no open tool call of the assistant turn before."),
    (chat(USER, CALLED, {"role": "tool", "content": "x", "tool_call_id": ["c1"]}), "messages[2].tool_call_id",
     "is missing: the id of the tool call this message answers."),
    (chat({"role": "function", "content": "x"}, ANSWER), "messages[0].name",
     "is missing: the name of the function that answered."),
    ({"prompt": "a"}, "completion", "is missing."),
    ({"prompt": "a", "completion": ""}, "completion", "is empty, so there is nothing to learn."),
    ({"prompt": 1, "completion": "b"}, "prompt", "must be a string, not a number."),
    ({"prompt": "a", "completion": "b", "weight": 1}, "weight", "is not a known field; known are completion, prompt."),
    ({"input": [USER], "preferred_output": [ANSWER], "non_preferred_output": [ANSWER]}, "input",
     "must be an object, not a list."),
    ({"input": {"messages": [USER]}, "preferred_output": [ANSWER]}, "non_preferred_output", "is missing."),
    ({"input": {"messages": [USER]}, "preferred_output": [USER, ANSWER], "non_preferred_output": [ANSWER]},
     "preferred_output[0].role", "must be assistant or tool in an output."),
    ({"input": {"messages": [USER]}, "preferred_output": [], "non_preferred_output": [ANSWER]},
     "preferred_output", "is empty."),
    (pair({**USER, "weight": 1}), "input.messages[0].weight", "is not a field of a message with role user."),
    (pair(USER, {**ANSWER, "weight": 1}, USER), "input.messages[1].weight",
     "must be 0 or absent: of a preference pair only the outputs are learned."),
    (pair(USER, preferred_output=[{**ANSWER, "weight": 0}]), "preferred_output",
     "every assistant message has weight 0, so there is nothing to learn."),
    (pair(USER, preferred_output=[CALLED, ANSWERED, USER]), "preferred_output[2].role",
     "must be assistant or tool in an output."),
    (pair(USER, non_preferred_output=[ANSWERED]), "non_preferred_output", "there is no assistant message."),
    ({"input": {"messages": [USER], "parallel_tool_calls": False}, "non_preferred_output": [ANSWER],
      "preferred_output": [{**CALLED, "tool_calls": [CALL, {**CALL, "id": "c2"}]}]},
     "preferred_output[0].tool_calls", "has several calls, but parallel_tool_calls is false."),
    (pair(USER, preferred_completion=[ANSWER]), "preferred_completion", "is not a known field"),
    (chat({**USER, "content": "x" * 1_048_577}, ANSWER), "messages[0].content",
     "has 1048577 characters; at most 1048576 are allowed."),
    (chat({**USER, "content": [{"type": "text", "text": "x" * 600_000}] * 2}, ANSWER), "messages[0].content",
     "has 1200000 characters; at most 1048576 are allowed."),
    (chat(USER, ANSWER, tools=[{"type": "function", "function": FUNCTION}] * 129), "tools",
     "has 129 entries; at most 128 are allowed."),
    (chat(USER, {**CALLED, "tool_calls": [{**CALL, "function": {"name": "f" * 65, "arguments": "{}"}}]}),
     "messages[1].tool_calls[0].function.name", "must be 1 to 64 letters, digits, underscores or dashes"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "where", "text"), CASES)
def test_a_fault_is_named_with_its_place(raw: object, where: str | None, text: str) -> None:
    faults = parse_record(raw)
    assert isinstance(faults, list)
    assert any(field == where and text in message for field, message in faults), faults


@pytest.mark.parametrize("name", ["_", "-", "get_weather-2", "f" * 64])
def test_a_function_may_have_any_name_of_letters_digits_underscores_and_dashes(name: str) -> None:
    assert inspect_record(chat(USER, ANSWER, functions=[{"name": name}])) == ("chat", [])


@pytest.mark.parametrize("name", ["", "f" * 65, "a b", "é", "a.b", "a\n", None, 1])
def test_any_other_name_of_a_function_is_a_fault(name: object) -> None:
    _, faults = inspect_record(chat(USER, ANSWER, functions=[{"name": name}]))
    assert [field for field, _ in faults] == ["functions[0].name"]


def test_all_faults_of_a_line_are_found_at_once() -> None:
    raw = chat({"role": "bot"}, {**USER, "content": ""}, {**ANSWER, "weight": 2}, USER, extra=1)
    _, faults = inspect_record(raw)
    assert [field for field, _ in faults] == [
        "extra",
        "messages[0].role",
        "messages[1].content",
        "messages[2].weight",
        "messages",
    ]


def test_long_values_and_names_are_cut_in_messages() -> None:
    _, faults = inspect_record(chat({"role": "r" * 500, "content": "a"}, **{"k" * 500: 1}))
    assert all(len(field or "") <= 80 and len(message) < 200 for field, message in faults)


KEYS = [
    *("role", "content", "name", "weight", "tool_calls", "tool_call_id", "id", "type", "text", "function", "arguments"),
    *("messages", "tools", "functions", "input", "preferred_output", "prompt", "completion"),
]
values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "a", "user", "assistant", "tool", "c1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=14,
)


@settings(max_examples=150, deadline=None)
@given(raw=values, message=values)
def test_no_json_value_breaks_the_checks(raw: object, message: object) -> None:
    for line in (raw, chat(message, ANSWER), chat(USER, message), {"input": message, "preferred_output": raw}):
        _, faults = inspect_record(line)
        assert isinstance(parse_record(line), list) == bool(faults)
