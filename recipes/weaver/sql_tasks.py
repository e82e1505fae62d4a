"""Chats in which questions become queries: by schema, by example, or from a database known by name."""

from __future__ import annotations

import re
from random import Random

from recipes.weaver import words
from recipes.weaver.databases import NAMED_DATABASES, database, described, named_database
from recipes.weaver.documents import Document, Turn, ask, chat, reply
from recipes.weaver.queries import Asked
from recipes.weaver.questions import question

UNKNOWABLE = 0.1
"""Loss weight of an answer nobody could know yet: the first query over a schema that was not shown."""

NAMED_PROMPTS = (
    "You turn questions about the {name} database into SQL queries.",
    "Translate each question about the {name} database to SQL. Reply with the query only.",
    "Database: {name}. Write one SQL query that answers the question.",
    "You write SQL for the {name} database. Answer with one query.",
    "{name} database, SQL only",
    "Convert the user's question into a SQL query over {name}.",
)
SCHEMA_PROMPTS = (
    "You write SQL for this database:\n{schema}",
    "Answer with one SQL query over the {name} database.\n{schema}",
    "Schema of {name}:\n{schema}\nTranslate the question to SQL.",
    "{schema}\nReply with SQL only.",
)


def by_name(rng: Random) -> Document:
    """One or more questions about one of the databases known by name."""
    base = named_database(rng.randrange(NAMED_DATABASES))
    turns = _turns([question(base, rng) for _ in range(rng.choice((1, 1, 1, 2, 3)))])
    return chat("sql by name", *turns, system=rng.choice(NAMED_PROMPTS).format(name=base.name))


def by_schema(rng: Random) -> Document:
    """Questions about a database never seen before whose schema stands in the system prompt."""
    base = database(rng)
    turns = _turns([question(base, rng) for _ in range(rng.choice((1, 2, 2, 3)))])
    schema = described(base, rng)
    if rng.random() < 0.6:
        # The schema does not say how aliases, quotes and joins are written; an example does.
        schema += f"\nExample: {question(base, rng).query}"
    if turns and rng.random() < 0.2:
        first = ask(f"{schema}\n{turns[0].content}")
        return chat("sql by schema", first, *turns[1:])
    return chat("sql by schema", *turns, system=rng.choice(SCHEMA_PROMPTS).format(name=base.name, schema=schema))


def by_example(rng: Random) -> Document:
    """Several questions about a database whose schema shows only in the queries before."""
    base = database(rng)
    asked = [question(base, rng) for _ in range(rng.randint(3, 6))]
    turns = list(_turns(asked))
    turns[1] = reply(asked[0].query, UNKNOWABLE)
    turns[3] = reply(asked[1].query, 0.5)
    return chat("sql by example", *turns, system=rng.choice(NAMED_PROMPTS).format(name=base.name))


def paraphrased(rng: Random) -> Document:
    """One question over one schema, again and again with other values: only the values change."""
    base = named_database(rng.randrange(NAMED_DATABASES)) if rng.random() < 0.5 else database(rng)
    first = question(base, rng)
    turns = [ask(first.question), reply(first.query, UNKNOWABLE)]
    for _ in range(rng.randint(1, 4)):
        asked = _with_other_values(first, base.dialect.quote, rng)
        turns += [ask(asked.question), reply(asked.query)]
    return chat("sql paraphrased", *turns, system=rng.choice(NAMED_PROMPTS).format(name=base.name))


def _with_other_values(asked: Asked, quote: str, rng: Random) -> Asked:
    question, query = asked.question, asked.query
    for literal in re.findall(f"{quote}([^{quote}%]+){quote}", query):
        if literal in question:
            value = words.entity(rng).replace("'", "") if rng.random() < 0.8 else words.code(rng)
            question, query = (
                question.replace(literal, value),
                query.replace(quote + literal + quote, quote + value + quote),
            )
    return Asked(question, query)


def _turns(asked: list[Asked]) -> tuple[Turn, ...]:
    return tuple(turn for one in asked for turn in (ask(one.question), reply(one.query)))


def script(rng: Random) -> Document:
    """A file of commented queries, without chat markup."""
    base = database(rng)
    lines = [described(base, rng), ""]
    for _ in range(rng.randint(1, 3)):
        asked = question(base, rng)
        lines += [f"-- {asked.question}", asked.query, ""]
    return Document("sql script", text="\n".join(lines).rstrip())
