"""Plain texts without chat markup: stories, notes, records and prompt-and-completion pairs."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

from recipes.weaver import words
from recipes.weaver.documents import Document

SENTENCES = (
    "{n} walked to the {a} {t} near {p}.",
    "It was a {a} day in {p}, and the {t} was {a2}.",
    "{n} had never seen such a {a} {t}.",
    '"Where is the {t}?" asked {n}.',
    '"I left it in {p}," said {m}.',
    "They looked for the {t} until the evening.",
    "{m} gave {n} a {a} {t2} and some {f}.",
    "In the morning {n} and {m} went back to {p}.",
    "The {t} stood between the {t2} and the {a} {t3}.",
    "Nobody in {p} knew what {n} had done.",
    "After that, {n} always kept the {t} close.",
    "{n} cooked {f} for everybody in the house.",
    "{m} was {a}, but {n} was {a2}.",
    "When the rain stopped, the {t} was gone.",
    "So {n} bought a new {t} for {k} coins.",
    "And that is how the {t} came to {p}.",
)


def story(rng: Random) -> Document:
    """A few sentences about the same people, place and things."""
    fixed = {
        "n": words.title(words.person(rng)),
        "m": words.title(words.person(rng)),
        "p": words.title(words.place(rng)),
        "t": rng.choice(words.NOUNS),
    }
    lines: list[str] = []
    for sentence in rng.sample(SENTENCES, rng.randint(3, 9)):
        free = {key: rng.choice(words.NOUNS) for key in ("t2", "t3")} | {
            key: rng.choice(words.ADJECTIVES) for key in ("a", "a2")
        }
        lines.append(sentence.format(**fixed, **free, f=rng.choice(words.FOODS), k=words.number(rng)))
    return Document("story", text=" ".join(lines))


def notice(rng: Random) -> Document:
    """A short article about an invented place or house."""
    name, place, owner = words.title(words.venue(rng)), words.title(words.place(rng)), words.title(words.person(rng))
    year = rng.randint(1600, 2030)
    parts = [
        f"{name} is a {rng.choice(words.ADJECTIVES)} {rng.choice(words.TABLE_NOUNS)} in {place}.",
        f"It was opened in {year} by {owner}.",
        f"{rng.choice(('Today', 'Since then', 'In recent years'))} {name} is known for its {rng.choice(words.FOODS)}.",
        f"{owner} also owned {words.title(words.venue(rng))}, which closed in {year + rng.randint(1, 60)}.",
        f"The nearest station is {place}, about {words.number(rng)} meters away.",
        f"Every {words.title(rng.choice(words.WEEKDAYS))} "
        f"people come from {words.title(words.place(rng))} to visit {name}.",
    ]
    return Document("notice", text=f"{name}\n\n" + " ".join([parts[0], *rng.sample(parts[1:], rng.randint(1, 5))]))


def records(rng: Random) -> Document:
    """Rows of one shape as CSV, JSON lines or key and value."""
    keys = rng.sample((*words.TEXT_COLUMNS, *words.NUMBER_COLUMNS), rng.randint(2, 4))
    makers: list[Callable[[Random], str]] = [
        rng.choice((words.word, words.place, words.number, words.code, words.person)) for _ in keys
    ]
    rows = [[make(rng) for make in makers] for _ in range(rng.randint(2, 6))]
    shape = rng.randrange(3)
    if shape == 0:
        lines = [",".join(keys), *(",".join(row) for row in rows)]
    elif shape == 1:
        lines = [json.dumps(dict(zip(keys, row, strict=True))) for row in rows]
    else:
        lines = ["\n".join(f"{key}: {value}" for key, value in zip(keys, row, strict=True)) + "\n" for row in rows]
    return Document("records", text="\n".join(lines).rstrip())


def completed(rng: Random) -> Document:
    """A prompt and its completion, several of one kind, the way few-shot prompts are written."""
    thing = rng.choice(("upper", "quote", "last", "label", "repeat"))
    separator, mark = rng.choice(
        (("\n\n###\n\n", " END"), (" ->", "\n"), ("\nAnswer:", "\n"), (" =>", "\n"), ("\nOutput:", "\n\n"))
    )
    label = {True: rng.choice(("food", "yes", "A", "positive")), False: rng.choice(("other", "no", "B", "negative"))}
    lines: list[str] = []
    for _ in range(rng.randint(2, 6)):
        item = words.entity(rng)
        if thing == "label":
            item = rng.choice(rng.choice((words.FOODS, words.NOUNS)))
        answers = {
            "upper": item.upper(),
            "quote": f'"{item}"',
            "last": item.split()[-1],
            "label": label[item in words.FOODS],
            "repeat": item,
        }
        lines.append(f"{item}{separator} {answers[thing]}{mark}")
    return Document("completion", text="".join(lines).rstrip())


def report(rng: Random) -> Document:
    """A dated log or list of things to do, with names that come back."""
    people = [words.title(words.person(rng)) for _ in range(2)]
    lines = [f"{rng.choice(('Notes', 'Minutes', 'To do', 'Log'))}, {words.date(rng)}"]
    for _ in range(rng.randint(2, 6)):
        who, thing = rng.choice(people), words.entity(rng)
        lines.append(
            rng.choice(
                (
                    "- {w} will call {t}.",
                    "- {w} visited {t} at {h}:{m:02d}.",
                    "- {t}: done by {w}.",
                    "- {w} asked for {t}.",
                )
            ).format(w=who, t=words.title(thing), h=rng.randint(0, 23), m=rng.randint(0, 59))
        )
    return Document("report", text="\n".join(lines))


PLAIN: tuple[tuple[float, Callable[[Random], Document]], ...] = (
    (4, story),
    (2, notice),
    (2, records),
    (3, completed),
    (2, report),
)
