"""What a chat template writes right after an assistant turn, learned from a trial conversation"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tokenizers import Encoding

from tailorbird.dataset.template import RenderError
from tailorbird.dataset.tokens import Vocabulary

WORD: Final = "zqtailorbirdzq"
"""Stands for content in trial renderings: nothing a template would look for, trim or split."""


@dataclass(frozen=True, slots=True)
class TurnEnds:
    """What the template writes right after an assistant turn: a token id, None when no single token.

    `known` is False when no trial conversation could be rendered, or it does not show its answers.
    """

    known: bool
    inner: int | None = None
    last: int | None = None
    prompt_is_ignored: bool = False


def learn_turn_ends(vocabulary: Vocabulary, render: Callable[..., str]) -> TurnEnds:
    """Renders a trial conversation and looks at what comes after its answers.

    `render(messages, prompt=...)` is the template without tools; it raises RenderError where it refuses.
    """
    words = [WORD + letter for letter in "abcd"]
    roles = ("user", "assistant", "user", "assistant")
    turns = [{"role": role, "content": word} for role, word in zip(roles, words, strict=True)]
    # Some templates demand a system message.
    for opening in ([], [{"role": "system", "content": "s"}]):
        try:
            text = render([*opening, *turns], prompt=False)
            asked = render([*opening, turns[0]], prompt=False)
            prompt = render([*opening, turns[0]], prompt=True)
        except RenderError:
            continue
        if words[1] not in text or words[3] not in text:
            # A template that drops or rewrites the answers tells nothing about their ends.
            break
        encoding = vocabulary.encode(text)
        header = text[len(prompt) : text.find(words[1])].strip() if text.startswith(prompt) else ""
        added = vocabulary.added
        inner, last = (_token_after(encoding, text, text.find(word) + len(word)) for word in (words[1], words[3]))
        return TurnEnds(
            known=True,
            inner=inner if inner in added else None,
            last=last if last in added else None,
            prompt_is_ignored=prompt == asked and bool(header),
        )
    return TurnEnds(known=False)


def _token_after(encoding: Encoding, text: str, place: int) -> int | None:
    """The first token that begins at or after `place` and is more than whitespace."""
    for token_id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
        if start >= place and text[start:end].strip():
            return token_id
    return None
