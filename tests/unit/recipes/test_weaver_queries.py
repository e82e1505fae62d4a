"""Tests for the invented queries of the Weaver corpus: a real database understands them, and every form occurs."""

from __future__ import annotations

import sqlite3
from random import Random

import pytest

from recipes.weaver import compound, queries
from recipes.weaver.databases import Database, database
from recipes.weaver.queries import Writer
from recipes.weaver.questions import question

RESERVED = ("case", "order")
"""Names of tables that SQL takes for words of its own."""


def opened(base: Database) -> sqlite3.Connection:
    """The database with its tables, all empty."""
    connection = sqlite3.connect(":memory:")
    for place, table in enumerate(base.tables):
        names = [base.key, *(column.name for column in table.columns), *([base.link.name] if place else [])]
        columns = ", ".join(f'"{name}"' for name in dict.fromkeys(names))
        connection.execute(f'CREATE TABLE "{table.name}" ({columns})')
    return connection


def understood(base: Database, query: str) -> bool:
    if any(table.name.lower() in RESERVED for table in base.tables):
        return True
    connection = opened(base)
    try:
        connection.execute("EXPLAIN " + query)
    except sqlite3.Error:
        return False
    finally:
        connection.close()
    return True


@pytest.mark.parametrize("form", dict.fromkeys((*compound.FORMS, *queries.FORMS)), ids=lambda form: form.__name__)
def test_a_database_understands_every_form(form) -> None:
    written = 0
    for seed in range(60):
        base = database(Random(seed))
        asked = form(Writer(base), Random(seed + 1))
        if asked is not None:
            written += 1
            query = Writer(base).finished(asked.query)
            assert understood(base, query), query
    assert written > 10


def test_a_query_over_columns_that_are_not_there_is_not_understood() -> None:
    base = database(Random(1))
    assert not understood(base, f"SELECT nothing FROM {base.tables[0].name}")


def test_about_a_third_of_the_questions_need_more_than_one_simple_select() -> None:
    marks = (" IN (", " OR ", "BETWEEN", "HAVING", "LIMIT 1", "COUNT( DISTINCT", "COUNT(DISTINCT", "<>")
    asked = [question(database(Random(seed)), Random(seed)).query.upper() for seed in range(600)]
    share = sum(any(mark in query for mark in marks) for query in asked) / len(asked)
    assert 0.15 < share < 0.5
