"""Words that mean the same, as classes: what a linear classifier knows of one of them it then knows of all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_PIECE = re.compile(r"[ぁ-ゖァ-ヺー々一-龯]+|[^\W_]+(?:['’][^\W_]+)*")
_JAPANESE = "ぁ"
"""The first of the Japanese characters: no letter of English or Dutch comes after it."""
_SHORTEST_STEM = 3


class Lexicon:
    """`words` are words, phrases and Japanese strings in small letters, `classes` says what each belongs to.

    `wholes` says which class each class is a part of: itself, where it is no part.

    A word that ends in `*` stands for all that begin with it; of two entries for one word the first counts.
    """

    def __init__(self, words: Sequence[str], classes: Sequence[int], wholes: Sequence[int]) -> None:
        self._wholes = wholes
        self._exact: dict[str, int] = {}
        self._stems: dict[str, int] = {}
        self._longest: dict[str, int] = {}
        for word, of in zip(words, classes, strict=True):
            if word >= _JAPANESE:
                self._add(word, word[0], len(word), of)
            elif word.endswith("*"):
                self._stems.setdefault(word[:-1], of)
            else:
                pieces = _PIECE.findall(word)
                self._add(" ".join(pieces), pieces[0], len(pieces), of)

    def _add(self, key: str, first: str, length: int, of: int) -> None:
        self._exact.setdefault(key, of)
        self._longest[first] = max(self._longest.get(first, 1), length)

    def read(self, text: str) -> Iterator[tuple[int, str, int, int]]:
        """Place, text, class and its whole (-1: of none) of each word of a text in small letters."""
        for place, word, of in self._read(text):
            yield place, word, of, self._wholes[of] if of >= 0 else -1

    def _read(self, text: str) -> Iterator[tuple[int, str, int]]:
        words: list[tuple[int, str]] = []
        for match in _PIECE.finditer(text):
            piece = match[0].replace("’", "'")
            if piece >= _JAPANESE:
                yield from self._phrases(words)
                words = []
                yield from self._strings(match.start(), piece)
            else:
                words.append((match.start(), piece))
        yield from self._phrases(words)

    def _phrases(self, words: list[tuple[int, str]]) -> Iterator[tuple[int, str, int]]:
        at = 0
        while at < len(words):
            place, word = words[at]
            taken, of = 1, self._exact.get(word, -1)
            for length in range(min(self._longest.get(word, 1), len(words) - at), 1, -1):
                phrase = " ".join([other for _, other in words[at : at + length]])
                if phrase in self._exact:
                    taken, of, word = length, self._exact[phrase], phrase
                    break
            if of < 0:
                of = next(
                    (
                        self._stems[word[:k]]
                        for k in range(len(word), _SHORTEST_STEM - 1, -1)
                        if word[:k] in self._stems
                    ),
                    -1,
                )
            yield place, word, of
            at += taken

    def _strings(self, start: int, run: str) -> Iterator[tuple[int, str, int]]:
        at = left = 0
        while at < len(run):
            for length in range(min(self._longest.get(run[at], 0), len(run) - at), 0, -1):
                if run[at : at + length] in self._exact:
                    if left < at:
                        yield start + left, run[left:at], -1
                    yield start + at, run[at : at + length], self._exact[run[at : at + length]]
                    at = left = at + length
                    break
            else:
                at += 1
        if left < len(run):
            yield start + left, run[left:], -1
