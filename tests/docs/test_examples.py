"""The demo's data is what its script writes, fit for its purpose, and the demo judges answers as it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import demo_files
import make_bookings
import pytest
from demo_files import DemoError, Question

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("bookings.train.jsonl", "bookings.valid.jsonl", "bookings.test.jsonl")


def rows(name: str) -> list[Any]:
    return [json.loads(line) for line in demo_files.read_lines(EXAMPLES / name)]


def quoted(name: str) -> set[str]:
    return {text for row in rows(name) for text in re.findall(r'"([^"]+)"', row["messages"][-1]["content"])}


@pytest.mark.parametrize("name", NAMES)
def test_the_script_writes_the_committed_bytes(name: str, tmp_path: Path) -> None:
    make_bookings.main(tmp_path)
    assert (tmp_path / name).read_bytes() == (EXAMPLES / name).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_files_begin_with_the_byte_order_mark_azure_asks_for(name: str) -> None:
    assert (EXAMPLES / name).read_bytes().startswith(b"\xef\xbb\xbf{")


@pytest.mark.parametrize("held_out", NAMES[1:])
def test_nobody_and_nothing_of_the_held_out_rows_occurs_in_training(held_out: str) -> None:
    assert not quoted(held_out) & quoted("bookings.train.jsonl")


def test_every_answer_can_be_read_off_its_question() -> None:
    for name in NAMES:
        for row in rows(name):
            _, question, answer = (message["content"] for message in row["messages"])
            for word in re.findall(r'"([^"]+)"|\b(\d+:\d+|[a-z]+day)\b', answer):
                assert (word[0] or word[1]) in question


def test_a_question_is_everything_before_the_last_answer(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 1}] * 2
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": messages}) + "\n", encoding="utf-8-sig")
    (question,) = demo_files.questions(tmp_path / "rows.jsonl")
    asked = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "a"}]
    assert question == Question(messages=asked, prompt="", expected="b")


def test_a_row_that_cannot_be_asked_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n{"input": {}}\n', encoding="utf-8")
    with pytest.raises(DemoError, match="line 2: neither"):
        demo_files.questions(path)


def test_a_tenth_is_held_out_and_nothing_is_lost(tmp_path: Path) -> None:
    train, valid = demo_files.hold_out(EXAMPLES / "bookings.train.jsonl", tmp_path, seed=105)
    assert len(demo_files.read_lines(valid)) == 48
    parts = demo_files.read_lines(train) + demo_files.read_lines(valid)
    assert sorted(parts) == sorted(demo_files.read_lines(EXAMPLES / "bookings.train.jsonl"))


def test_only_the_white_space_around_an_answer_is_forgiven() -> None:
    asked = [Question(messages=[], prompt="", expected="a b")] * 3
    assert demo_files.exact_matches([" a b\n", "a  b", "A b"], asked) == 1
