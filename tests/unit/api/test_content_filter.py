"""The content filter: prompts refused in Azure's words, answers withheld, streams judged before they leave."""

from __future__ import annotations

import asyncio
import json

import pytest

from tailorbird.service.filtering import SETTING, texts_of_messages

SAFE = {"filtered": False, "severity": "safe"}


@pytest.fixture
def setting(world, account):
    """Sets the account's content filter."""

    def put(value: str | None) -> None:
        with world.store.begin() as tx:
            tx.account_settings.put(account.id, SETTING, value)

    return put


@pytest.fixture
def chat(on, deployed, setting):
    """Sends one message to the deployment, on Azure's v1 surface unless another is named."""
    setting("on")

    def send(text="Hi", surface="azure-v1", name=deployed, **fields):
        body = {"messages": [{"role": "user", "content": text}]} | fields
        if surface == "azure":
            return on(surface)("POST", f"/deployments/{name}/chat/completions", json=body)
        return on(surface)("POST", "/chat/completions", json={"model": name} | body)

    return send


def events(answer) -> list[dict]:
    lines = [line for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def said(chunks: list[dict]) -> str:
    return "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk["choices"])


def reasons(chunks: list[dict]) -> list[str]:
    return [c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]]


@pytest.mark.parametrize("surface", ["azure", "azure-v1"])
def test_a_harmful_prompt_is_refused_with_azures_body_and_never_answered(chat, engine, surface):
    before = len(engine.asked)
    answer = chat("something forbidden", surface)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["message"].startswith(
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
    )
    assert (error["code"], error["param"], error["status"]) == ("content_filter", "prompt", 400)
    assert error["innererror"] == {
        "code": "ResponsibleAIPolicyViolation",
        "content_filter_result": {
            "hate": SAFE,
            "self_harm": SAFE,
            "sexual": SAFE,
            "violence": {"filtered": True, "severity": "high"},
        },
    }
    assert len(engine.asked) == before


def test_openais_surface_gets_its_own_body(chat):
    error = chat("something forbidden", "openai").json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == "content_filter"


def test_a_tool_calls_arguments_in_the_history_are_judged_as_well():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"text": "forbidden"}'}}
    history = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "done"},
    ]
    assert {"Hi", "forbidden", "done"} <= set(texts_of_messages(history))


def test_a_harmless_exchange_is_annotated(chat):
    body = chat("a bit rude").json()
    (prompt,) = body["prompt_filter_results"]
    assert prompt["prompt_index"] == 0
    assert prompt["content_filter_results"]["violence"] == {"filtered": False, "severity": "low"}
    assert body["choices"][0]["content_filter_results"]["violence"] == SAFE
    assert body["choices"][0]["message"]["content"] == "Hello there!"


def test_openais_surface_carries_no_annotations(chat):
    body = chat(surface="openai").json()
    assert "prompt_filter_results" not in body
    assert "content_filter_results" not in body["choices"][0]


def test_a_harmful_answer_is_withheld(chat, engine):
    engine.reply = "a forbidden word"
    choice = chat().json()["choices"][0]
    assert choice["finish_reason"] == "content_filter"
    assert choice["message"]["content"] is None
    assert choice["content_filter_results"]["violence"] == {"filtered": True, "severity": "high"}


def test_of_several_choices_only_the_harmful_one_is_withheld(chat, engine):
    engine.replies = {0: ("fine", -0.1), 1: ("forbidden", -0.2)}
    try:
        choices = chat(n=2).json()["choices"]
    finally:
        engine.replies = {}
    assert [choice["finish_reason"] for choice in choices] == ["stop", "content_filter"]
    assert choices[0]["message"]["content"] == "fine"


def test_a_stream_begins_with_what_was_found_in_the_prompt_and_says_everything(chat, engine):
    engine.reply = "One sentence. Another one!"
    chunks = events(chat(stream=True))
    assert chunks[0]["choices"] == []
    assert chunks[0]["prompt_filter_results"][0]["content_filter_results"]["hate"] == SAFE
    assert said(chunks) == "One sentence. Another one!"
    assert reasons(chunks) == ["stop"]
    assert all("content_filter_results" in c for chunk in chunks[2:] for c in chunk["choices"])


def test_of_a_harmful_stream_nothing_leaves_but_the_sentences_before(chat, engine):
    engine.reply = "This is fine. Now something forbid" + "den follows here. More."
    chunks = events(chat(stream=True, stream_options={"include_usage": True}))
    assert said(chunks) == "This is fine."
    assert reasons(chunks) == ["content_filter"]
    assert chunks[-1]["usage"]["completion_tokens"] == len(engine.reply)


def test_what_harm_is_only_together_with_what_has_left_is_found(chat, engine):
    engine.reply = "x" * 155 + " forbi" + "dden"
    chunks = events(chat(stream=True))
    assert reasons(chunks) == ["content_filter"]
    assert "dden" not in said(chunks)


def test_a_filter_that_is_down_lets_nothing_through(chat, engine):
    assert chat("outage").status_code == 503
    engine.reply = "outage"
    assert chat().status_code == 503
    assert "error" in events(chat(stream=True))[-1]


def test_a_stored_answer_is_the_filtered_one(chat, engine, on):
    engine.reply = "a forbidden word"
    made = chat(store=True, metadata={"k": "v"}).json()
    stored = on("azure-v1")("GET", f"/chat/completions/{made['id']}").json()
    assert stored["choices"][0]["finish_reason"] == "content_filter"
    assert "forbidden" not in json.dumps(stored)


def test_completions_are_filtered_too(on, engine, setting):
    setting("on")
    call = on("openai")
    refused = call("POST", "/completions", json={"model": "babbage-002", "prompt": ["fine", "forbidden"]})
    assert refused.json()["error"]["code"] == "content_filter"
    engine.reply = "forbidden"
    body = call("POST", "/completions", json={"model": "babbage-002", "prompt": "fine"}).json()
    assert (body["choices"][0]["finish_reason"], body["choices"][0]["text"]) == ("content_filter", "")


def test_nothing_is_filtered_until_an_account_wants_it(chat, setting):
    setting(None)
    body = chat("something forbidden").json()
    assert "prompt_filter_results" not in body


def test_a_deployment_that_names_a_policy_is_filtered_unless_its_account_says_off(world, account, chat, setting):
    setting(None)
    world.services.deployments.create(
        account, "ruled", model_name="gpt-4o-mini", by="test", rai_policy="Microsoft.DefaultV2"
    )
    asyncio.run(world.services.deployments.provision(account.id, "ruled"))
    try:
        assert chat("something forbidden", name="ruled").status_code == 400
        setting("off")
        assert chat("something forbidden", name="ruled").status_code == 200
    finally:
        asyncio.run(world.services.deployments.delete(account.id, "ruled"))
