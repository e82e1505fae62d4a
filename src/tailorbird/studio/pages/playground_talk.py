"""What was asked in the playground and what each side answered; how a request is made of it. No widgets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

RUNNING, DONE, STOPPED, REFUSED = "running", "done", "stopped", "refused"
MAX_STOPS = 4
# A conversation is a draft on the server's disk; what is older than this many turns is let go.
MAX_TURNS = 40


@dataclass(slots=True)
class Answer:
    """One side's. Seconds are from the request; the counts are the service's own, None until it told them."""

    target: str
    text: str = ""
    state: str = RUNNING
    finish: str = ""
    problem: str = ""
    code: str = ""
    param: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    first_seconds: float | None = None
    seconds: float | None = None

    @property
    def tokens_per_second(self) -> float | None:
        """Of the tokens after the first: what came before it was reading, not writing. Of a single one, from the
        request on."""
        if self.seconds is None or self.completion_tokens is None:
            return None
        several = self.completion_tokens > 1 and self.first_seconds is not None
        count = self.completion_tokens - 1 if several else self.completion_tokens
        writing = self.seconds - (self.first_seconds or 0.0) if several else self.seconds
        return count / writing if writing > 0 else None


@dataclass(slots=True)
class Turn:
    """`id` names its run while it goes on."""

    id: str
    asked: str
    answers: list[Answer] = field(default_factory=list[Answer])

    @property
    def is_running(self) -> bool:
        return any(answer.state == RUNNING for answer in self.answers)


@dataclass(frozen=True, slots=True)
class Target:
    """A deployment, or a model by its own name; written `d:NAME` and `m:NAME`."""

    name: str
    direct: bool

    @classmethod
    def read(cls, value: str) -> Target | None:
        kind, _, name = value.partition(":")
        return cls(name, kind == "m") if kind in ("d", "m") and name else None

    def __str__(self) -> str:
        return f"{'m' if self.direct else 'd'}:{self.name}"


@dataclass(frozen=True, slots=True)
class Settings:
    """None leaves a setting to the service."""

    temperature: float | None = 1.0
    top_p: float | None = 1.0
    max_tokens: int | None = 200
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def fields(self) -> dict[str, Any]:
        """Of a request's body; what is not set is not sent."""
        told = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "stop": list(self.stop) or None,
            "seed": self.seed,
        }
        return {name: value for name, value in told.items() if value is not None}


def read_stops(text: str) -> tuple[str, ...]:
    """One a line, `\\n` for a line's end; the service takes four."""
    lines = (line.replace("\\n", "\n") for line in text.splitlines())
    return tuple(line for line in lines if line)[:MAX_STOPS]


def chat_body(turns: Sequence[Turn], side: int, system: str, settings: Settings) -> dict[str, Any]:
    """The conversation as this side had it, up to the last question, which has no answer yet."""
    messages: list[dict[str, str]] = [{"role": "system", "content": system}] if system.strip() else []
    for turn in turns[:-1]:
        own = turn.answers[side] if side < len(turn.answers) else None
        # What was refused would be refused again with every later question; so it was never said.
        if own is not None and own.state == REFUSED:
            continue
        # A side that joined later goes on from what the other one said.
        texts = [own.text if own is not None else "", *(answer.text for answer in turn.answers)]
        said = next(filter(None, texts), "")
        if said:
            messages += [{"role": "user", "content": turn.asked}, {"role": "assistant", "content": said}]
    if turns:
        messages.append({"role": "user", "content": turns[-1].asked})
    return {"messages": messages, **settings.fields()}


def completion_body(prompt: str, settings: Settings) -> dict[str, Any]:
    return {"prompt": prompt, **settings.fields()}


def delta_of(chunk: Mapping[str, Any]) -> tuple[str, str]:
    """The new text in a streamed chunk of either kind, and why it ended."""
    text, finish = "", ""
    for choice in cast("list[dict[str, Any]]", chunk.get("choices") or []):
        if choice.get("index", 0) != 0:
            continue
        text += str(choice.get("text") or (choice.get("delta") or {}).get("content") or "")
        finish = str(choice.get("finish_reason") or finish)
    return text, finish


def usage_of(chunk: Mapping[str, Any]) -> tuple[int, int] | None:
    """Tokens of the prompt and of the answer."""
    usage = chunk.get("usage")
    return None if not usage else (int(usage["prompt_tokens"]), int(usage.get("completion_tokens") or 0))


def stored(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    return [asdict(turn) for turn in turns[-MAX_TURNS:]]


def restored(rows: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """What an earlier version of the Studio kept and this one cannot read is left out."""
    turns: list[Turn] = []
    for row in rows:
        try:
            answers = [Answer(**answer) for answer in row["answers"]]
            turns.append(Turn(str(row["id"]), str(row["asked"]), answers))
        except (KeyError, TypeError):
            continue
    return turns


@dataclass(frozen=True, slots=True)
class Trained:
    """The system message most conversations of a training file began with, how many different ones there were, and
    the first thing a user said."""

    system: str
    different: int
    example: str = ""


def trained_with(content: str) -> Trained | None:
    """From the beginning of a training file; a last line that was cut is left out. None without conversations."""
    found: Counter[str] = Counter()
    example = ""
    lines = content.removeprefix("\ufeff").splitlines(keepends=True)
    for line in lines:
        if not line.endswith("\n") and len(lines) > 1:
            continue
        messages = _messages(line)
        if messages is None:
            continue
        heads = (one for one in messages[:1] if one.get("role") in ("system", "developer"))
        found[next((_text(one) for one in heads), "")] += 1
        example = example or next((_text(one) for one in messages if one.get("role") == "user"), "")
    return Trained(found.most_common(1)[0][0], len(found), example) if found else None


def _text(message: Mapping[str, Any]) -> str:
    said = message.get("content")
    return said if isinstance(said, str) else ""


def _messages(line: str) -> list[dict[str, Any]] | None:
    try:
        row: Any = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict):
        return None
    known = cast("dict[str, Any]", row)
    asked: Any = known.get("messages")
    if asked is None and isinstance(known.get("input"), dict):
        asked = cast("dict[str, Any]", known["input"]).get("messages")
    if not isinstance(asked, list):
        return None
    return [cast("dict[str, Any]", one) for one in cast("list[Any]", asked) if isinstance(one, dict)]
