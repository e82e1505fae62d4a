"""A dataclass and the table whose columns are named like its fields: rows in, rows out, pages of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from tailorbird.service.ports import Page

T = TypeVar("T")
Condition = sa.ColumnElement[bool] | sa.TextClause


class Rows(Generic[T]):
    """Columns the dataclass does not know (`seq`, leases, `*_key`) are not read."""

    def __init__(self, shape: type[T], table: sa.Table) -> None:
        self._shape = shape
        self._names = [field.name for field in fields(shape)]  # type: ignore[arg-type]
        self.table = table
        self.columns = [table.c[name] for name in self._names]

    def values(self, thing: T) -> dict[str, Any]:
        return {name: getattr(thing, name) for name in self._names}

    def thing(self, row: Mapping[Any, Any]) -> T:
        return self._shape(**{name: row[name] for name in self._names})

    def one(self, connection: sa.Connection, *conditions: Condition) -> T | None:
        """The row that meets the conditions; callers name a unique one."""
        row = connection.execute(sa.select(*self.columns).where(*conditions)).mappings().one_or_none()
        return None if row is None else self.thing(row)

    def all(self, connection: sa.Connection, *conditions: Condition, order: Sequence[sa.ColumnElement[Any]]) -> list[T]:
        query = sa.select(*self.columns).where(*conditions).order_by(*order)
        return [self.thing(row) for row in connection.execute(query).mappings()]

    def page(
        self,
        connection: sa.Connection,
        *conditions: Condition,
        order: Sequence[sa.Column[Any]],
        descending: bool,
        last: sa.ColumnElement[bool] | None,
        limit: int,
    ) -> Page[T]:
        """`order` must be unique within `conditions`; `last` names the row the page before ended with."""
        query = sa.select(*self.columns).where(*conditions)
        if last is not None:
            place = connection.execute(sa.select(*order).where(last, *conditions)).one_or_none()
            if place is None:
                return Page([], has_more=False)
            here = sa.tuple_(*order)
            bound = sa.tuple_(*(sa.literal(value, column.type) for value, column in zip(place, order, strict=True)))
            query = query.where(here < bound if descending else here > bound)
        query = query.order_by(*(column.desc() if descending else column.asc() for column in order)).limit(limit + 1)
        rows = connection.execute(query).mappings().all()
        return Page([self.thing(row) for row in rows[:limit]], has_more=len(rows) > limit)


def either(key: sa.Column[Any], within: Condition, *ways: Condition) -> sa.ColumnElement[bool]:
    """Rows found in one of these ways: each uses its own index, where SQLite answers a plain OR with a scan."""
    return key.in_(sa.union_all(*(sa.select(key).where(within, way) for way in ways)))


def insert_new(connection: sa.Connection, table: sa.Table, values: Mapping[str, Any], unique: Sequence[str]) -> bool:
    """Inserts unless the columns `unique` have these values already; says whether it did.

    An error instead would end the whole transaction on PostgreSQL. With `unique` empty every unique constraint counts.
    """
    known = next(iter(table.primary_key.columns))
    if connection.dialect.name == "sqlite":
        added = sqlite.insert(table).values(values).on_conflict_do_nothing(unique or None).returning(known)
    else:
        added = (
            postgresql.insert(table)
            .values(values)
            .on_conflict_do_nothing(index_elements=unique or None)
            .returning(known)
        )
    return connection.execute(added).first() is not None


def insert_or_replace(
    connection: sa.Connection, table: sa.Table, values: Mapping[str, Any], unique: Sequence[str]
) -> None:
    """Inserts, or overwrites the row whose columns `unique` have these values."""
    if connection.dialect.name == "sqlite":
        connection.execute(sqlite.insert(table).values(values).on_conflict_do_update(unique, set_=dict(values)))
    else:
        connection.execute(
            postgresql.insert(table).values(values).on_conflict_do_update(index_elements=unique, set_=dict(values))
        )
