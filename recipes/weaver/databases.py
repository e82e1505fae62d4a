"""Invented databases: schemas, the words people use for them, and the dialect their queries are written in."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from recipes.weaver import words

NAMED_DATABASES = 150
"""Databases the model is to know by name alone; they are the same for every corpus seed."""

ENDINGS = ("_name", "_code", "_id", "_type", "_value", "_text")


@dataclass(frozen=True)
class Column:
    """A column: its SQL name, the phrase people use, and the type of its values."""

    name: str
    phrase: str
    type: str


@dataclass(frozen=True)
class Table:
    """A table: SQL name, singular noun, and columns; the first one is the name of the thing."""

    name: str
    noun: str
    columns: tuple[Column, ...]

    def of(self, *types: str) -> list[Column]:
        """The columns of these types."""
        return [column for column in self.columns if column.type in types]


@dataclass(frozen=True)
class Dialect:
    """How queries of one database are written."""

    alias: str
    quote: str
    spaced: bool
    end: str
    join: str
    keywords: str
    first_words: str
    values: str


@dataclass(frozen=True)
class Judgement:
    """A word with a meaning in one database: ``cheap`` is ``price < 20``."""

    adjective: str
    column: Column
    operator: str
    bound: str


@dataclass(frozen=True)
class Database:
    """A database with one or more tables; ``link`` is the column by which later tables refer to the first."""

    name: str
    tables: tuple[Table, ...]
    link: Column
    key: str
    dialect: Dialect
    judgements: tuple[Judgement, ...]


def dialect(rng: Random) -> Dialect:
    """A way of writing queries."""
    return Dialect(
        alias=rng.choice(("{t}alias{i}", "{t}alias{i}", "{t}alias{i}", "t{i}", "T{i}", "", "{t}_{i}")),
        quote=rng.choice(('"', '"', "'")),
        spaced=rng.random() < 0.6,
        end=rng.choice((" ;", " ;", ";", "")),
        join=rng.choice(("comma", "comma", "join")),
        keywords=rng.choice(("upper", "upper", "upper", "lower")),
        first_words=rng.choice(("keep", "lower")),
        values=rng.choice(("keep", "keep", "keep", "keep", "keep", "title", "upper")),
    )


def database(rng: Random) -> Database:
    """An invented database of one to four tables."""
    casing = rng.choice(("upper", "upper", "lower", "title", "camel"))
    nouns = rng.sample(words.TABLE_NOUNS, rng.choice((1, 2, 2, 3, 3, 4)))
    if rng.random() < 0.25:
        nouns[-1] = words.invented(rng, 2, 2)
    tables = tuple(_table(rng, noun, casing) for noun in nouns)
    main = tables[0]
    key = _cased("id", casing)
    link = Column(_cased(f"{main.noun}_id", casing), f"{main.noun} id", "key")
    name = rng.choice(
        (words.plural(main.noun), main.noun, words.invented(rng, 2, 3), f"{rng.choice(nouns)}_{main.noun}")
    )
    return Database(name, tables, link, key, dialect(rng), _judgements(rng, main))


def named_database(number: int) -> Database:
    """The database that always has this number, whatever the corpus seed."""
    return database(Random(7_000_003 * (number + 1)))


def _table(rng: Random, noun: str, casing: str) -> Table:
    spoken = noun if rng.random() < 0.6 else words.plural(noun)
    if rng.random() < 0.15:
        spoken = f"{rng.choice(words.NOUNS)}_{spoken}"
    columns = [Column(_cased(rng.choice(("name", "name", "title", f"{noun}_name")), casing), "name", "name")]
    used = {"name", "title"}
    for _ in range(rng.randint(2, 6)):
        source, type_ = rng.choice(
            (
                (words.TEXT_COLUMNS, "text"),
                (words.TEXT_COLUMNS, "text"),
                (words.NUMBER_COLUMNS, "number"),
                (words.NUMBER_COLUMNS, "number"),
                (words.DATE_COLUMNS, "date"),
            )
        )
        stem = rng.choice(source) if rng.random() < 0.85 else words.invented(rng, 1, 3)
        if stem in used:
            continue
        used.add(stem)
        full = stem
        if rng.random() < 0.25:
            full = stem + rng.choice(ENDINGS) if type_ == "text" else f"total_{stem}" if type_ == "number" else stem
        columns.append(Column(_cased(full, casing), stem.replace("_", " "), type_))
    return Table(_cased(spoken, casing), noun, tuple(columns))


def _judgements(rng: Random, table: Table) -> tuple[Judgement, ...]:
    numbers = table.of("number")
    if not numbers or rng.random() < 0.4:
        return ()
    adjectives = rng.sample(("good", "nice", "cheap", "famous", "popular", "large", "recent", "easy", "safe"), 2)
    bounds = (words.decimal(rng), str(rng.randint(1, 9)), f"{rng.randint(1, 9)}.5", words.number(rng))
    return tuple(Judgement(word, rng.choice(numbers), rng.choice("><"), rng.choice(bounds)) for word in adjectives)


def _cased(name: str, casing: str) -> str:
    if casing == "upper":
        return name.upper()
    if casing == "title":
        return "_".join(part.capitalize() for part in name.split("_"))
    if casing == "camel":
        head, *tail = name.split("_")
        return head + "".join(part.capitalize() for part in tail)
    return name


def described(base: Database, rng: Random) -> str:
    """The schema in words, in one of several notations, with what its judgements mean."""
    form = rng.randrange(3)
    lines: list[str] = []
    for index, table in enumerate(base.tables):
        names = [base.key, *(column.name for column in table.columns)]
        if index:
            names.append(base.link.name)
        if form == 0:
            lines.append(f"{table.name}({', '.join(names)})")
        elif form == 1:
            lines.append(f"CREATE TABLE {table.name} ( {' , '.join(names)} ) ;")
        else:
            lines.append(f"table {table.name}: {' '.join(names)}")
    lines += [f"{note.adjective}: {note.column.name} {note.operator} {note.bound}" for note in base.judgements]
    return "\n".join(lines)
