"""What a corpus document is: a typed list of turns, or plain text."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

PROMPT_WEIGHT = 0.2
"""Loss weight of what the model reads; it is mostly invented names, which nobody can predict."""


@dataclass(frozen=True)
class Turn:
    """One message. ``weight`` scales the loss of the turn's tokens; None means by role."""

    role: str
    content: str | None
    weight: float | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()

    def message(self) -> dict[str, Any]:
        """The turn as the chat template wants it."""
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            message["tool_calls"] = [{"type": "function", "function": call} for call in self.tool_calls]
        return message


@dataclass(frozen=True)
class Document:
    """A chat (``turns``) or a completion document (``text``); exactly one of them is filled."""

    kind: str
    turns: tuple[Turn, ...] = ()
    text: str = ""
    tools: tuple[dict[str, Any], ...] = field(default=())


def chat(kind: str, *turns: Turn, system: str = "") -> Document:
    """A chat document, with a system turn in front when ``system`` is not empty."""
    head = (Turn("system", system),) if system else ()
    return Document(kind, head + turns)


def ask(content: str) -> Turn:
    """A user's turn."""
    return Turn("user", content)


def reply(content: str, weight: float | None = None) -> Turn:
    """An assistant's turn."""
    return Turn("assistant", content, weight)


def spans(document: Document) -> list[tuple[str, float]]:
    """The document as rendered text, in pieces with their loss weights.

    The joined pieces equal what the chat template renders for ``turns`` (a test holds the two together), followed by
    ``<|endoftext|>``.
    """
    if not document.turns:
        return [(document.text, 1.0), ("<|endoftext|>", 1.0)]
    pieces: list[tuple[str, float]] = []
    turns = document.turns
    if document.tools:
        listing = "# Tools\n" + "\n".join(json.dumps(tool, ensure_ascii=False) for tool in document.tools)
        system = turns[0].content if turns[0].role == "system" else None
        turns = turns[1:] if turns[0].role == "system" else turns
        content = f"{system}\n\n{listing}" if system else listing
        pieces.append((f"<|im_start|>system\n{content}<|im_end|>\n", PROMPT_WEIGHT))
    for turn in turns:
        if turn.role != "assistant":
            pieces.append((f"<|im_start|>{turn.role}\n{turn.content or ''}<|im_end|>\n", PROMPT_WEIGHT))
            continue
        calls = "".join(
            f"<|tool_call|>{json.dumps(call, ensure_ascii=False)}<|/tool_call|>" for call in turn.tool_calls
        )
        weight = 1.0 if turn.weight is None else turn.weight
        pieces.append(("<|im_start|>assistant\n", PROMPT_WEIGHT))
        pieces.append((f"{turn.content or ''}{calls}<|im_end|>", weight))
        pieces.append(("\n", PROMPT_WEIGHT))
    pieces.append(("<|endoftext|>", PROMPT_WEIGHT))
    return pieces
