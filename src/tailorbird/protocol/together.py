"""What a worker and a trainer of several runs say to each other: a line each, to its stdin and from its stdout.

    worker: {"word":"train","run":3,"plan":"/runs/ftjob-1/plan.json"}    takes the run in
            {"word":"stop","run":3}                                      as SIGTERM does for a run alone
    trainer: {"word":"left","run":3}                                     the last event is written, nothing is held

The worker gives the numbers. Closing stdin says that no run comes any more: the trainer ends with its last one. All
else is as with a run alone, and SIGTERM means all of them.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Train:
    """`plan` is the path of the run's plan.json."""

    run: int
    plan: str
    word: Literal["train"] = "train"


@dataclass(frozen=True, slots=True)
class Stop:
    run: int
    word: Literal["stop"] = "stop"


@dataclass(frozen=True, slots=True)
class Left:
    run: int
    word: Literal["left"] = "left"


Message = Train | Stop | Left
_WORDS: dict[str, type[Any]] = {"train": Train, "stop": Stop, "left": Left}


def message_to_line(message: Message) -> bytes:
    """With its newline."""
    return json.dumps(dataclasses.asdict(message), separators=(",", ":")).encode() + b"\n"


def message_from_line(line: bytes) -> Message:
    """Raises ValueError when the line is no message."""
    try:
        raw = json.loads(line)
        return _WORDS[raw["word"]](**raw)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a message: {line[:80]!r}") from error
