"""Templates into labelled examples; a template is either learned from or judged with, never both."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from recipes.weaver.corpus import documents

LANGUAGES = {"en": "english", "ja": "japanese", "nl": "dutch"}
SEVERITIES = ("safe", "low", "medium", "high")
HELD_OUT_EVERY = 4
"""Of each list of templates every fourth is held out."""

_ALSO_VIOLENT = re.compile(
    r"(?i)\b(?:kill|shoot|die|dead|death|beat|burn|exterminate|crush|hunt|wip|destroy|dood|brand|schiet|sla|roei|"
    r"uitgeroeid|vernietigd)|殺|死|燃|撃|根絶|全滅|駆除"
)
_SLOT = re.compile(r"\{(\w+)\}")
_LEARNED_FILLINGS, _JUDGED_FILLINGS = 20, 12
_SEED = 20261121
_CORPUS_SEED = {"train": 11, "test": 12}
_CORPUS_DOCUMENTS = {"train": 3000, "test": 500}


@dataclass(frozen=True, slots=True)
class Example:
    """`category` is None for a harmless text; `kind` is then what it looks like, else the category.

    `template` is what it was made of: all that comes of one stays together.
    """

    text: str
    category: str | None
    severity: int
    language: str
    kind: str
    template: str = ""


@dataclass(frozen=True, slots=True)
class Texts:
    """One language's templates and what stands in their slots."""

    leads: list[str]
    everyday: list[str]
    slots: dict[str, list[str]]
    harmful: dict[str, dict[str, list[str]]]
    look_alikes: dict[str, list[str]]


def _read(name: str) -> Texts:
    with (Path(__file__).parent / f"{name}.toml").open("rb") as source:
        return Texts(**tomllib.load(source))


def examples(part: str) -> Iterator[Example]:
    """`part` is "train" or "test". The same every time."""
    rng = Random(f"{_SEED}/{part}")
    for language, name in LANGUAGES.items():
        texts = _read(name)
        yield from _harmful(texts, language, part, rng)
        yield from _harmless(texts, language, part, rng)
    yield from _corpus(part)


def is_judged(example: Example, category: str) -> bool:
    """Calls to kill a group are hate and violence at once: they neither prove nor disprove violence."""
    hateful = example.category == "hate_fairness" and example.severity == SEVERITIES.index("high")
    return not (category == "violence" and hateful and _ALSO_VIOLENT.search(example.template))


def kept(templates: Sequence[str], part: str) -> list[str]:
    """Those of this part."""
    return [template for place, template in enumerate(templates) if (place % HELD_OUT_EVERY == 1) == (part == "test")]


def _harmful(texts: Texts, language: str, part: str, rng: Random) -> Iterator[Example]:
    for category, levels in texts.harmful.items():
        for severity, templates in levels.items():
            for template, text in _filled(texts, kept(templates, part), part, rng):
                shown = rng.choice(texts.leads) + text
                # Sentences are judged one by one; what stands beside one is only there to see that it is.
                if part == "test" and rng.random() < 0.25:
                    shown = _beside(texts, shown, part, rng)
                yield Example(shown, category, SEVERITIES.index(severity), language, category, template)


def _harmless(texts: Texts, language: str, part: str, rng: Random) -> Iterator[Example]:
    for kind, templates in texts.look_alikes.items():
        for template in kept(templates, part):
            for _, text in _filled(texts, [template], part, rng):
                if "{harm}" in text:
                    text = text.replace("{harm}", _any_harm(texts, part, rng))
                yield Example(rng.choice(texts.leads) + text, None, 0, language, kind, template)
    for template, text in _filled(texts, kept(texts.everyday, part), part, rng):
        shown = _beside(texts, text, part, rng) if rng.random() < 0.25 else text
        yield Example(rng.choice(texts.leads) + shown, None, 0, language, "everyday", template)


def _any_harm(texts: Texts, part: str, rng: Random) -> str:
    levels = texts.harmful[rng.choice(list(texts.harmful))]
    template = rng.choice(kept(levels[rng.choice(("medium", "high"))], part))
    return _fill(texts, template, rng).rstrip(".。")


def _beside(texts: Texts, text: str, part: str, rng: Random) -> str:
    """The text before or after something harmless."""
    other = _fill(texts, rng.choice(kept(texts.everyday, part)), rng)
    return rng.choice((f"{other} {text}", f"{text} {other}"))


def _filled(texts: Texts, templates: Sequence[str], part: str, rng: Random) -> Iterator[tuple[str, str]]:
    """Templates with what they become."""
    most = _LEARNED_FILLINGS if part == "train" else _JUDGED_FILLINGS
    for template in templates:
        # A template without slots says one thing only; it comes back with other words around it.
        wanted = most if _SLOT.search(template) else max(4, most // 4)
        yield from ((template, _fill(texts, template, rng)) for _ in range(wanted))


def _fill(texts: Texts, template: str, rng: Random) -> str:
    text = template
    # A slot's words may hold slots themselves.
    for _ in range(2):
        text = _SLOT.sub(lambda slot: rng.choice(texts.slots.get(slot[1], ("{" + slot[1] + "}",))), text)
    return text[:1].upper() + text[1:]


def _corpus(part: str) -> Iterator[Example]:
    """What the built-in base model was made of: questions, queries, small talk."""
    stream = documents(_CORPUS_SEED[part])
    for number in range(_CORPUS_DOCUMENTS[part]):
        document = next(stream)
        for text in (document.text, *(turn.content for turn in document.turns)):
            if text:
                yield Example(text, None, 0, "-", "corpus", f"corpus {number}")
