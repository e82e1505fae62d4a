"""Tokens into text as they come: never half a UTF-8 character, never the beginning of a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

_BROKEN = "\ufffd"  # what a decoder writes for bytes that are no character (yet)
_PROMPT_TAIL = 6  # sentencepiece drops the space before a text's first word; with these in front, it is not the first


class TextStream:
    """The text of one choice. Special tokens have none.

    The window of tokens since the last whole character is decoded behind its predecessors, since a token's text may
    depend on them; what the predecessors alone decode to is cut off in front.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stops: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self._ids = list(prompt[-_PROMPT_TAIL:])
        self._since = 0
        self._read = len(self._ids)
        self._known = self._decode(self._ids).rstrip(_BROKEN)
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """The text that is certain after this token. Sets `stopped` when a stop string is complete."""
        self._ids.append(token)
        text = self._decode(self._ids[self._since :])
        if len(text) <= len(self._known) or text.endswith(_BROKEN):
            return ""
        fresh = text[len(self._known) :]
        self._since, self._read = self._read, len(self._ids)
        self._known = self._decode(self._ids[self._since : self._read])
        return self._release(fresh, last=False)

    def finish(self) -> str:
        """What was held back. Nothing may be pushed afterwards."""
        if self.stopped:
            return ""
        return self._release(self._decode(self._ids[self._since :])[len(self._known) :], last=True)

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def _release(self, fresh: str, *, last: bool) -> str:
        text = self._held + fresh
        found = [at for at in (text.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return text[: min(found)]
        keep = 0 if last else max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
