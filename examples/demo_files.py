"""Reads and splits the demo's JSONL files, and turns test rows into questions with their expected answers."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class DemoError(Exception):
    """Stops the demo; the text says what to do about it."""


@dataclass(frozen=True)
class Question:
    """`messages` is the conversation before the last assistant turn; empty when `prompt` is to be completed."""

    messages: list[dict[str, Any]]
    prompt: str
    expected: str

    @property
    def chat(self) -> bool:
        return bool(self.messages)

    @property
    def text(self) -> str:
        """What a table shows: the last thing the user said."""
        return str(self.messages[-1].get("content", "")) if self.messages else self.prompt


def read_lines(path: Path) -> list[str]:
    """The non-empty lines, without the byte order mark that Azure asks for."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        raise DemoError(f"cannot read {path}: {problem}") from problem
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise DemoError(f"{path} is empty")
    return lines


def questions(path: Path) -> list[Question]:
    return [_question(path, number, line) for number, line in enumerate(read_lines(path), 1)]


def _question(path: Path, number: int, line: str) -> Question:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as problem:
        raise DemoError(f"{path}, line {number}: {problem}") from problem
    if "messages" in row:
        messages = row["messages"]
        if len(messages) < 2 or messages[-1].get("role") != "assistant" or not messages[-1].get("content"):
            raise DemoError(f"{path}, line {number}: the last message must be an assistant's text")
        asked = [{key: value for key, value in message.items() if key != "weight"} for message in messages[:-1]]
        return Question(messages=asked, prompt="", expected=messages[-1]["content"])
    if "prompt" in row and "completion" in row:
        return Question(messages=[], prompt=row["prompt"], expected=row["completion"])
    raise DemoError(f"{path}, line {number}: neither `messages` nor `prompt` and `completion`")


def hold_out(train: Path, folder: Path, seed: int) -> tuple[Path, Path]:
    """A tenth of the rows, at least one, becomes the validation file; both files are written into `folder`."""
    lines = read_lines(train)
    held = set(random.Random(seed).sample(range(len(lines)), max(1, len(lines) // 10)))
    parts = {
        "train.jsonl": [line for number, line in enumerate(lines) if number not in held],
        "valid.jsonl": [line for number, line in enumerate(lines) if number in held],
    }
    for name, rows in parts.items():
        (folder / name).write_text("\n".join(rows) + "\n", encoding="utf-8-sig", newline="\n")
    return folder / "train.jsonl", folder / "valid.jsonl"


def same(answer: str, expected: str) -> bool:
    """Exact match; only the white space around an answer is forgiven."""
    return answer.strip() == expected.strip()


def exact_matches(answers: Sequence[str], asked: Sequence[Question]) -> int:
    return sum(same(answer, question.expected) for answer, question in zip(answers, asked, strict=True))
