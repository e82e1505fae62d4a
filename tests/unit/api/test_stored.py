"""Stored chat completions on every surface."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from openai import AzureOpenAI

ASK: dict[str, Any] = {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]}
PATH = "/chat/completions"

Send = Callable[..., Any]


@pytest.fixture
def chat(call: Any, deployed: str, engine: Any) -> Send:
    def send(**fields: Any) -> Any:
        answer = call("POST", f"/deployments/{deployed}{PATH}", json=ASK | {"store": True} | fields)
        assert answer.status_code == 200, answer.text
        return answer

    return send


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["data"]]


def test_a_stored_answer_is_read_back_with_what_it_was_asked_by(chat: Send, call: Any) -> None:
    given = chat(metadata={"team": "a"}, temperature=0.5, seed=7, logprobs=True, top_logprobs=1, user="u").json()
    stored = call("GET", f"{PATH}/{given['id']}").json()
    assert {key: stored[key] for key in given} == given
    assert (stored["metadata"], stored["temperature"], stored["seed"]) == ({"team": "a"}, 0.5, 7)
    assert (stored["top_p"], stored["tools"], stored["input_user"]) == (1.0, None, "u")


def test_a_streamed_answer_is_stored_when_it_is_whole(chat: Send, call: Any, engine: Any) -> None:
    engine.reply = 'Well. <|call|>{"name": "f", "arguments": {"a": 1}}<|/call|>'
    tool = {"type": "function", "function": {"name": "f"}}
    chunks = chat(stream=True, n=2, tools=[tool]).text.split("\n\n")
    first = json.loads(chunks[0].removeprefix("data: "))
    stored = call("GET", f"{PATH}/{first['id']}").json()
    for choice in stored["choices"]:
        assert choice["message"]["content"] == "Well."
        assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
        assert choice["finish_reason"] == "tool_calls"
    assert stored["choices"][0]["message"]["tool_calls"][0]["id"] in "".join(chunks)
    assert stored["tools"] == [tool]
    assert stored["usage"]["completion_tokens"] > 0


def test_what_broke_off_or_was_not_to_be_kept_is_not_stored(chat: Send, call: Any, engine: Any) -> None:
    chat(store=False)
    chat(store=None, metadata={"k": "v"})
    engine.break_after = 3
    chat(stream=True)
    assert ids(call("GET", PATH)) == []


def test_lists_are_paged_ordered_and_filtered(chat: Send, call: Any, deployed: str) -> None:
    made = [chat(metadata={"n": str(n), "all": "yes"}).json()["id"] for n in range(3)]
    assert ids(call("GET", PATH)) == made, "oldest first"
    assert ids(call("GET", PATH, params={"order": "desc"})) == made[::-1]
    page = call("GET", PATH, params={"limit": 2})
    assert (ids(page), page.json()["has_more"], page.json()["last_id"]) == (made[:2], True, made[1])
    assert ids(call("GET", PATH, params={"limit": 2, "after": made[1]})) == made[2:]
    assert ids(call("GET", PATH, params={"metadata[n]": "1", "metadata[all]": "yes"})) == made[1:2]
    assert ids(call("GET", PATH, params={"metadata[n]": "9"})) == []
    for model in ("gpt-4o-mini-2024-07-18", deployed):
        assert ids(call("GET", PATH, params={"model": model})) == made
    assert ids(call("GET", PATH, params={"model": "gpt-4"})) == []
    assert ids(call("GET", f"/deployments/{deployed}{PATH}")) == made, "the deployment's path leads to the same"


def test_messages_are_those_that_were_asked(chat: Send, call: Any) -> None:
    parts = [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]
    made = chat(messages=[ASK["messages"][0], {"role": "user", "content": parts}]).json()["id"]
    messages = call("GET", f"{PATH}/{made}/messages").json()
    assert messages["data"] == [
        {"id": f"{made}-0", "role": "system", "content": "Be kind.", "name": None, "content_parts": None},
        {"id": f"{made}-1", "role": "user", "content": "Hi", "name": None, "content_parts": parts},
    ]
    assert (messages["first_id"], messages["has_more"]) == (f"{made}-0", False)
    one = {"limit": 1, "order": "desc"}
    page = call("GET", f"{PATH}/{made}/messages", params=one)
    assert (ids(page), page.json()["has_more"]) == ([f"{made}-1"], True)
    assert ids(call("GET", f"{PATH}/{made}/messages", params=one | {"after": f"{made}-1"})) == [f"{made}-0"]
    assert ids(call("GET", f"{PATH}/{made}/messages", params={"after": "unknown"})) == []


def test_metadata_is_replaced_and_the_completion_deleted(chat: Send, call: Any) -> None:
    made = chat(metadata={"a": "1"}).json()["id"]
    assert call("POST", f"{PATH}/{made}", json={"metadata": {"b": "2"}}).json()["metadata"] == {"b": "2"}
    assert ids(call("GET", PATH, params={"metadata[a]": "1"})) == []
    assert ids(call("GET", PATH, params={"metadata[b]": "2"})) == [made]
    assert call("POST", f"{PATH}/{made}", json={"metadata": None}).json()["metadata"] == {}
    gone = call("DELETE", f"{PATH}/{made}")
    assert (gone.status_code, gone.json()) == (200, {"id": made, "object": "chat.completion.deleted", "deleted": True})
    for method, path, body in (("GET", "", None), ("DELETE", "", None), ("POST", "", {}), ("GET", "/messages", None)):
        answer = call(method, f"{PATH}/{made}{path}", json={"metadata": body} if body is not None else None)
        assert answer.status_code == 404, (method, path)
        assert made in answer.json()["error"]["message"]


def test_another_account_sees_nothing_of_it(chat: Send, call: Any, world: Any) -> None:
    made = chat(metadata={"a": "1"}).json()["id"]
    other = {"api-key": world.new_account().key1}
    assert ids(call("GET", PATH, headers=other)) == []
    assert call("GET", f"{PATH}/{made}", headers=other).status_code == 404
    assert call("POST", f"{PATH}/{made}", json={"metadata": {}}, headers=other).status_code == 404
    assert call("DELETE", f"{PATH}/{made}", headers=other).status_code == 404
    assert call("GET", f"{PATH}/{made}/messages", headers=other).status_code == 404
    assert call("GET", f"{PATH}/{made}").json()["metadata"] == {"a": "1"}


@pytest.mark.parametrize(
    ("params", "param"), [({"order": "newest"}, "order"), ({"limit": 0}, "limit"), ({"colour": "red"}, "colour")]
)
def test_a_query_that_means_nothing_is_refused_by_name(call: Any, params: dict[str, Any], param: str) -> None:
    answer = call("GET", PATH, params=params)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_the_sdk_lists_describes_and_deletes(world: Any, account: Any, deployed: str, engine: Any) -> None:
    client = AzureOpenAI(azure_endpoint=world.url, api_key=account.key1, api_version="2025-04-01-preview")
    completions = client.chat.completions
    made = [
        completions.create(model=deployed, messages=ASK["messages"], store=True, metadata={"n": str(n)})
        for n in range(3)
    ]
    assert [item.id for item in completions.list(limit=1)] == [item.id for item in made]
    assert [item.id for item in completions.list(metadata={"n": "1"})] == [made[1].id]
    assert completions.retrieve(made[0].id).choices[0].message.content == "Hello there!"
    assert [message.content for message in completions.messages.list(made[0].id, limit=1)] == ["Be kind.", "Hi"]
    assert completions.update(made[0].id, metadata={"x": "y"}).metadata == {"x": "y"}
    assert completions.delete(made[0].id).deleted
    client.close()
