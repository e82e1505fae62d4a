"""Lines of training files with what is trained in them, figures and problems, below our own prefix."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tailorbird.domain.access import Account

OWN = "/tailorbird/v1"
MINI, BABBAGE = "gpt-4o-mini-2024-07-18", "babbage-002"
HI = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}

Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask(http: httpx.Client, account: Account) -> Ask:
    def call(method: str, path: str, **options: Any) -> httpx.Response:
        return http.request(method, path, headers={"api-key": account.key1}, **options)

    return call


def upload(ask: Ask, lines: list[Any], *, purpose: str = "fine-tune") -> str:
    """Of lines that are strings the bytes are taken as they are."""
    data = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines).encode()
    made = ask("POST", "/openai/v1/files", data={"purpose": purpose}, files={"file": ("t.jsonl", data)}).json()
    end = time.monotonic() + 30
    while made["status"] in ("pending", "running"):
        assert time.monotonic() < end
        time.sleep(0.01)
        made = ask("GET", f"/openai/v1/files/{made['id']}").json()
    return str(made["id"])


def told(ask: Ask, file: str, what: str, **params: Any) -> dict[str, Any]:
    answer = ask("GET", f"{OWN}/files/{file}/{what}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


# --- preview ----------------------------------------------------------------------------------------------------------


def test_a_conversation_shows_its_turns_and_what_each_teaches(ask: Ask) -> None:
    turns = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yo", "weight": 0},
        {"role": "user", "content": "bye"},
        {"role": "assistant", "content": "see you"},
    ]
    found = told(ask, upload(ask, [{"messages": turns}]), "preview")
    assert (found["model"], found["max_tokens"], found["has_more"]) == (MINI, 256, False)
    [line] = found["data"]
    assert [turn["content"] for turn in line["messages"]] == [turn["content"] for turn in turns]
    assert [turn["trained"] for turn in line["messages"]] == [False, False, False, False, True]
    # A byte is a token; a trained turn ends with its end-of-turn token.
    assert [turn["tokens"] for turn in line["messages"]] == [7, 2, 2, 3, 7]
    assert [turn["trained_tokens"] for turn in line["messages"]] == [0, 0, 0, 0, 8]
    # Each turn has its header and its end beside its text.
    assert (line["tokens"], line["trained_tokens"]) == (21 + 2 * 5, 8)
    assert line["problems"] == []


def test_several_trained_turns_each_have_their_own_tokens(ask: Ask) -> None:
    turns = [*HI["messages"], {"role": "assistant", "content": "again"}, *HI["messages"]]
    [line] = told(ask, upload(ask, [{"messages": turns}]), "preview")["data"]
    assert [turn["trained_tokens"] for turn in line["messages"]] == [0, 3, 6, 0, 3]
    assert line["trained_tokens"] == 12


def test_a_text_and_its_completion_are_two_turns(ask: Ask) -> None:
    found = told(ask, upload(ask, [{"prompt": "one", "completion": " two"}]), "preview")
    assert found["model"] == BABBAGE
    [line] = found["data"]
    assert [(turn["role"], turn["content"], turn["trained_tokens"]) for turn in line["messages"]] == [
        ("prompt", "one", 0),
        ("completion", " two", 5),
    ]
    assert (line["kind"], line["tokens"]) == ("completion", 8)


def test_a_preference_pair_shows_its_prompt_once_and_both_ends(ask: Ask) -> None:
    pair = {
        "input": {"messages": [{"role": "user", "content": "hi"}]},
        "preferred_output": [{"role": "assistant", "content": "good"}],
        "non_preferred_output": [{"role": "assistant", "content": "bad"}],
    }
    [line] = told(ask, upload(ask, [pair]), "preview")["data"]
    assert [turn["content"] for turn in line["messages"]] == ["hi"]
    [preferred], [other] = line["preferred_output"], line["non_preferred_output"]
    assert (preferred["trained_tokens"], other["trained_tokens"]) == (5, 4)
    assert (line["kind"], line["trained_tokens"], line["tokens"]) == ("preference", 9, 2 * (2 + 2) + 6 + 5)


def test_tools_and_their_calls_are_shown(ask: Ask) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    line = {
        "messages": [
            {"role": "user", "content": "look"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "seen"},
            {"role": "assistant", "content": "done"},
        ],
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
    }
    [shown] = told(ask, upload(ask, [line]), "preview")["data"]
    assert shown["tools"] == line["tools"]
    assert shown["messages"][1]["tool_calls"] == [call]
    assert shown["messages"][1]["trained_tokens"] > 10
    assert shown["messages"][2]["tool_call_id"] == "c1"
    assert shown["messages"][3]["trained_tokens"] == 5


def test_lines_come_page_by_page(ask: Ask) -> None:
    file = upload(
        ask, [{"messages": [*HI["messages"][:1], {"role": "assistant", "content": str(i)}]} for i in range(5)]
    )
    first = told(ask, file, "preview", limit=3)
    assert ([line["line"] for line in first["data"]], first["has_more"], first["last_id"]) == ([1, 2, 3], True, "3")
    second = told(ask, file, "preview", limit=3, after=first["last_id"])
    assert ([line["line"] for line in second["data"]], second["has_more"]) == ([4, 5], False)


def test_a_faulty_line_stands_in_its_place_with_every_problem(ask: Ask) -> None:
    file = upload(ask, [HI, {"messages": [{"role": "bot", "content": ""}]}, "not json", HI])
    lines = told(ask, file, "preview")["data"]
    assert [line["line"] for line in lines] == [1, 2, 3, 4]
    assert {problem["field"] for problem in lines[1]["problems"]} == {"messages[0].role", "messages"}
    assert "messages" not in lines[1]
    assert "invalid JSON" in lines[2]["problems"][0]["message"]
    assert lines[3]["problems"] == []


def test_what_the_template_refuses_and_what_is_too_long_is_said_at_the_line(ask: Ask) -> None:
    ended = {"messages": [HI["messages"][0], {"role": "assistant", "content": "a <|end|> inside"}]}
    long = {"messages": [HI["messages"][0], {"role": "assistant", "content": "x" * 300}]}
    lines = told(ask, upload(ask, [ended, long]), "preview")["data"]
    assert "end-of-turn token" in lines[0]["problems"][0]["message"]
    assert "trained_tokens" not in lines[0]
    assert "takes at most 256" in lines[1]["problems"][0]["message"]
    assert lines[1]["trained_tokens"] == 301


def test_a_model_that_cannot_be_trained_on_the_lines_is_refused(ask: Ask) -> None:
    file = upload(ask, [HI])
    answer = ask("GET", f"{OWN}/files/{file}/preview", params={"model": BABBAGE})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
    assert "completion model" in answer.json()["error"]["message"]
    assert ask("GET", f"{OWN}/files/{file}/preview", params={"model": "nobody"}).status_code == 404
    assert told(ask, file, "preview", model=MINI)["model"] == MINI


def test_only_training_files_have_examples(ask: Ask) -> None:
    file = upload(ask, [{"item": {"a": 1}}], purpose="evals")
    answer = ask("GET", f"{OWN}/files/{file}/preview")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file_id")
    assert "evals" in answer.json()["error"]["message"]


# --- statistics -------------------------------------------------------------------------------------------------------


def test_statistics_count_every_line_and_name_the_longest(ask: Ask) -> None:
    long = {"messages": [HI["messages"][0], {"role": "assistant", "content": "yo yo yo"}]}
    found = told(ask, upload(ask, [HI, long, HI]), "statistics")
    assert (found["examples"], found["tokens"], found["trained_tokens"]) == (3, 8 + 14 + 8, 3 + 9 + 3)
    assert found["longest"] == {"line": 2, "tokens": 14}
    assert (found["kind"], found["tokens_are_exact"], found["too_long"], found["unusable"]) == ("chat", True, 0, 0)


def test_statistics_agree_with_the_estimate_of_a_job(ask: Ask) -> None:
    file = upload(ask, [HI] * 12)
    estimate = ask("POST", f"{OWN}/fine_tuning/jobs/estimate", json={"model": MINI, "training_file": file}).json()
    found = told(ask, file, "statistics", model=MINI)
    assert (found["examples"], found["tokens"]) == (estimate["examples"], estimate["epoch_tokens"])


def test_what_no_job_could_use_is_counted_apart(ask: Ask) -> None:
    long = {"messages": [HI["messages"][0], {"role": "assistant", "content": "x" * 300}]}
    found = told(ask, upload(ask, [HI, "{}", long]), "statistics")
    assert (found["examples"], found["too_long"], found["unusable"]) == (2, 1, 1)
    assert found["longest"]["line"] == 3


def test_a_file_without_a_good_line_has_no_longest(ask: Ask) -> None:
    found = told(ask, upload(ask, ["{}"]), "statistics")
    assert (found["examples"], found["longest"], found["kind"], found["unusable"]) == (0, None, None, 1)


# --- problems ---------------------------------------------------------------------------------------------------------


def test_every_problem_is_listed_with_its_line_and_field_beyond_what_the_status_shows(ask: Ask) -> None:
    bad = {"messages": [{"role": "user"}, {"role": "bot", "content": "x"}]}
    file = upload(ask, [HI, *[bad] * 30])
    whole = told(ask, file, "problems")
    assert (whole["total"], len(whole["data"]), whole["has_more"]) == (len(whole["data"]), whole["total"], False)
    assert whole["total"] >= 60
    assert "… and" in ask("GET", f"/openai/v1/files/{file}").json()["status_details"]
    first = whole["data"][0]
    assert (first["id"], first["line"], first["field"]) == ("1", 2, "messages[0].content")
    assert first["message"] == "is missing."
    assert first["excerpt"] == json.dumps(bad)


def test_problems_come_page_by_page(ask: Ask) -> None:
    file = upload(ask, ["{}"] * 5)
    first = told(ask, file, "problems", limit=2)
    assert ([one["line"] for one in first["data"]], first["has_more"], first["total"]) == ([1, 2], True, 5)
    last = told(ask, file, "problems", limit=3, after=first["last_id"])
    assert ([one["line"] for one in last["data"]], last["has_more"]) == ([3, 4, 5], False)
    assert told(ask, file, "problems", after=5)["data"] == []


def test_an_excerpt_is_short_and_never_ends_in_half_a_character(ask: Ask) -> None:
    [one] = told(ask, upload(ask, [json.dumps({"x": "é" * 5000}, ensure_ascii=False)]), "problems")["data"]
    assert len(one["excerpt"]) == 301
    assert one["excerpt"].endswith("é…")


def test_a_good_file_has_no_problems_and_an_eval_file_is_judged_as_one(ask: Ask) -> None:
    assert told(ask, upload(ask, [HI]), "problems") | {} == {
        "object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False, "total": 0,
    }  # fmt: skip
    found = told(ask, upload(ask, ['{"item": 1}', "[]", "nope"], purpose="evals"), "problems")
    assert [one["line"] for one in found["data"]] == [2, 3]


def test_a_file_that_never_arrived_says_why(ask: Ask) -> None:
    body = {"content_url": "http://127.0.0.1:9/gone.jsonl", "filename": "gone.jsonl", "purpose": "fine-tune"}
    file = ask("POST", "/openai/v1/files/import", json=body).json()["id"]
    end = time.monotonic() + 30
    while ask("GET", f"/openai/v1/files/{file}").json()["status"] != "error":
        assert time.monotonic() < end
        time.sleep(0.01)
    found = told(ask, file, "problems")
    assert (found["total"], found["data"][0]["line"]) == (1, None)
    assert found["data"][0]["message"]
    refused = ask("GET", f"{OWN}/files/{file}/preview")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unexpectedEntityState")


def test_nobody_and_unknown_parameters_are_refused(http: httpx.Client, ask: Ask) -> None:
    for what in ("preview", "statistics", "problems"):
        assert http.get(f"{OWN}/files/file-1/{what}").status_code == 401
        assert ask("GET", f"{OWN}/files/file-1/{what}").status_code == 404
        assert ask("GET", f"{OWN}/files/file-1/{what}", params={"order": "asc"}).status_code == 400
