"""A question about an invented database: one of the plain or compound forms, in one of several registers."""

from __future__ import annotations

from random import Random

from recipes.weaver import compound, queries
from recipes.weaver.databases import Database
from recipes.weaver.queries import Asked, Writer

COMPOUND = 0.3
"""The share of questions that need sets, ranges, groups or several joins."""
_LEADS = (
    "please ", "can you ", "could you ", "i want to know ", "hey , ", "i would like to see ", "do you know ", "next , ",
    "would you mind telling me ", "tell me , ", "show me , ", "for my report , ",
)  # fmt: skip


def question(base: Database, rng: Random) -> Asked:
    """A question about ``base`` with its finished query.

    The wording follows one of three registers: lower case with the mark set off by a space, as corpora do; plain
    lower case; or a written sentence.
    """
    writer = Writer(base)
    asked = rng.choice(compound.FORMS)(writer, rng) if rng.random() < COMPOUND else None
    # A form that this database has no tables or columns for gives nothing.
    asked = asked or rng.choice(queries.FORMS)(writer, rng)
    text = " ".join(asked.question.split())
    register = rng.randrange(4)
    if register <= 1:
        text += rng.choice((" ?", " ?", " ?", ""))
    elif register == 2:
        text = text[0].upper() + text[1:] + rng.choice(("?", "?", ".", ""))
    if rng.random() < 0.1:
        text = rng.choice(_LEADS) + text
    return Asked(text, writer.finished(asked.query))
