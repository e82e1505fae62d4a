"""Structured output over a live socket: vLLM's `structured_outputs`, its refusals, and slow schemas."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import httpx
import pytest

from tailorbird.protocol.generation import Structure

ASK: dict[str, Any] = {"model": "base", "prompt": [5, 6, 7, 8], "max_tokens": 150, "temperature": 0}
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["leaf", "nest"]}, "seats": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["kind", "seats"],
    "additionalProperties": False,
}


def ask(client: httpx.Client, structure: Any, **more: Any) -> httpx.Response:
    return client.post("/v1/completions", json=ASK | {"structured_outputs": structure} | more)


def text(reply: httpx.Response) -> str:
    assert reply.status_code == 200, reply.text
    (choice,) = reply.json()["choices"]
    assert choice["finish_reason"] == "stop"
    return choice["text"]


@pytest.mark.parametrize("schema", [SCHEMA, json.dumps(SCHEMA)])
@pytest.mark.parametrize("model", ["base", "red"])
def test_json_follows_its_schema(client: httpx.Client, tokenizer: Any, schema: Any, model: str) -> None:
    # The random model would spend its tokens on the space that JSON allows.
    terse = {str(tokenizer.token_to_id(space)): -100 for space in ("\u0120", "\u010a", "\u0109", "\u010d")}
    found = json.loads(text(ask(client, {"json": schema}, model=model, logit_bias=terse)))
    assert list(found) == ["kind", "seats"]
    assert found["kind"] in ("leaf", "nest")


def test_json_object_is_an_object(client: httpx.Client) -> None:
    # Left to itself the random model writes one endless string: a brace is made likely.
    bias = {str(token): -100 for token in range(3, 300) if token not in (93, 95)}
    assert isinstance(json.loads(text(ask(client, {"json_object": True}, logit_bias=bias))), dict)


@pytest.mark.parametrize("pattern", ["[a-c]{2}/[0-9]{2}", r"[a-c]{2}\/[0-9]{2}", r"[a-c]{2}[/][0-9]{2}"])
def test_a_regular_expression_may_hold_slashes(client: httpx.Client, pattern: str) -> None:
    found = text(ask(client, {"regex": pattern}))
    assert (len(found), found[2]) == (5, "/")


def test_a_regular_expression_may_hold_line_feeds(client: httpx.Client) -> None:
    assert text(ask(client, {"regex": "a\nb"})) == "a\nb"


def test_a_choice_is_one_of_the_texts(client: httpx.Client) -> None:
    assert text(ask(client, {"choice": ['say "x"\n\\', 'caf\u00e9 "y"']})) in ('say "x"\n\\', 'caf\u00e9 "y"')


def test_a_grammar_of_larks_kind_is_followed(client: httpx.Client) -> None:
    grammar = 'start: "a" middle "c"\nmiddle: "b" | "bb"'
    assert text(ask(client, {"grammar": grammar})) in ("abc", "abbc")


def test_a_stream_says_the_same(client: httpx.Client) -> None:
    body = ASK | {"structured_outputs": {"json": SCHEMA}, "stream": True}
    with client.stream("POST", "/v1/completions", json=body) as reply:
        events = [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: {")]
    assert "".join(event["choices"][0]["text"] for event in events) == text(ask(client, {"json": SCHEMA}))


@pytest.mark.parametrize(
    ("structure", "part"),
    [
        ({"json": {"type": "nope"}}, "Invalid type: nope"),
        ({"json": "[1]"}, "JSON schema"),
        ({"json": "{"}, "JSON schema"),
        ({"json": True}, "JSON schema"),
        ({"json_object": False}, "must be true"),
        ({"regex": "(a"}, "unclosed group"),
        ({"regex": ""}, "regular expression"),
        ({"choice": []}, "non-empty strings"),
        ({"choice": ["a", 1]}, "non-empty strings"),
        ({"grammar": "begin"}, "structured_outputs"),
        ({}, "exactly one of json, json_object, regex, choice, grammar"),
        ({"json": {}, "regex": "a"}, "exactly one"),
        ("json", "must be a JSON object"),
    ],
)
def test_what_cannot_be_followed_is_400_with_the_reason(client: httpx.Client, structure: Any, part: str) -> None:
    reply = ask(client, structure)
    error = reply.json()["error"]
    assert (reply.status_code, error["type"], error["param"]) == (400, "BadRequestError", "structured_outputs")
    assert part in error["message"]


def test_an_option_nobody_honours_is_refused_by_name(client: httpx.Client) -> None:
    error = ask(client, {"json": SCHEMA, "whitespace_pattern": " "}).json()["error"]
    assert error["param"] == "structured_outputs.whitespace_pattern"


def test_a_slow_schema_holds_up_nobody_else(client: httpx.Client, live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler, go_on = live.api.compiler, threading.Event()
    read = compiler._compile

    def slow(structure: Structure) -> Any:
        if "slow" in structure.value:
            assert go_on.wait(30)
        return read(structure)

    monkeypatch.setattr(compiler, "_compile", slow)
    replies: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: replies.append(ask(client, {"choice": ["slow"]})))
    asking.start()
    try:
        assert client.post("/v1/completions", json=ASK).status_code == 200
        assert text(ask(client, {"choice": ["quick"]})) == "quick"
        assert replies == []
    finally:
        go_on.set()
        asking.join(30)
    assert text(replies[0]) == "slow"


def test_whoever_hangs_up_does_not_take_the_grammar_from_others(
    client: httpx.Client, live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler, go_on = live.api.compiler, threading.Event()
    read = compiler._compile
    monkeypatch.setattr(compiler, "_compile", lambda structure: go_on.wait(30) and read(structure))
    with pytest.raises(httpx.ReadTimeout):
        client.post("/v1/completions", json=ASK | {"structured_outputs": {"choice": ["shared"]}}, timeout=0.1)
    replies: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: replies.append(ask(client, {"choice": ["shared"]})))
    asking.start()
    time.sleep(0.05)
    go_on.set()
    asking.join(30)
    assert text(replies[0]) == "shared"


def test_structured_requests_are_counted(client: httpx.Client) -> None:
    def count() -> float:
        lines = client.get("/metrics").text.splitlines()
        name = "tailorbird_engine_structured_requests_total "
        return float(next(line for line in lines if line.startswith(name)).split()[1])

    before = count()
    ask(client, {"json": SCHEMA})
    client.post("/v1/completions", json=ASK)
    assert count() == before + 1
