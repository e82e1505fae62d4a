"""Questions about an invented database and the queries that answer them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from recipes.weaver import words
from recipes.weaver.databases import Column, Database, Table


@dataclass(frozen=True)
class Asked:
    """A question and its query."""

    question: str
    query: str


class Writer:
    """Writes SQL in one database's dialect."""

    def __init__(self, base: Database) -> None:
        self.base = base
        self.dialect = base.dialect

    def alias(self, table: Table, copy: int = 0) -> str:
        """What a table is called inside the query; ``copy`` tells two uses of one table apart."""
        form = self.dialect.alias
        index = copy if "{t}" in form else self.base.tables.index(table) + 4 * copy
        return form.format(t=table.name, i=index) or table.name

    def source(self, table: Table, copy: int = 0) -> str:
        """The table in a FROM clause."""
        alias = self.alias(table, copy)
        return table.name if alias == table.name else f"{table.name} AS {alias}"

    def column(self, table: Table, column: Column | str, copy: int = 0) -> str:
        """A qualified column."""
        name = column if isinstance(column, str) else column.name
        return f"{self.alias(table, copy)}.{name}"

    def bracketed(self, inside: str) -> str:
        """( * ) or (*)."""
        return f"( {inside} )" if self.dialect.spaced else f"({inside})"

    def call(self, function: str, inside: str) -> str:
        """COUNT( * ) or COUNT(*)."""
        return function + self.bracketed(inside)

    def listed(self, parts: list[str]) -> str:
        """Parts with commas, spaced as the dialect does."""
        return (" , " if self.dialect.spaced else ", ").join(parts)

    def text(self, value: str, like: bool = False) -> str:
        """A quoted literal in the dialect's casing."""
        if self.dialect.values == "title":
            value = words.title(value)
        elif self.dialect.values == "upper":
            value = value.upper()
        if self.dialect.quote == "'":
            value = value.replace("'", "''")
        value = f"%{value}%" if like else value
        return f"{self.dialect.quote}{value}{self.dialect.quote}"

    def select(self, what: str, tables: list[Table], conditions: list[str], tail: str = "", copy: int = 0) -> str:
        """A SELECT over one table or over the first table and one that refers to it, without the closing mark."""
        conditions = list(conditions)
        if len(tables) == 1:
            origin = self.source(tables[0], copy)
        else:
            first, other = tables
            link = f"{self.column(first, self.base.key)} = {self.column(other, self.base.link)}"
            if self.dialect.join == "join":
                origin = f"{self.source(first)} JOIN {self.source(other)} ON {link}"
            else:
                both = sorted((first, other), key=lambda table: table.name)
                origin = self.listed([self.source(table) for table in both])
                conditions.insert(1, link)
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return f"SELECT {what} FROM {origin}{where}{tail}"

    def finished(self, query: str) -> str:
        """The whole query with its end mark, keywords in the dialect's casing."""
        if self.dialect.keywords == "lower":
            pieces = query.split(self.dialect.quote)
            pieces[::2] = [_lowered(piece) for piece in pieces[::2]]
            query = self.dialect.quote.join(pieces)
        return query + self.dialect.end


KEYWORDS = frozenset(
    {
        *(
            "SELECT",
            "FROM",
            "WHERE",
            "AND",
            "AS",
            "DISTINCT",
            "GROUP",
            "ORDER",
            "BY",
            "LIMIT",
            "DESC",
            "ASC",
            "JOIN",
            "ON",
        ),
        *("LIKE", "BETWEEN", "COUNT", "MAX", "MIN", "AVG", "SUM", "IN", "NOT", "OR", "HAVING", "INNER"),
    }
)


def _lowered(text: str) -> str:
    parts: list[str] = []
    for part in text.split(" "):
        if part.startswith("("):
            parts.append("(" + _lowered(part[1:]))
            continue
        head, bracket, rest = part.partition("(")
        parts.append(head.lower() + bracket + rest if head in KEYWORDS else part)
    return " ".join(parts)


def value(column: Column, rng: Random) -> str:
    """A lower-case value that fits a column of names, words or dates."""
    if column.type == "date":
        return words.date(rng)
    if column.type == "name":
        return rng.choice((words.venue, words.venue, words.person, words.entity))(rng)
    if column.phrase in ("city", "country", "region", "county", "area", "capital", "origin", "district"):
        return words.place(rng)
    if column.phrase in ("owner", "nickname", "instructor", "sponsor"):
        return words.person(rng)
    if column.phrase == "street":
        return words.street(rng)
    if column.phrase in ("code", "level", "grade", "license", "department"):
        return words.code(rng) if rng.random() < 0.7 else words.word(rng)
    return words.word(rng) if rng.random() < 0.7 else words.entity(rng)


def condition_on(writer: Writer, table: Table, rng: Random, copy: int = 0) -> tuple[str, str]:
    """A spoken condition on a table, and its SQL."""
    base = writer.base
    notes = [note for note in base.judgements if table is base.tables[0]]
    if notes and rng.random() < 0.2:
        note = rng.choice(notes)
        left = writer.column(table, note.column, copy)
        return f"that are {note.adjective}", f"{left} {note.operator} {note.bound}"
    column = rng.choice(table.columns)
    left = writer.column(table, column, copy)
    if column.type == "number":
        bound = words.number(rng) if rng.random() < 0.8 else words.decimal(rng)
        spoken, sign = rng.choice(
            (
                ("more than", ">"),
                ("less than", "<"),
                ("at least", ">="),
                ("at most", "<="),
                ("exactly", "="),
                ("over", ">"),
                ("under", "<"),
            )
        )
        return f"with {spoken} {bound} {column.phrase}", f"{left} {sign} {bound}"
    if column.type == "date":
        day = value(column, rng)
        spoken, sign = rng.choice((("after", ">"), ("before", "<"), ("on", "=")))
        return f"whose {column.phrase} is {spoken} {day}", f"{left} {sign} {writer.text(day)}"
    what = value(column, rng)
    if rng.random() < 0.08:
        return f"whose {column.phrase} contains {what}", f"{left} LIKE {writer.text(what, like=True)}"
    if column.type == "name":
        spoken = rng.choice((f"named {what}", f"called {what}", f"with the name {what}", f"that go by {what}", what))
    elif column.phrase in ("city", "country", "region", "county", "area", "district", "street"):
        spoken = rng.choice(
            (f"in {what}", f"in {what}", f"in the {column.phrase} of {what}", f"on {what}", f"around {what}")
        )
    else:
        spoken = rng.choice(
            (
                f"with {column.phrase} {what}",
                f"whose {column.phrase} is {what}",
                f"of {column.phrase} {what}",
                f"with a {what} {column.phrase}",
            )
        )
    return spoken, f"{left} = {writer.text(what)}"


def _places(base: Database, rng: Random) -> list[Table]:
    if len(base.tables) == 1 or rng.random() < 0.45:
        return [rng.choice(base.tables)]
    return [base.tables[0], rng.choice(base.tables[1:])]


def _filtered(writer: Writer, rng: Random, tables: list[Table], low: int) -> tuple[str, list[str]]:
    """Spoken and written conditions: at least one per joined table."""
    spoken: list[str] = []
    written: list[str] = []
    if len(tables) == 2:
        for table in tables:
            phrase, condition = condition_on(writer, table, rng)
            if table is not tables[0]:
                phrase = f"{rng.choice(('with a', 'that have a', 'and a'))} {table.noun} {phrase}"
            spoken.append(phrase)
            written.append(condition)
        return " ".join(spoken), written
    for _ in range(rng.choice((low, 1, 1, 1, 2))):
        phrase, condition = condition_on(writer, tables[0], rng)
        spoken.append(phrase)
        written.append(condition)
    return " and ".join(spoken), written


def counted(writer: Writer, rng: Random) -> Asked:
    """How many things fulfil the conditions."""
    tables = _places(writer.base, rng)
    things = words.plural(tables[0].noun)
    spoken, conditions = _filtered(writer, rng, tables, 0)
    form = rng.choice(
        (
            "how many {t} {s} are there",
            "how many {t} are there {s}",
            "count the {t} {s}",
            "number of {t} {s}",
            "what is the number of {t} {s}",
        )
    )
    return Asked(form.format(t=things, s=spoken), writer.select(writer.call("COUNT", "*"), tables, conditions))


def shown(writer: Writer, rng: Random) -> Asked:
    """Some columns of the things that fulfil the conditions."""
    tables = _places(writer.base, rng)
    owner = rng.choice(tables)
    columns = rng.sample(owner.columns, min(len(owner.columns), rng.choice((1, 1, 1, 2, 3))))
    spoken, conditions = _filtered(writer, rng, tables, 1)
    phrase = words.joined([column.phrase for column in columns])
    if owner is not tables[0]:
        phrase = f"{owner.noun} {phrase}"
    form = rng.choice(
        (
            "what is the {c} of {t} {s}",
            "show me the {c} of the {t} {s}",
            "give me the {c} for {t} {s}",
            "list the {c} of all {t} {s}",
            "find the {c} of {t} {s}",
            "tell me the {c} of {t} {s}",
        )
    )
    distinct = "DISTINCT " if rng.random() < 0.15 else ""
    if distinct:
        form = rng.choice(("what are the different {c} of {t} {s}", "list each distinct {c} of {t} {s}"))
    what = distinct + writer.listed([writer.column(owner, column) for column in columns])
    question = form.format(c=phrase, t=words.plural(tables[0].noun), s=spoken)
    return Asked(question, writer.select(what, tables, conditions))


def located(writer: Writer, rng: Random) -> Asked:
    """Which or where: the name or a place of the things that fulfil the conditions."""
    tables = _places(writer.base, rng)
    table = tables[0]
    spoken, conditions = _filtered(writer, rng, tables, 1)
    columns = [table.columns[0]]
    spots = [column for column in table.columns if column.phrase in ("city", "street", "region", "area", "country")]
    if spots and rng.random() < 0.6:
        columns = [*spots, table.columns[0]] if rng.random() < 0.5 else spots
        form = rng.choice(
            ("where is {t} {s}", "where are the {t} {s}", "where can i find a {n} {s}", "where can we find {t} {s}")
        )
    else:
        form = rng.choice(
            (
                "which {t} {s} are there",
                "give me a {n} {s}",
                "what are some {t} {s}",
                "is there a {n} {s}",
                "name the {t} {s}",
                "{t} {s}",
            )
        )
    what = writer.listed([writer.column(table, column) for column in columns])
    question = form.format(t=words.plural(table.noun), n=table.noun, s=spoken)
    return Asked(question, writer.select(what, tables, conditions))


def extreme(writer: Writer, rng: Random) -> Asked:
    """The thing with the most or least of something, by subselect or by order."""
    table = rng.choice(writer.base.tables)
    numbers = table.of("number")
    if not numbers:
        return counted(writer, rng)
    column = rng.choice(numbers)
    function, spoken, direction = rng.choice(
        (
            ("MAX", "highest", "DESC"),
            ("MAX", "most", "DESC"),
            ("MIN", "lowest", "ASC"),
            ("MIN", "least", "ASC"),
            ("MAX", "best", "DESC"),
        )
    )
    state = rng.getstate()
    phrase, condition = condition_on(writer, table, rng)
    wanted = rng.random() < 0.6
    name = writer.column(table, table.columns[0])
    left = writer.column(table, column)
    outside = [condition] if wanted else []
    question = rng.choice(("what is the {n} with the {x} {c}", "which {n} has the {x} {c}", "{n} with the {x} {c}"))
    question = question.format(n=table.noun, x=spoken, c=column.phrase) + (f" {phrase}" if wanted else "")
    if writer.dialect.join == "join":
        return Asked(question, writer.select(name, [table], outside, f" ORDER BY {left} {direction} LIMIT 1"))
    after = rng.getstate()
    rng.setstate(state)
    # The same draws again give the same condition, now about the inner copy of the table.
    _, inner_condition = condition_on(writer, table, rng, copy=1)
    rng.setstate(after)
    inside = [inner_condition] if wanted else []
    inner = writer.select(writer.call(function, writer.column(table, column, 1)), [table], inside, copy=1)
    return Asked(question, writer.select(name, [table], [f"{left} = {writer.bracketed(inner)}", *outside]))


def computed(writer: Writer, rng: Random) -> Asked:
    """An average, sum, maximum or minimum."""
    table = rng.choice(writer.base.tables)
    numbers = table.of("number")
    if not numbers:
        return shown(writer, rng)
    column = rng.choice(numbers)
    function, spoken = rng.choice((("AVG", "average"), ("SUM", "total"), ("MAX", "maximum"), ("MIN", "minimum")))
    phrase, conditions = _filtered(writer, rng, [table], 0)
    question = rng.choice(
        ("what is the {x} {c} of {t} {s}", "give the {x} {c} of the {t} {s}", "compute the {x} {c} for {t} {s}")
    )
    question = question.format(x=spoken, c=column.phrase, t=words.plural(table.noun), s=phrase)
    return Asked(question, writer.select(writer.call(function, writer.column(table, column)), [table], conditions))


def grouped(writer: Writer, rng: Random) -> Asked:
    """How many per value of a column."""
    table = rng.choice(writer.base.tables)
    column = rng.choice(table.of("text", "name"))
    left = writer.column(table, column)
    things = words.plural(table.noun)
    spoken, conditions = _filtered(writer, rng, [table], 0) if rng.random() < 0.3 else ("", [])
    question = rng.choice(
        ("how many {t} {s} are there per {c}", "count the {t} {s} for each {c}", "number of {t} {s} by {c}")
    )
    what = writer.listed([left, writer.call("COUNT", "*")])
    query = writer.select(what, [table], conditions, f" GROUP BY {left}")
    return Asked(question.format(t=things, c=column.phrase, s=spoken), query)


def ordered(writer: Writer, rng: Random) -> Asked:
    """Names in the order of something, perhaps only the first few."""
    table = rng.choice(writer.base.tables)
    column = rng.choice(table.columns)
    down = rng.random() < 0.5
    limit = rng.randint(2, 20) if rng.random() < 0.5 else 0
    question = f"list the {'first ' + str(limit) + ' ' if limit else ''}{words.plural(table.noun)}"
    question += f" sorted by {column.phrase}" + (" from high to low" if down else "")
    tail = (
        f" ORDER BY {writer.column(table, column)}" + (" DESC" if down else "") + (f" LIMIT {limit}" if limit else "")
    )
    return Asked(question, writer.select(writer.column(table, table.columns[0]), [table], [], tail))


FORMS = (counted, counted, shown, shown, shown, located, located, extreme, computed, grouped, ordered)
