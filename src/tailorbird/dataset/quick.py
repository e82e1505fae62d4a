"""Knows the common, faultless line at a glance; whatever it does not know is judged by faults.py, field by field

Nothing is refused here: a line is either certainly good or not decided. The shapes below are narrower than the rules,
so what parses into them and passes the last look has no fault. Most lines of most files do, at a fraction of the cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, cast

import msgspec

from tailorbird.dataset.faults import MAX_CONTENT, MAX_MESSAGES, Kind

_Content = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_CONTENT)]


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["system", "user", "assistant", "developer"]
    content: _Content
    weight: Literal[0, 1] | msgspec.UnsetType = msgspec.UNSET


class _Turn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["assistant"]
    content: _Content


_Messages = Annotated[list[_Message], msgspec.Meta(min_length=1, max_length=MAX_MESSAGES)]
_Output = Annotated[list[_Turn], msgspec.Meta(min_length=1, max_length=MAX_MESSAGES)]


class _Chat(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: _Messages

    def good(self) -> bool:
        last = self.messages[-1]
        if last.role != "assistant" or last.weight == 0 or not _speak(self.messages):
            return False
        return all(turn.role == "assistant" for turn in self.messages if turn.weight is not msgspec.UNSET)


class _Completion(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    prompt: str
    completion: Annotated[str, msgspec.Meta(min_length=1)]

    def good(self) -> bool:
        return True


class _Preference(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    input: _Chat
    preferred_output: _Output
    non_preferred_output: _Output

    def good(self) -> bool:
        given = self.input.messages
        if any(turn.weight is not msgspec.UNSET for turn in given):
            return False
        return _speak(given) and _speak(self.preferred_output) and _speak(self.non_preferred_output)


_DECODERS: Final[dict[Kind, msgspec.json.Decoder[Any]]] = {
    "chat": msgspec.json.Decoder(_Chat),
    "completion": msgspec.json.Decoder(_Completion),
    "preference": msgspec.json.Decoder(_Preference),
}


def certainly_good(line: bytes, kind: Kind) -> bool:
    """Whether `line` (no byte order mark) is known to be a `kind` without a fault; False says nothing."""
    try:
        return cast(_Chat | _Completion | _Preference, _DECODERS[kind].decode(line)).good()
    except ValueError:  # another shape, no JSON, no UTF-8, half a surrogate pair
        return False


def _speak(messages: Sequence[_Message | _Turn]) -> bool:
    """Whether every message says more than whitespace."""
    return not any(message.content.isspace() for message in messages)
