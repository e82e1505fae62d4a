"""Where the contents of many messages lie in a rendered conversation, found with one trial rendering"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

MAX_FILLER = 64
"""Longest text a template may put between its generation prompt and a turn's content (an empty thinking block: 19)."""


def mark(word: str, index: int) -> str:
    """What stands for the content of message `index` in the trial; no mark begins another."""
    return f"{word}x{index}x"


def content_places(text: str, trial: str, word: str, contents: Mapping[int, str]) -> dict[int, int]:
    """Where each of `contents` (by message, in order) begins in `text`.

    `trial` is the same conversation with a mark in place of each. What stands between two marks must stand in `text`
    around the contents letter by letter; from the first that does not, nothing more is told. Contents may be trimmed,
    or escaped as in JSON. Takes time in proportion to the text.
    """
    cuts: list[tuple[int, int]] = []
    at = 0
    for index in contents:
        begin = trial.find(mark(word, index), at)
        if begin < 0:
            break
        cuts.append((begin, at := begin + len(mark(word, index))))
    edges = [0, *(edge for cut in cuts for edge in cut), len(trial)]
    between = [trial[edges[i] : edges[i + 1]] for i in range(0, len(edges), 2)]
    places: dict[int, int] = {}
    here = 0
    for (index, content), before, after in zip(contents.items(), between, between[1:], strict=False):
        if word in before or not text.startswith(before, here):
            break
        here += len(before)
        shown = next((form for form in _forms(content) if text.startswith(form + after[:MAX_FILLER], here)), None)
        if shown is None:
            break
        places[index] = here
        here += len(shown)
    return places


@dataclass(frozen=True, slots=True)
class Opening:
    """What leads to the turns of one sort: the generation prompt, and what stands between it and the first turn."""

    header: str
    filler: str

    def end_before(self, place: int | None, text: str) -> int | None:
        """Where the generation prompt ends before a content at `place`; None when there is no single such place."""
        if place is None:
            return None
        start = place - len(self.filler)
        if text.startswith(self.filler, start) and text.endswith(self.header, 0, start) and start >= len(self.header):
            return start
        nearest = max(len(self.header), place - MAX_FILLER)
        ends = [end for end in range(nearest, place + 1) if self.header and text.endswith(self.header, 0, end)]
        return ends[0] if len(ends) == 1 else None


def _forms(content: str) -> list[str]:
    """How a template may show a content."""
    escaped = json.dumps(content, ensure_ascii=False)[1:-1]
    return [content, content.strip(), content.rstrip(), content.lstrip(), escaped]
