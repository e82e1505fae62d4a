"""The database's tables, each declared once; the steps in `migrations/` bring a database to them.

Rows are found by the identifiers customers see; `seq` counts insertions and breaks ties where times are equal. Columns
named `*_key` hold what is compared instead of what was written: lower case, or a digest.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Integer, MetaData, Text
from sqlalchemy.types import TypeEngine

metadata = MetaData()


def seq() -> Column[int]:
    # SQLite counts by itself only in a column of exactly the type INTEGER.
    return Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


def required(name: str, kind: TypeEngine[Any] | type[TypeEngine[Any]] = Text) -> Column[Any]:
    return Column(name, kind, nullable=False)


def optional(name: str, kind: TypeEngine[Any] | type[TypeEngine[Any]] = Text) -> Column[Any]:
    return Column(name, kind, nullable=True)


def where(condition: str) -> dict[str, Any]:
    """A partial index: both databases use it for queries that contain the same condition, literally."""
    return {
        "sqlite_where": sa.text(condition.replace("false", "0")),  # as SQLAlchemy writes it there
        "postgresql_where": sa.text(condition),
    }
