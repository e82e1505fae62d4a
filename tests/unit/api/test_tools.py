"""Tools and forms of answers over the wire: what reaches the engine, and what its answer becomes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from openai import OpenAI
from pydantic import BaseModel

from tailorbird.api.bodies.chat import ChatBody
from tailorbird.service.ports import EngineRefused

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "weather", "description": "d", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "now"}},
]
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
ONE = '<|call|>{"name": "weather", "arguments": {"city": "Rome"}}<|/call|>'
TWO = ONE + '<|call|>{"name": "now", "arguments": {}}<|/call|>'

Send = Callable[..., Any]


@pytest.fixture
def chat(call: Any, deployed: str, engine: Any) -> Send:
    def send(**fields: Any) -> Any:
        return call("POST", f"/deployments/{deployed}/chat/completions", json=ASK | fields)

    return send


@pytest.fixture
def quick(on: Any, deployed: str, engine: Any) -> Send:
    """The same on one surface, for what no dialect changes."""

    def send(**fields: Any) -> Any:
        return on("azure-v1")("POST", "/chat/completions", json={"model": deployed} | ASK | fields)

    return send


@pytest.fixture
def sdk(world: Any, account: Any, engine: Any, deployed: str) -> Any:
    with OpenAI(base_url=f"{world.url}/v1", api_key=account.key1, _strict_response_validation=True) as client:
        yield client


def choice(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]


def deltas(answer: Any) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    return [json.loads(line)["choices"][0] for line in lines if line != "[DONE]"]


def test_tools_are_shown_to_the_model_and_a_call_comes_back(chat: Send, engine: Any) -> None:
    engine.reply = TWO
    said = choice(chat(tools=TOOLS))
    assert said["finish_reason"] == "tool_calls"
    message = said["message"]
    assert message["content"] is None
    assert [made["function"] for made in message["tool_calls"]] == [
        {"name": "weather", "arguments": '{"city": "Rome"}'},
        {"name": "now", "arguments": "{}"},
    ]
    assert all(made["type"] == "function" and made["id"].startswith("call_") for made in message["tool_calls"])
    assert len({made["id"] for made in message["tool_calls"]}) == 2
    prompt = engine.tokenizer.decode(engine.asked[-1].prompt, skip_special_tokens=False)
    assert prompt.startswith("<|system|>Tools: weather now<|end|>")
    assert engine.asked[-1].structure is None, "a model that may call or not writes freely"


def test_text_before_a_call_is_content_and_what_is_no_call_stays_text(quick: Send, engine: Any) -> None:
    engine.reply = "One moment. " + ONE
    said = choice(quick(tools=TOOLS))
    assert (said["message"]["content"], said["finish_reason"]) == ("One moment.", "tool_calls")
    engine.reply = '<|call|>{"name": "unknown", "arguments": {}}<|/call|>'
    said = choice(quick(tools=TOOLS))
    assert (said["message"]["content"], said["finish_reason"]) == (engine.reply, "stop")
    assert "tool_calls" not in said["message"]


@pytest.mark.parametrize(
    ("asked", "called"),
    [
        ({"tool_choice": "required"}, ["weather", "now"]),
        ({"tool_choice": {"type": "function", "function": {"name": "now"}}}, ["now"]),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {
                "mode": "required", "tools": [{"type": "function", "function": {"name": "weather"}}]}}},
            ["weather"],
        ),
    ],
)  # fmt: skip
def test_a_forced_choice_holds_the_engine_to_calls_of_these_tools(
    quick: Send, engine: Any, asked: dict[str, Any], called: list[str]
) -> None:
    engine.reply = ONE
    assert choice(quick(tools=TOOLS, **asked))["finish_reason"] == "tool_calls"
    structure = engine.asked[-1].structure
    assert structure.kind == "grammar"
    assert [name for name in ("weather", "now") if f'"{name}\\"' in structure.value] == called
    assert "TEXT" not in structure.value
    assert ("weather" in called) == ('"required": ["city"]' in structure.value)
    prompt = engine.tokenizer.decode(engine.asked[-1].prompt)
    assert "Tools: weather now" in prompt, "all tools are shown, whoever may be called"


def test_a_strict_tool_holds_calls_to_its_schema_and_leaves_text_free(quick: Send, engine: Any) -> None:
    strict = {"type": "function", "function": TOOLS[0]["function"] | {"strict": True}}
    assert choice(quick(tools=[strict]))["message"]["content"] == "Hello there!"
    grammar = engine.asked[-1].structure.value
    assert "start: TEXT |" in grammar
    assert '"required": ["city"]' in grammar


def test_allowed_tools_in_mode_auto_hold_calls_to_these_and_leave_text_free(quick: Send, engine: Any) -> None:
    allowed = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "now"}}]}
    said = choice(quick(tools=TOOLS, tool_choice={"type": "allowed_tools", "allowed_tools": allowed}))
    assert said["message"]["content"] == "Hello there!"
    grammar = engine.asked[-1].structure.value
    assert "start: TEXT |" in grammar
    assert "weather" not in grammar


def test_without_parallel_calls_there_is_one(quick: Send, engine: Any) -> None:
    engine.reply = TWO
    assert len(choice(quick(tools=TOOLS, parallel_tool_calls=False))["message"]["tool_calls"]) == 1
    quick(tools=TOOLS, parallel_tool_calls=False, tool_choice="required")
    assert ")*" not in engine.asked[-1].structure.value
    quick(tools=TOOLS, tool_choice="required")
    assert ")*" in engine.asked[-1].structure.value


def test_a_choice_of_none_shows_no_tools(quick: Send, engine: Any) -> None:
    assert choice(quick(tools=TOOLS, tool_choice="none"))["finish_reason"] == "stop"
    assert "Tools" not in engine.tokenizer.decode(engine.asked[-1].prompt)


def test_a_stream_names_the_call_first_and_then_gives_its_arguments(chat: Send, engine: Any) -> None:
    engine.reply = TWO
    parts = deltas(chat(tools=TOOLS, tool_choice="required", stream=True))
    assert parts[0]["delta"] == {"role": "assistant", "content": None, "refusal": None}
    calls = [part["delta"]["tool_calls"][0] for part in parts if "tool_calls" in part["delta"]]
    begins = [made for made in calls if "id" in made]
    assert [(made["index"], made["type"], made["function"]) for made in begins] == [
        (0, "function", {"name": "weather", "arguments": ""}),
        (1, "function", {"name": "now", "arguments": ""}),
    ]
    pieces = [made["function"]["arguments"] for made in calls if made["index"] == 0]
    assert "".join(pieces) == '{"city": "Rome"}'
    assert len(pieces) > 3, "while it is written"
    assert parts[-1]["finish_reason"] == "tool_calls"


def test_a_free_call_is_streamed_when_it_is_whole(quick: Send, engine: Any) -> None:
    engine.reply = "Well. " + ONE
    parts = deltas(quick(tools=TOOLS, stream=True, n=2))
    for index in (0, 1):
        own = [part["delta"] for part in parts if part["index"] == index]
        assert "".join(delta.get("content") or "" for delta in own) == "Well."
        calls = [made for delta in own for made in delta.get("tool_calls", [])]
        assert [made["function"]["arguments"] for made in calls] == ["", '{"city": "Rome"}']
    engine.reply = ONE[:-12]
    own = [part["delta"] for part in deltas(quick(tools=TOOLS, stream=True))]
    assert "".join(delta.get("content") or "" for delta in own) == ONE[:-12]


def test_a_call_its_result_and_the_answer_make_a_round(quick: Send, engine: Any) -> None:
    engine.reply = ONE
    asked = [{"role": "user", "content": "Weather?"}]
    made = choice(quick(messages=asked, tools=TOOLS))["message"]
    engine.reply = "It is sunny in Rome."
    result = {"role": "tool", "tool_call_id": made["tool_calls"][0]["id"], "content": "sunny"}
    said = choice(quick(messages=[*asked, made, result], tools=TOOLS))
    assert said["message"]["content"] == "It is sunny in Rome."
    prompt = engine.tokenizer.decode(engine.asked[-1].prompt, skip_special_tokens=False)
    assert prompt.endswith(f"<|user|>Weather?<|end|><|assistant|>{ONE}<|end|><|tool|>sunny<|end|><|assistant|>"), (
        "rendered by the one template, as training does"
    )


def test_the_old_functions_are_answered_in_their_old_shape(chat: Send, engine: Any) -> None:
    engine.reply = ONE
    functions = [tool["function"] for tool in TOOLS]
    said = choice(chat(functions=functions, function_call={"name": "weather"}))
    assert said["finish_reason"] == "function_call"
    assert said["message"]["function_call"] == {"name": "weather", "arguments": '{"city": "Rome"}'}
    assert "tool_calls" not in said["message"]
    parts = deltas(chat(functions=functions, stream=True))
    calls = [part["delta"]["function_call"] for part in parts if "function_call" in part["delta"]]
    assert calls[0] == {"name": "weather", "arguments": ""}
    assert "".join(made["arguments"] for made in calls) == '{"city": "Rome"}'
    assert parts[-1]["finish_reason"] == "function_call"


def test_a_json_object_and_a_schema_hold_the_engine(chat: Send, engine: Any) -> None:
    engine.reply = '{"city": "Rome"}'
    chat(response_format={"type": "json_object"})
    assert engine.asked[-1].structure.kind == "json_object"
    for strict in (True, False, None):
        shape = {"type": "json_schema", "json_schema": {"name": "c", "schema": SCHEMA, "strict": strict}}
        assert choice(chat(response_format=shape))["message"]["content"] == engine.reply
        assert engine.asked[-1].structure.kind == "json_schema"
        assert json.loads(engine.asked[-1].structure.value) == SCHEMA


def test_a_schema_with_tools_leaves_a_call_or_an_answer_by_the_schema(quick: Send, engine: Any) -> None:
    quick(tools=TOOLS, response_format={"type": "json_schema", "json_schema": {"name": "c", "schema": SCHEMA}})
    assert f"| answer\nanswer: %json {json.dumps(SCHEMA)}" in engine.asked[-1].structure.value


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "c", "schema": SCHEMA}}},
         "response_format.json_schema.schema"),
        ({"tools": TOOLS, "tool_choice": "required"}, "tools"),
        ({"functions": [TOOLS[1]["function"]], "function_call": {"name": "now"}}, "functions"),
    ],
)  # fmt: skip
def test_a_form_the_engine_refuses_is_named_with_its_reason(
    quick: Send, engine: Any, fields: dict[str, Any], param: str
) -> None:
    engine.failure = EngineRefused("structured_outputs: Invalid type: nonsense\n   4 | grammar")
    for stream in (False, True):
        answer = quick(**fields, stream=stream)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["param"] == param
        assert error["message"].endswith("Invalid type: nonsense")


FUNCTION = {"name": "f"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "x" * 65}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": FUNCTION | {"parameters": []}}]}, "tools[0].function.parameters"),
        ({"tools": [{"type": "function", "function": FUNCTION | {"colour": 1}}]}, "tools[0].function.colour"),
        ({"tools": TOOLS * 65}, "tools"),
        ({"tools": TOOLS * 2}, "tools"),
        ({"tools": TOOLS, "functions": [FUNCTION]}, "functions"),
        ({"tools": TOOLS, "tool_choice": "always"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "later"}}}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "name": "now"}}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}}, "tool_choice"),
        ({"tools": TOOLS, "function_call": {"name": "now"}}, "function_call"),
        ({"functions": [FUNCTION], "function_call": "required"}, "function_call"),
        ({"functions": [FUNCTION], "tool_choice": "required"}, "tool_choice"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ],
)
def test_a_fault_in_tools_is_named(quick: Send, engine: Any, fields: dict[str, Any], param: str) -> None:
    answer = quick(**fields)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert engine.asked == []


def test_chunks_are_padded_on_request_only(quick: Send, engine: Any) -> None:
    plain = quick(stream=True).text
    assert "obfuscation" not in plain
    hidden = quick(stream=True, stream_options={"include_obfuscation": True})
    chunks = [json.loads(line[6:]) for line in hidden.text.split("\n\n") if line and "[DONE]" not in line]
    sizes = {len(json.dumps(chunk["choices"][0]["delta"])) + len(chunk["obfuscation"]) for chunk in chunks}
    assert all(size % 32 == 0 for size in sizes)
    assert len({chunk["obfuscation"] for chunk in chunks}) > 5


# --- the SDK's helpers ------------------------------------------------------------------------------------------------


class City(BaseModel):
    city: str


def test_the_sdk_parses_an_answer_into_a_model(sdk: Any, deployed: str, engine: Any) -> None:
    engine.reply = '{"city": "Rome"}'
    done = sdk.chat.completions.parse(model=deployed, messages=ASK["messages"], response_format=City)
    assert done.choices[0].message.parsed == City(city="Rome")
    with sdk.chat.completions.stream(model=deployed, messages=ASK["messages"], response_format=City) as stream:
        events = [event.type for event in stream]
        assert stream.get_final_completion().choices[0].message.parsed == City(city="Rome")
    assert events[-1] == "content.done"
    assert json.loads(engine.asked[-1].structure.value)["additionalProperties"] is False


def test_the_sdk_streams_and_parses_tool_calls(sdk: Any, deployed: str, engine: Any) -> None:
    engine.reply = TWO
    strict = [{"type": "function", "function": tool["function"] | {"strict": True}} for tool in TOOLS]
    done = sdk.chat.completions.parse(model=deployed, messages=ASK["messages"], tools=strict)
    assert done.choices[0].message.tool_calls[0].function.parsed_arguments == {"city": "Rome"}
    with sdk.chat.completions.stream(model=deployed, messages=ASK["messages"], tools=strict) as stream:
        arguments = [e.arguments_delta for e in stream if e.type == "tool_calls.function.arguments.delta"]
        final = stream.get_final_completion().choices[0].message
    assert "".join(arguments) == '{"city": "Rome"}{}'
    assert [made.function.name for made in final.tool_calls] == ["weather", "now"]


def test_a_tool_keeps_the_order_of_its_fields_in_which_training_showed_it() -> None:
    sent = (
        '{"messages": [], "tools": [{"function": {"parameters": {"b": 1, "a": 2}, "name": "f"}, "type": "function"}]}'
    )
    asked = ChatBody.model_validate_json(sent).tools_asked()
    assert asked is not None
    assert json.dumps(asked.tools) == json.dumps(json.loads(sent)["tools"])
