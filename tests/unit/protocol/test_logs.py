"""Log lines: JSON, with what they belong to and without secrets."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tailorbird.protocol.logs import Lines, belonging, current
from tailorbird.service import acting

KEY = "0123456789abcdef0123456789abcdef"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"


def line(
    message: str,
    *values: object,
    error: bool = False,
    belongs_to: Callable[[], Mapping[str, str]] = current,
    **extra: object,
) -> dict[str, Any]:
    record = logging.makeLogRecord(
        {
            "name": "n",
            "levelname": "INFO",
            "msg": message,
            "args": values,
            "exc_info": sys.exc_info() if error else None,
        }
        | extra
    )
    return json.loads(Lines(belongs_to).format(record))


def within(who: acting.Acting, message: str) -> dict[str, Any]:
    with acting.begun(who):
        return line(message, belongs_to=acting.facts)


def test_a_line_says_its_request_account_principal_and_job() -> None:
    found = within(acting.Acting("r1", "10.0.0.1", "p1", "anna", "acc", "ftjob-1"), "hello")
    assert found.pop("time")
    assert found == {
        "level": "info",
        "logger": "n",
        "message": "hello",
        "request_id": "r1",
        "account": "acc",
        "principal": "anna",
        "job": "ftjob-1",
    }


def test_a_line_says_what_the_process_was_told_it_belongs_to_until_the_block_ends() -> None:
    with belonging(job="ftjob-1"):
        with belonging(request_id="r1", account=""):
            inside = line("hello")
        after = line("hello")
    assert (inside["job"], inside["request_id"], "account" in inside) == ("ftjob-1", "r1", False)
    assert after["job"] == "ftjob-1"
    assert "request_id" not in after
    assert "job" not in line("hello")


def test_a_line_of_nobody_says_nothing_of_them() -> None:
    assert set(line("hello")) == {"time", "level", "logger", "message"}


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"api-key: {KEY}", KEY),
        (f"{{'api-key': '{KEY}'}}", KEY),
        (f"Authorization: Bearer {TOKEN}", TOKEN),
        (f"got {TOKEN}", TOKEN),
        (f"Bearer {KEY}", KEY),
        ("https://x.blob.core.windows.net/c/f?sv=2020&sig=abc%2Fdef&se=1", "abc%2Fdef"),
        ("https://bucket/f?X-Amz-Signature=feed&X-Amz-Date=1", "feed"),
        ("postgresql+psycopg://tailor:hunter2@db/tailorbird", "hunter2"),
        ("grant_type=password&username=anna&password=hunter2", "hunter2"),
        ('{"client_secret": "hunter2"}', "hunter2"),
        ("AccountName=a;AccountKey=aGVsbG8==;EndpointSuffix=x", "aGVsbG8"),
        (f"/login/device?code={KEY}", KEY),
        ("key sk-proj_abcdef123456", "sk-proj_abcdef123456"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_secrets_in_a_text_are_hidden_wherever_it_stands(text: str, secret: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        found = [
            line(text),
            line("said %s", text),
            line("m", why=text),
            line("m", facts={"t": text}),
            line("m", error=True),
        ]
    assert [secret in json.dumps(one) for one in found] == [False] * 5
    assert all("***" in json.dumps(one) for one in found)


def test_extra_fields_named_like_secrets_are_hidden() -> None:
    names = ("api_key", "key1", "password", "client_secret", "access_token", "authorization")
    found = line("m", **dict.fromkeys(names, "s3cr3t"))
    assert [found[name] for name in names] == ["***"] * len(names)


def test_what_is_no_secret_is_left_alone() -> None:
    text = "GET /openai/v1/files/file-1 took 3 ms; 12 tokens, code 429, key 3 of 7, https://host:8080/x@y"
    found = line(text, path="/openai/v1/files", status=200, ms=1.5, base="weaver", tokens=12)
    assert (found["message"], found["path"], found["status"]) == (text, "/openai/v1/files", 200)
    assert (found["ms"], found["base"], found["tokens"]) == (1.5, "weaver", 12)
