"""Labelled examples: sentences written one by one, fillings of templates, and texts of the built-in base model."""

from __future__ import annotations

import json
import re
import tomllib
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from recipes.weaver.corpus import documents

HERE = Path(__file__).parent
LANGUAGES = {"en": "english", "ja": "japanese", "nl": "dutch"}
AUTHORS = tuple(sorted(path.stem for path in (HERE / "authors").glob("*.jsonl")))
"""One file each, in several languages; nobody had read what another wrote."""
SEVERITIES = ("safe", "low", "medium", "high")
FOLDS = 5

_ALSO_VIOLENT = re.compile(
    r"(?i)\b(?:kill|shoot|die|dead|death|beat|burn|exterminat|crush|hunt|wip|destroy|drown|hang|gas|lynch|stone|slaughter|"
    r"starve|sink|attack|bomb|behead|execut|dood|brand|schiet|sla|roei|uitgeroeid|vernietig|verdrink|vergas|hang|steek|steen|"
    r"gestenigd|zinken|verhonger|vertrap|steriliseer)|殺|死|燃|撃|根絶|全滅|絶滅|駆除|殴|吊|溺|石|沈|踏み|狩り|襲|滅"
)
_SLOT = re.compile(r"\{(\w+)\}")
_SEED = 20261121
_CORPUS_SEED, _CORPUS_DOCUMENTS = 11, 2000


@dataclass(frozen=True, slots=True)
class Example:
    """`category` is None for a harmless text. `group` says what it is about or looks like.

    `fold` parts the written sentences for cross-validation: neighbours stay together, and so does all that one of the
    AUTHORS wrote. -1: always learned from.
    """

    text: str
    category: str | None
    severity: int
    language: str
    group: str
    fold: int = -1


@dataclass(frozen=True, slots=True)
class Texts:
    """One language's templates and what stands in their slots."""

    leads: list[str]
    everyday: list[str]
    slots: dict[str, list[str]]
    harmful: dict[str, dict[str, list[str]]]
    look_alikes: dict[str, list[str]]


def examples() -> Iterator[Example]:
    """All there is to learn from. The same every time."""
    rng = Random(_SEED)
    for language, name in LANGUAGES.items():
        yield from in_folds(written(name))
        with (HERE / f"{name}.toml").open("rb") as source:
            yield from _filled(Texts(**tomllib.load(source)), language, rng)
    for place, author in enumerate(AUTHORS):
        # Whoever is judged with was not learned from: another's wording is what the cuts must stand.
        yield from (replace(e, fold=place % FOLDS) for e in written(f"authors/{author}"))
    yield from _corpus()


def written(name: str) -> list[Example]:
    """The sentences of a file in their order."""
    rows = [json.loads(line) for line in (HERE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    return [Example(r["text"], r["category"], SEVERITIES.index(r["severity"]), r["language"], r["group"]) for r in rows]


def in_folds(sentences: Sequence[Example]) -> Iterator[Example]:
    """Sentences that stand next to each other were thought of together: one fold each.

    The groups of the three languages correspond, so that a translation is in its original's fold.
    """
    sizes = Counter((e.group, e.category, e.severity) for e in sentences)
    seen: dict[tuple[str, str | None, int], int] = defaultdict(int)
    for e in sentences:
        key = (e.group, e.category, e.severity)
        fold = (zlib.crc32(e.group.encode()) + seen[key] * FOLDS // sizes[key]) % FOLDS
        seen[key] += 1
        yield Example(e.text, e.category, e.severity, e.language, e.group, fold)


def is_judged(example: Example, category: str) -> bool:
    """Calls to kill a group are hate and violence at once: they neither prove nor disprove violence."""
    hateful = example.category == "hate_fairness" and example.severity == SEVERITIES.index("high")
    return not (category == "violence" and hateful and _ALSO_VIOLENT.search(example.text))


def _filled(texts: Texts, language: str, rng: Random) -> Iterator[Example]:
    for category, levels in texts.harmful.items():
        for severity, templates in levels.items():
            for template in templates:
                text = rng.choice(texts.leads) + _fill(texts, template, rng)
                yield Example(text, category, SEVERITIES.index(severity), language, "template")
    for templates in (*texts.look_alikes.values(), texts.everyday):
        for template in templates:
            text = rng.choice(texts.leads) + _fill(texts, template, rng)
            if "{harm}" in text:
                text = text.replace("{harm}", _any_harm(texts, rng))
            yield Example(text, None, 0, language, "template")


def _any_harm(texts: Texts, rng: Random) -> str:
    levels = texts.harmful[rng.choice(list(texts.harmful))]
    return _fill(texts, rng.choice(levels[rng.choice(("medium", "high"))]), rng).rstrip(".。")


def _fill(texts: Texts, template: str, rng: Random) -> str:
    text = template
    # A slot's words may hold slots themselves.
    for _ in range(2):
        text = _SLOT.sub(lambda slot: rng.choice(texts.slots.get(slot[1], ("{" + slot[1] + "}",))), text)
    return text[:1].upper() + text[1:]


def _corpus() -> Iterator[Example]:
    """What the built-in base model was made of: questions, queries, small talk."""
    stream = documents(_CORPUS_SEED)
    for _ in range(_CORPUS_DOCUMENTS):
        document = next(stream)
        for text in (document.text, *(turn.content for turn in document.turns)):
            if text:
                yield Example(text, None, 0, "-", "corpus")
