"""Lines that are fine become records; the spellings of older files become today's."""

from __future__ import annotations

import json
from typing import Any

from tailorbird.dataset.records import (
    ChatExample,
    CompletionExample,
    Message,
    PreferencePair,
    parse_messages,
    parse_record,
)

USER = {"role": "user", "content": "Weather?"}
ANSWER = {"role": "assistant", "content": "Grey."}
FUNCTION = {"name": "get_weather", "description": "d", "parameters": {"type": "object"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Köln"}'}}


def test_a_chat_line_becomes_a_chat_example() -> None:
    raw = {"messages": [USER, {**ANSWER, "weight": 0}, USER, ANSWER], "parallel_tool_calls": True}
    assert parse_record(raw) == ChatExample(
        (
            Message("user", "Weather?"),
            Message("assistant", "Grey.", weight=0),
            Message("user", "Weather?"),
            Message("assistant", "Grey."),
        ),
        None,
        True,
    )


def test_text_parts_are_joined_to_one_string() -> None:
    parts = [{"type": "text", "text": "Wea"}, {"type": "text", "text": "ther?"}]
    record = parse_record({"messages": [{"role": "user", "content": parts}, ANSWER]})
    assert isinstance(record, ChatExample)
    assert record.messages[0].content == "Weather?"


def test_tools_and_calls_are_kept_and_shown_with_parsed_arguments() -> None:
    tool = {"type": "function", "function": FUNCTION}
    called = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    answered = {"role": "tool", "tool_call_id": "c1", "content": ""}
    record = parse_record({"messages": [USER, called, answered, ANSWER], "tools": [tool]})
    assert isinstance(record, ChatExample)
    assert record.tools == [tool]
    assert record.messages[1].tool_calls == (CALL,)
    assert record.messages[1].to_template() == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{**CALL, "function": {"name": "get_weather", "arguments": {"city": "Köln"}}}],
    }
    assert record.messages[2].to_template() == {"role": "tool", "content": "", "tool_call_id": "c1"}


def test_arguments_that_are_no_json_object_stay_a_string() -> None:
    for arguments in ("not json", "[1]", "3"):
        call = {**CALL, "function": {"name": "f", "arguments": arguments}}
        shown = Message("assistant", None, tool_calls=(call,)).to_template()
        assert shown["tool_calls"] == [call]


def test_functions_and_function_calls_of_older_files_become_tools_and_tool_calls() -> None:
    call = {"name": "get_weather", "arguments": "{}"}
    raw = {
        "messages": [
            USER,
            {"role": "assistant", "content": None, "function_call": call},
            {"role": "function", "name": "get_weather", "content": "grey"},
            ANSWER,
        ],
        "functions": [FUNCTION],
    }
    record = parse_record(raw)
    assert isinstance(record, ChatExample)
    assert record.tools == [{"type": "function", "function": FUNCTION}]
    assert record.messages[1].tool_calls == ({"type": "function", "function": call},)
    assert record.messages[2].to_template() == {"role": "tool", "name": "get_weather", "content": "grey"}


def test_a_developer_message_is_shown_as_system() -> None:
    shown = Message("developer", "Be brief.", name="boss").to_template()
    assert shown == {"role": "system", "content": "Be brief.", "name": "boss"}


def test_a_prompt_line_becomes_a_completion_example_and_its_prompt_may_be_empty() -> None:
    assert parse_record({"prompt": "", "completion": " x"}) == CompletionExample("", " x")


def test_both_spellings_of_a_preference_line_are_read() -> None:
    for better, worse in [
        ("preferred_output", "non_preferred_output"),
        ("preferred_completion", "non_preferred_completion"),
    ]:
        raw = {"input": {"messages": [USER]}, better: [ANSWER], worse: [{**ANSWER, "content": "?"}]}
        assert parse_record(raw) == PreferencePair(
            (Message("user", "Weather?"),), None, (Message("assistant", "Grey."),), (Message("assistant", "?"),)
        )


def test_an_output_may_answer_a_call_of_its_input() -> None:
    called = {"role": "assistant", "tool_calls": [CALL]}
    answered = {"role": "tool", "tool_call_id": "c1", "content": "grey"}
    raw: dict[str, Any] = {
        "input": {"messages": [USER, called]},
        "preferred_output": [answered, ANSWER],
        "non_preferred_output": [ANSWER],
    }
    faults = parse_record(raw)
    assert faults == [("non_preferred_output[0]", "tool call(s) 'c1' must be answered by tool messages first.")]
    raw["non_preferred_output"] = raw["preferred_output"]
    assert isinstance(parse_record(raw), PreferencePair)


def test_what_the_sdk_adds_to_an_answer_is_accepted_while_empty() -> None:
    dumped = {**ANSWER, "refusal": None, "audio": None, "annotations": [], "function_call": None, "tool_calls": None}
    assert isinstance(parse_record({"messages": [USER, dumped]}), ChatExample)


def test_messages_of_a_request_may_end_with_any_role() -> None:
    assert parse_messages([USER]) == (Message("user", "Weather?"),)
    assert parse_messages([]) == [("messages", "is empty.")]
    assert parse_messages(json.loads('[{"role": "user"}]')) == [("messages[0].content", "is missing.")]
