"""Column types: aware times, words of an enumeration, JSON, small frozen records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Generic, TypeVar

from sqlalchemy import Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import DateTime, TypeDecorator

from tailorbird.domain.jobs import Hyperparameters, JobError, WandbIntegration

E = TypeVar("E", bound=StrEnum)
V = TypeVar("V", Hyperparameters, JobError)


class Utc(TypeDecorator[datetime]):
    """An aware datetime in, the same moment in UTC out. SQLite keeps no zone, PostgreSQL answers in the session's."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Word(TypeDecorator[E], Generic[E]):
    """A member of an enumeration, kept as its value."""

    impl = Text
    cache_ok = True

    def __init__(self, words: type[E]) -> None:
        super().__init__()
        self.words = words

    def process_bind_param(self, value: E | None, dialect: Dialect) -> str | None:
        return None if value is None else value.value

    def process_result_value(self, value: str | None, dialect: Dialect) -> E | None:
        return None if value is None else self.words(value)


class Money(TypeDecorator[Decimal]):
    """An exact amount as text: SQLite knows no decimals."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:
        return None if value is None else format(value, "f")

    def process_result_value(self, value: str | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


class Json(TypeDecorator[dict[str, Any]]):
    """A JSON object as text: PostgreSQL's own types refuse NaN and an escaped NUL, and JSONB forgets keys' order."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Mapping[str, Any] | None, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> dict[str, Any] | None:
        return None if value is None else json.loads(value)


class Record(TypeDecorator[V], Generic[V]):
    """A small frozen dataclass of plain fields, kept as a JSON object."""

    impl = Text
    cache_ok = True

    def __init__(self, shape: type[V]) -> None:
        super().__init__()
        self.shape = shape

    def process_bind_param(self, value: V | None, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(asdict(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> V | None:
        return None if value is None else self.shape(**json.loads(value))


class Words(TypeDecorator[tuple[str, ...]]):
    """Some words, kept as a JSON list."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[str, ...] | None:
        return None if value is None else tuple(json.loads(value))


class Integrations(TypeDecorator[tuple[WandbIntegration, ...]]):
    """A job's integrations, kept as a JSON list of objects."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[WandbIntegration, ...] | None, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps([asdict(one) for one in value])

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[WandbIntegration, ...] | None:
        if value is None:
            return None
        return tuple(WandbIntegration(**(one | {"tags": tuple(one["tags"])})) for one in json.loads(value))
