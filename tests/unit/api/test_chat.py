from __future__ import annotations

import json
import time

import httpx
import pytest

from tailorbird.service.ports import EngineDown, EngineRefused

ASK = {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]}


@pytest.fixture
def chat(call, deployed, engine):
    """Sends a chat request to the deployment as the surface's SDK would: Azure's dated one names it in the path."""

    def send(body=None, name=deployed, **fields):
        body = (ASK if body is None else body) | fields
        if call.surface == "azure":
            return call("POST", f"/deployments/{name}/chat/completions", json=body)
        return call("POST", "/chat/completions", json={"model": name} | body)

    return send


@pytest.fixture
def complete(on, world, account, engine):
    """Completions with a completion model, which OpenAI's surface serves without a deployment."""

    def send(**fields):
        return on("openai")("POST", "/completions", json={"model": "babbage-002"} | fields)

    return send


def chunks(answer) -> list[dict]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    assert all(line.startswith("data: ") for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_a_chat_answer_has_the_contract_s_shape(chat, engine):
    body = chat().json()
    assert body["object"] == "chat.completion"
    assert body["model"] == "gpt-4o-mini-2024-07-18", "the served model, never the deployment's name"
    choice = body["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "Hello there!", "refusal": None}
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)
    prompt = engine.tokenizer.encode("<|system|>Be kind.<|end|><|user|>Hi<|end|><|assistant|>").ids
    assert engine.asked[-1].prompt == prompt, "rendered by the one template"
    assert body["usage"] == {"prompt_tokens": len(prompt), "completion_tokens": 12, "total_tokens": len(prompt) + 12}
    assert engine.asked[-1].max_tokens == 256 - len(prompt), "without a limit, what the context leaves"


def test_every_sampling_field_reaches_the_engine(chat, engine):
    chat(
        temperature=0.3, top_p=0.5, n=2, stop="END", seed=7, presence_penalty=1, frequency_penalty=-1.5,
        logit_bias={"5": -100}, logprobs=True, top_logprobs=2, max_completion_tokens=9,
    )  # fmt: skip
    asked = engine.asked[-1]
    assert (asked.temperature, asked.top_p, asked.n, asked.stop, asked.seed) == (0.3, 0.5, 2, ["END"], 7)
    assert (asked.presence_penalty, asked.frequency_penalty, asked.logit_bias) == (1.0, -1.5, {5: -100.0})
    assert (asked.top_logprobs, asked.max_tokens) == (2, 9)
    assert engine.tokenizer.token_to_id("<|end|>") in asked.stop_token_ids


def test_a_top_p_of_zero_leaves_the_likeliest_token(chat, engine):
    assert chat(top_p=0).is_success
    assert 0 < engine.asked[-1].top_p < 1e-6


def test_n_choices_come_in_order_and_are_all_counted(chat):
    body = chat(n=3).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert body["usage"]["completion_tokens"] == 36


def test_logprobs_carry_tokens_bytes_and_alternatives(chat):
    content = chat(logprobs=True, top_logprobs=2).json()["choices"][0]["logprobs"]["content"]
    assert [token["token"] for token in content] == list("Hello there!")
    assert content[0]["bytes"] == [72]
    assert (content[0]["logprob"], len(content[0]["top_logprobs"])) == (-0.5, 2)
    assert chat(logprobs=True).json()["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


@pytest.mark.parametrize("stream", [False, True])
def test_the_token_that_ended_an_answer_is_not_scored(chat, engine, stream):
    engine.reply = "Hi<|end|>"
    answer = chat(logprobs=True, stream=stream)
    scored = [c["choices"][0]["logprobs"] for c in (chunks(answer) if stream else [answer.json()])]
    assert [token["token"] for part in scored if part for token in part["content"]] == ["H", "i"]


def test_fields_that_change_nothing_are_taken(chat):
    answer = chat(
        user="u", metadata={"k": "v"}, store=False, service_tier="auto", parallel_tool_calls=True, tools=[],
        response_format={"type": "text"}, modalities=["text"], temperature=None, stop=None, stream=False, n=None,
    )  # fmt: skip
    assert answer.is_success, answer.text


def test_a_developer_speaks_as_the_system_and_parts_are_joined(chat, engine):
    parts = [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]
    chat({"messages": [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": parts}]})
    assert engine.tokenizer.decode(engine.asked[-1].prompt, skip_special_tokens=False) == (
        "<|system|>Be kind.<|end|><|user|>Hi<|end|><|assistant|>"
    )


REFUSED = [
    ({"tool_choice": "required"}, "tool_choice"),
    ({"function_call": {"name": "f"}}, "function_call"),
    ({"response_format": {"type": "yaml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_object", "json_schema": {"name": "x"}}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "no dots."}}},
     "response_format.json_schema.name"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": "s"}}},
     "response_format.json_schema.schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True}}},
     "response_format.json_schema.schema"),
    ({"moderation": {"model": "m"}}, "moderation"),
    ({"metadata": {"k": "v" * 513}}, "metadata"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "alloy"}}, "audio"),
    ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
    ({"reasoning_effort": "low"}, "reasoning_effort"),
    ({"service_tier": "flex"}, "service_tier"),
    ({"data_sources": [{}]}, "data_sources"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": -0.1}, "top_p"),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"stop": [""]}, "stop"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"logit_bias": {"a": 1}}, "logit_bias"),
    ({"logit_bias": {"1": 101}}, "logit_bias"),
    ({"logit_bias": {"99999": 1}}, "logit_bias"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"seed": 2**63}, "seed"),
    ({"best_friend": 1}, "best_friend"),
    ({"messages": []}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": [{"role": "bot", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
     "messages[0].content[0].type"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param"), REFUSED)
def test_what_cannot_be_honoured_is_refused_by_name(chat, call, engine, fields, param):
    answer = chat(**fields)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert param.split("[")[0] in error["message"]
    assert engine.asked == []
    assert error["code"] == (None if call.is_openai else "invalidPayload")


def test_a_prompt_that_does_not_fit_is_refused_with_the_numbers(chat, call):
    long = {"messages": [{"role": "user", "content": "x" * 300}]}
    error = chat(long).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "256 tokens" in error["message"]
    assert "303 tokens" in error["message"]
    error = chat(max_tokens=250).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "250 in the completion" in error["message"]


def test_an_unknown_name_is_a_missing_deployment_on_azure_and_a_missing_model_on_openai(chat, call):
    answer = chat(name="nothing")
    assert answer.status_code == 404
    error = answer.json()["error"]
    if call.is_openai:
        assert (error["code"], error["type"]) == ("model_not_found", "invalid_request_error")
        assert error["message"] == "The model `nothing` does not exist or you do not have access to it."
    else:
        assert error["code"] == "DeploymentNotFound"
        assert error["message"].startswith("The API deployment for this resource does not exist.")


def test_a_catalogue_name_needs_a_deployment_on_azure_only(chat, call):
    answer = chat(name="gpt-4o-mini")
    assert answer.status_code == (200 if call.is_openai else 404)


def test_a_request_without_model_and_deployment_names_the_field(call):
    error = call("POST", "/chat/completions", json=ASK).json()["error"]
    assert error["param"] == "model"


def test_the_deployment_in_the_path_wins_over_the_body(call, deployed, engine):
    answer = call("POST", f"/deployments/{deployed}/chat/completions", json=ASK | {"model": "other"})
    assert answer.status_code == 200, answer.text


def test_a_completion_model_is_refused_for_chat_and_the_other_way_round(on, engine):
    call = on("openai")
    for path, model, body in (
        ("/chat/completions", "babbage-002", ASK),
        ("/completions", "gpt-4o-mini", {"prompt": "x"}),
    ):
        answer = call("POST", path, json={"model": model} | body)
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == ("OperationNotSupported", "model")
    assert engine.asked == []


# --- streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_gives_role_text_reason_and_done(chat):
    events = chunks(chat(stream=True))
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in events) == "Hello there!"
    assert [e["choices"][0]["finish_reason"] for e in events[-2:]] == [None, "stop"]
    assert events[-1]["choices"][0]["delta"] == {}
    assert {e["object"] for e in events} == {"chat.completion.chunk"}
    assert len({e["id"] for e in events}) == 1
    assert all("usage" not in e for e in events)


def test_usage_comes_last_when_it_is_asked_for(chat):
    events = chunks(chat(stream=True, stream_options={"include_usage": True}))
    assert all(e["usage"] is None for e in events[:-1])
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens"] == 12


def test_choices_of_a_stream_are_told_apart_by_index(chat):
    events = chunks(chat(stream=True, n=2, logprobs=True))
    for index in (0, 1):
        own = [e["choices"][0] for e in events if e["choices"][0]["index"] == index]
        assert "".join(c["delta"].get("content", "") for c in own) == "Hello there!"
        assert sum(len(c["logprobs"]["content"]) for c in own if c["logprobs"]) == 12


def test_what_goes_wrong_before_the_first_token_has_a_status(chat, engine, call):
    engine.failure = EngineDown("secret address")
    answer = chat(stream=True)
    assert answer.status_code == 503
    assert "secret" not in answer.text
    engine.failure = EngineRefused("the prompt is odd")
    answer = chat()
    assert answer.status_code == 400
    assert "the prompt is odd" in answer.json()["error"]["message"]


def test_what_goes_wrong_in_the_middle_is_an_event(chat, engine, call):
    engine.break_after = 4
    events = chunks(chat(stream=True))
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in events[:-1]) == "Hell"
    error = events[-1]["error"]
    assert error["type"] == "server_error"
    if not call.is_openai:
        assert error["code"] == "serviceUnavailable"


def test_an_adapter_the_engine_lost_is_loaded_and_asked_again(chat, engine, world):
    engine.loaded.clear()
    # The base itself cannot be loaded: after one more try the caller is told to come back.
    assert chat().status_code == 503
    assert len(engine.asked) == 2


def test_a_client_that_hangs_up_stops_the_engine(world, account, deployed, engine, http):
    engine.pause = 0.05
    engine.reply = "x" * 200
    url = "/openai/v1/chat/completions"
    with http.stream(
        "POST", url, json=ASK | {"model": deployed, "stream": True}, headers={"api-key": account.key1}
    ) as wire:
        lines = wire.iter_lines()
        next(lines)
        assert engine.closed == 0
    deadline = time.monotonic() + 5
    while engine.closed == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert engine.closed == 1


def test_a_client_that_hangs_up_on_a_plain_request_stops_the_work(world, account, deployed, engine, http):
    engine.pause = 30
    with pytest.raises(httpx.ReadTimeout):
        http.post(
            "/openai/v1/chat/completions",
            json=ASK | {"model": deployed},
            headers={"api-key": account.key1},
            timeout=0.4,
        )
    deadline = time.monotonic() + 5
    while engine.cancelled == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert engine.cancelled == 1


def test_a_deployment_remembers_that_it_was_used(chat, world, account, deployed):
    assert chat().is_success
    assert world.services.deployments.get(account.id, deployed).last_used_at is not None


# --- completions ------------------------------------------------------------------------------------------------------


def test_completions_answer_every_form_of_prompt(complete, engine):
    body = complete(prompt="ab", max_tokens=5).json()
    assert (body["object"], body["choices"][0]["text"]) == ("text_completion", "Hello")
    assert body["choices"][0]["finish_reason"] == "length"
    ids = engine.tokenizer.encode("ab").ids
    assert engine.asked[-1].prompt == ids
    complete(prompt=ids)
    assert engine.asked[-1].prompt == ids
    assert engine.asked[-1].max_tokens == 16, "OpenAI's default"
    body = complete(prompt=["ab", "abc"], n=2).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert body["usage"]["prompt_tokens"] == 5
    assert [len(request.prompt) for request in engine.asked[-2:]] == [2, 3]
    complete(prompt=[ids, ids])
    assert [request.prompt for request in engine.asked[-2:]] == [ids, ids]


def test_echo_gives_the_prompt_back_and_scores_it_with_logprobs(complete):
    choice = complete(prompt="ab", max_tokens=2, echo=True, logprobs=1).json()["choices"][0]
    assert choice["text"] == "abHe"
    assert choice["logprobs"]["tokens"] == ["a", "b", "H", "e"]
    assert choice["logprobs"]["token_logprobs"] == [None, -0.25, -0.5, -0.5]
    assert choice["logprobs"]["text_offset"] == [0, 1, 2, 3]
    assert [bool(top) for top in choice["logprobs"]["top_logprobs"]] == [False, False, True, True]


def test_scoring_alone_draws_nothing(complete):
    body = complete(prompt="ab", max_tokens=0, echo=True, logprobs=0).json()
    assert body["choices"][0]["text"] == "ab"
    assert body["choices"][0]["logprobs"]["token_logprobs"] == [None, -0.25]
    assert body["usage"]["completion_tokens"] == 0


def test_the_likeliest_of_best_of_answers_are_given(complete, engine):
    engine.replies = {0: ("poor", -3.0), 1: ("best", -0.1), 2: ("good", -0.2)}
    body = complete(prompt=["ab", "c"], best_of=3, n=2).json()
    assert [choice["text"] for choice in body["choices"]] == ["best", "good"] * 2
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert all(choice["logprobs"] is None for choice in body["choices"]), "asked for to choose, not to show"
    assert body["usage"]["completion_tokens"] == 2 * 3 * 4, "all that were drawn are counted"
    assert (engine.asked[-1].n, engine.asked[-1].top_logprobs) == (3, 0)
    scored = complete(prompt="ab", best_of=3, logprobs=1).json()["choices"]
    assert (len(scored), scored[0]["text"], len(scored[0]["logprobs"]["tokens"])) == (1, "best", 4)
    assert complete(prompt="ab", best_of=0).json()["choices"][0]["text"] == "poor", "0 is none, as on Azure"


def test_completions_stream_text_and_echo(complete):
    events = chunks(complete(prompt=["ab", "c"], max_tokens=3, echo=True, stream=True))
    texts = ["".join(e["choices"][0]["text"] for e in events if e["choices"][0]["index"] == i) for i in (0, 1)]
    assert texts == ["abHel", "cHel"]
    events = chunks(complete(prompt="ab", max_tokens=3, logprobs=0, stream=True))
    assert [e["choices"][0]["logprobs"]["text_offset"] for e in events] == [[0], [1], [2]]


@pytest.mark.parametrize(("fields", "param"), [
    ({"prompt": "x", "suffix": "y"}, "suffix"),
    ({"prompt": "x", "best_of": 1, "n": 2}, "best_of"),
    ({"prompt": "x", "best_of": 3, "stream": True}, "best_of"),
    ({"prompt": "x", "best_of": 21}, "best_of"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [99999]}, "prompt"),
    ({"prompt": "x", "logprobs": 6}, "logprobs"),
    ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
    ({"prompt": "x", "echo": True, "logprobs": 1, "stream": True}, "echo"),
    ({"prompt": "x" * 300}, "prompt"),
    ({"prompt": {"a": 1}}, None),
    ({}, "prompt"),
])  # fmt: skip
def test_completions_refuse_by_name(complete, fields, param):
    answer = complete(**fields)
    assert answer.status_code == 400, answer.text
    found = answer.json()["error"]["param"]
    assert found == param if param else found.startswith("prompt")
