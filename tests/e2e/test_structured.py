"""Answers held to a form by the real engine: schemas, forced and free tool calls, vectors, on the built-in model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, Field

pytestmark = pytest.mark.slow

ASKED: list[Any] = [{"role": "user", "content": "Book a table for two on Tuesday, name Ada."}]
MODEL = "gpt-4o-mini"


class Booking(BaseModel):
    day: Literal["monday", "tuesday"]
    guests: Literal[1, 2, 3, 4]
    outside: bool
    notes: list[Literal["quiet", "vegan"]] = Field(max_length=2)


TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "book_table",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"day": {"enum": ["monday", "tuesday"]}, "guests": {"enum": [1, 2, 3]}},
                "required": ["day", "guests"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "close"}},
]


@pytest.fixture(scope="module")
def client(service: Any) -> Iterator[openai.OpenAI]:
    azure = service.azure()
    url = f"{azure.base_url.scheme}://{azure.base_url.host}:{azure.base_url.port}/v1"
    with openai.OpenAI(base_url=url, api_key=azure.api_key, max_retries=0) as made:
        yield made


def test_an_answer_by_schema_can_be_parsed_plain_and_streamed(client: openai.OpenAI) -> None:
    for seed in range(3):
        done = client.chat.completions.parse(model=MODEL, messages=ASKED, response_format=Booking, seed=seed)
        assert isinstance(done.choices[0].message.parsed, Booking)
        assert done.choices[0].finish_reason == "stop"
    with client.chat.completions.stream(model=MODEL, messages=ASKED, response_format=Booking) as stream:
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Booking)


@pytest.mark.parametrize("stream", [False, True])
def test_a_forced_call_calls_this_tool_by_its_schema(client: openai.OpenAI, stream: bool) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": ASKED, "tools": TOOLS}
    asked["tool_choice"] = {"type": "function", "function": {"name": "book_table"}}
    if stream:
        with client.chat.completions.stream(**asked) as parts:
            choice: Any = parts.get_final_completion().choices[0]
    else:
        choice = client.chat.completions.create(**asked).choices[0]
    (call,) = choice.message.tool_calls
    booked = json.loads(call.function.arguments)
    assert (call.function.name, sorted(booked), choice.finish_reason) == (
        "book_table", ["day", "guests"], "tool_calls",
    )  # fmt: skip
    assert booked["guests"] in (1, 2, 3)
    assert not choice.message.content


def test_a_required_call_and_its_result_go_round(client: openai.OpenAI) -> None:
    said = client.chat.completions.create(
        model=MODEL, messages=ASKED, tools=TOOLS, tool_choice="required", parallel_tool_calls=False
    )
    made: Any = said.choices[0].message
    assert made.tool_calls[0].function.name in ("book_table", "close")
    result: Any = {"role": "tool", "tool_call_id": made.tool_calls[0].id, "content": "done"}
    answer = client.chat.completions.create(
        model=MODEL, messages=[*ASKED, made, result], tools=TOOLS, tool_choice="none", max_tokens=20
    )
    assert answer.choices[0].message.content


def test_vectors_are_of_length_1_and_alike_for_like_texts(client: openai.OpenAI) -> None:
    made = client.embeddings.create(model="text-embedding-3-small", input=["one text", "one text", "3 + 4 = 7"])
    first, same, other = (item.embedding for item in made.data)
    assert sum(number * number for number in first) == pytest.approx(1, abs=1e-4)
    assert first == pytest.approx(same, abs=1e-4)
    assert sum(a * b for a, b in zip(first, other, strict=True)) < 0.99


def test_a_schema_that_is_none_is_refused_by_name(client: openai.OpenAI) -> None:
    shape: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=ASKED, response_format=shape)
    assert caught.value.param == "response_format.json_schema.schema"
