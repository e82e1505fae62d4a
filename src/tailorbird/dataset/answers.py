"""What a model wrote, piece by piece as it comes: its text, and the tool calls in it

Two ways to read calls. Where a grammar held the model to the format, a call is passed on while it is written. A model
that wrote freely may break off or spoil it, and then the text is content; so a call is passed on when it is whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from tailorbird.dataset.calls import CallFormat, ToolCall
from tailorbird.dataset.render import Renderer

_PROMPT_TAIL = 6  # sentencepiece drops the space before a text's first word; behind these it is not the first
_BROKEN = "\ufffd"  # what a decoder writes for bytes that are no character (yet)


@dataclass(frozen=True, slots=True)
class Piece:
    """Content, or of call number `call` its name (its first piece) or a part of its arguments."""

    text: str = ""
    call: int | None = None
    name: str | None = None


class SpelledText:
    """Tokens into text in which the special tokens `spelled` are written out; an engine's own text leaves them out.

    Like the engine's it never ends inside a character, and ends before a stop string.
    """

    def __init__(
        self, renderer: Renderer, prompt: Sequence[int], spelled: Collection[int], stops: Sequence[str]
    ) -> None:
        self._renderer = renderer
        self._spelled = spelled
        self._stops = stops
        self._ids = [token for token in prompt[-_PROMPT_TAIL:] if self._is_shown(token)]
        self._since = 0
        self._read = len(self._ids)
        self._known = len(self._decoded())
        self._held = ""
        self._stopped = False

    def push(self, token_ids: Iterable[int]) -> str:
        """The text that is certain after these tokens."""
        return "".join(self._push(token) for token in token_ids if self._is_shown(token))

    def finish(self) -> str:
        """What was held back."""
        return self._release(self._decoded()[self._known :], last=True)

    def _push(self, token: int) -> str:
        self._ids.append(token)
        text = self._decoded()
        if len(text) <= self._known or text.endswith(_BROKEN):
            return ""
        fresh = text[self._known :]
        # A token's text may depend on those before it: they are decoded again, and cut off in front.
        self._since, self._read = self._read, len(self._ids)
        self._known = len(self._decoded())
        return self._release(fresh, last=False)

    def _is_shown(self, token: int) -> bool:
        return token in self._spelled or bool(self._renderer.decode([token])) or not self._is_special(token)

    def _is_special(self, token: int) -> bool:
        return bool(self._renderer.decode([token], skip_special_tokens=False))

    def _decoded(self) -> str:
        return self._renderer.decode(self._ids[self._since :], skip_special_tokens=False)

    def _release(self, fresh: str, *, last: bool) -> str:
        if self._stopped:
            return ""
        text = self._held + fresh
        found = [at for at in (text.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self._stopped = True
            return text[: min(found)]
        keep = 0 if last else max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


class _State(Enum):
    TEXT = auto()
    """Content, until the calls' opening."""
    PLAIN = auto()
    """Content to the end."""
    HELD = auto()
    """Perhaps calls: judged at the end."""
    HEAD = auto()
    ARGUMENTS = auto()
    TAIL = auto()


class CallReader:
    """Reads one answer. `names` are the tools that may be called; `many` False keeps the first call alone.

    `checked`: a grammar held the model to the format. `forced`: it left nothing but calls.
    """

    def __init__(
        self,
        form: CallFormat,
        names: Collection[str],
        *,
        forced: bool = False,
        checked: bool = False,
        many: bool = True,
    ) -> None:
        self._form = form
        self._names = names
        self._many = many
        # A bare JSON object may be the answer itself: what it is can be told at its end only.
        self._eager = forced or (checked and bool(form.opening))
        self._state = _State.HEAD if forced else _State.TEXT
        self._buffer = ""
        self._object = _ObjectEnd()
        self.calls = 0

    def push(self, text: str) -> list[Piece]:
        self._buffer += text
        pieces: list[Piece] = []
        before = None
        while (self._state, len(self._buffer)) != before:
            before = self._state, len(self._buffer)
            pieces += self._step()
        return pieces

    def finish(self) -> list[Piece]:
        """What is left once the answer has ended."""
        rest, self._buffer = self._buffer, ""
        if self._state is _State.HELD:
            return self._judged(rest)
        return [Piece(rest)] if rest and self._state in (_State.TEXT, _State.PLAIN) else []

    def _step(self) -> list[Piece]:
        match self._state:
            case _State.TEXT:
                return self._text()
            case _State.PLAIN:
                rest, self._buffer = self._buffer, ""
                return [Piece(rest)] if rest else []
            case _State.HEAD:
                return self._begin(self._form.head.search(self._buffer))
            case _State.ARGUMENTS:
                return self._arguments()
            case _State.TAIL:
                following = self._form.next_head
                return self._begin(following.match(self._buffer) if following is not None and self._many else None)
            case _State.HELD:
                return []

    def _text(self) -> list[Piece]:
        opening = self._form.opening
        if not opening:
            begun = self._buffer.lstrip()
            if begun:
                self._state = _State.HELD if begun[0] in "{[" else _State.PLAIN
            return []
        at = self._buffer.find(opening)
        sure = self._buffer[:at] if at >= 0 else self._buffer[: len(self._buffer) - _overlap(self._buffer, opening)]
        # Templates put whitespace between a text and its calls.
        content = sure.rstrip()
        self._buffer = self._buffer[len(content) :]
        if at >= 0:
            self._state = _State.HEAD if self._eager else _State.HELD
        return [Piece(content)] if content else []

    def _begin(self, head: re.Match[str] | None) -> list[Piece]:
        if head is None:
            return []
        self._buffer = self._buffer[head.end() :]
        self._state = _State.ARGUMENTS
        self._object = _ObjectEnd()
        self.calls += 1
        return [Piece(call=self.calls - 1, name=head["name"])]

    def _arguments(self) -> list[Piece]:
        if not self._object.begun:
            self._buffer = self._buffer.lstrip()
        end = self._object.find(self._buffer)
        text, self._buffer = (self._buffer, "") if end is None else (self._buffer[:end], self._buffer[end:])
        if end is not None:
            self._state = _State.TAIL
        return [Piece(text, self.calls - 1)] if text else []

    def _judged(self, text: str) -> list[Piece]:
        read = self._whole_calls(text)
        if read is None:
            return [Piece(text)]
        calls, rest = read
        pieces: list[Piece] = []
        for call in calls if self._many else calls[:1]:
            pieces += [Piece(call=self.calls, name=call.name), Piece(call.arguments, self.calls)]
            self.calls += 1
        return [*pieces, Piece(rest)] if rest.strip() else pieces

    def _whole_calls(self, text: str) -> tuple[list[ToolCall], str] | None:
        """The calls `text` begins with and what follows them; None unless all of them are good."""
        calls: list[ToolCall] = []
        head = self._form.head.match(text)
        while head is not None:
            try:
                value, end = _DECODER.raw_decode(text, head.end())
            except ValueError:
                return None
            if head["name"] not in self._names or not isinstance(value, dict):
                return None
            calls.append(ToolCall(head["name"], text[head.end() : end]))
            following = self._form.next_head
            head = None if following is None else following.match(text, end)
            if head is None:
                tail = self._form.tail.match(text, end)
                return None if tail is None else (calls, text[tail.end() :])
        return None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


@dataclass(slots=True)
class _ObjectEnd:
    """Finds where a JSON object ends that comes in parts."""

    depth: int = 0
    in_string: bool = False
    escaped: bool = False

    @property
    def begun(self) -> bool:
        return self.depth > 0

    def find(self, text: str) -> int | None:
        """The place behind its last brace in this part, None when it goes on."""
        for place, char in enumerate(text):
            if self.escaped:
                self.escaped = False
            elif self.in_string:
                self.escaped = char == "\\"
                self.in_string = char != '"'
            elif char == '"':
                self.in_string = True
            elif char in "{[":
                self.depth += 1
            elif char in "}]":
                self.depth -= 1
                if self.depth == 0:
                    return place + 1
        return None


def _overlap(text: str, marker: str) -> int:
    """Length of the longest end of `text` that begins `marker`."""
    return next((n for n in range(min(len(text), len(marker) - 1), 0, -1) if text.endswith(marker[:n])), 0)
