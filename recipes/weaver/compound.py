"""Questions beyond one SELECT over one join: sets, exclusions, alternatives, ranges, several joins, groups."""

from __future__ import annotations

from random import Random

from recipes.weaver import words
from recipes.weaver.databases import Table
from recipes.weaver.queries import Asked, Writer, condition_on


def _shown(writer: Writer, table: Table, rng: Random) -> tuple[str, str]:
    """One to three columns of a table, spoken and written."""
    columns = rng.sample(table.columns, min(len(table.columns), rng.choice((1, 1, 2, 3))))
    if rng.random() < 0.5:
        columns = [table.columns[0]]
    written = writer.listed([writer.column(table, column) for column in columns])
    return words.joined([column.phrase for column in columns]), ("DISTINCT " if rng.random() < 0.4 else "") + written


def member(writer: Writer, rng: Random) -> Asked | None:
    """Things that have, or do not have, something in another table: IN and NOT IN."""
    if len(writer.base.tables) < 2:
        return None
    table, other = writer.base.tables[0], rng.choice(writer.base.tables[1:])
    phrase, condition = condition_on(writer, other, rng)
    without = rng.random() < 0.5
    if rng.random() < 0.25:
        phrase, conditions = "", list[str]()
    else:
        conditions = [condition]
    inner = writer.select(writer.column(other, writer.base.link), [other], conditions)
    sign = "NOT IN" if without else "IN"
    spoken, what = _shown(writer, table, rng)
    outside = [f"{writer.column(table, writer.base.key)} {sign} {writer.bracketed(inner)}"]
    joined = rng.choice(("without any", "that do not have a", "with no") if without else ("that have a", "having some"))
    question = rng.choice(("what is the {c} of {t} {j} {o} {p}", "which {t} {j} {o} {p}", "list {t} {j} {o} {p}"))
    if "{c}" not in question:
        what = writer.column(table, table.columns[0])
    if rng.random() < 0.4:
        extra, more = condition_on(writer, table, rng)
        outside.append(more)
        question += f" , {extra}"
    text = question.format(c=spoken, t=words.plural(table.noun), j=joined, o=other.noun, p=phrase)
    return Asked(text, writer.select(what, [table], outside))


def alternative(writer: Writer, rng: Random) -> Asked | None:
    """Either of two values, or neither."""
    table = rng.choice(writer.base.tables)
    column = rng.choice(table.of("text", "name"))
    first, second = words.entity(rng).replace("'", ""), words.word(rng)
    left = writer.column(table, column)
    values = [writer.text(first), writer.text(second)]
    style = rng.randrange(3)
    if style == 0:
        spoken = rng.choice((f"{first} or {second}", f"either {first} or {second}"))
        condition = writer.bracketed(f"{left} = {values[0]} OR {left} = {values[1]}")
    elif style == 1:
        spoken, condition = f"{first} or {second}", f"{left} IN {writer.bracketed(writer.listed(values))}"
    else:
        spoken, condition = rng.choice((f"not {first}", f"other than {first}")), f"{left} <> {values[0]}"
    shown, what = _shown(writer, table, rng)
    conditions = [condition]
    question = f"show the {shown} of {words.plural(table.noun)} whose {column.phrase} is {spoken}"
    if rng.random() < 0.4:
        extra, more = condition_on(writer, table, rng)
        conditions.append(more)
        question += f" and {extra}"
    return Asked(question, writer.select(what, [table], conditions))


def between(writer: Writer, rng: Random) -> Asked | None:
    """Numbers in a range, inside or outside of it."""
    table = rng.choice(writer.base.tables)
    numbers = table.of("number")
    if not numbers:
        return None
    column = rng.choice(numbers)
    low, high = sorted((rng.randint(1, 900), rng.randint(1, 900)))
    left = writer.column(table, column)
    shown, what = _shown(writer, table, rng)
    condition = f"{left} BETWEEN {low} AND {high}" if rng.random() < 0.6 else f"{left} >= {low} AND {left} <= {high}"
    form = rng.choice(
        (
            "the {s} of {t} with {c} between {l} and {h}",
            "{t} with {l} to {h} {c} , their {s}",
            "find the {s} for {t} from {l} to {h} {c}",
        )
    )
    question = form.format(s=shown, t=words.plural(table.noun), c=column.phrase, l=low, h=high)
    return Asked(question, writer.select(what, [table], [condition]))


def chained(writer: Writer, rng: Random) -> Asked | None:
    """Three tables at once, with a condition on two of them."""
    base = writer.base
    if len(base.tables) < 3:
        return None
    first = base.tables[0]
    second, third = rng.sample(base.tables[1:], 2)
    owner = rng.choice((first, second, third))
    shown, what = _shown(writer, owner, rng)
    phrase, condition = condition_on(writer, second, rng)
    extra, more = condition_on(writer, third, rng)
    key = writer.column(first, base.key)
    links = {other.name: f"{key} = {writer.column(other, base.link)}" for other in (second, third)}
    if writer.dialect.join == "join":
        word = rng.choice(("JOIN", "INNER JOIN"))
        origin = writer.source(first)
        for other in (second, third):
            origin += f" {word} {writer.source(other)} ON {links[other.name]}"
        conditions = [condition, more]
    else:
        tables = sorted((first, second, third), key=lambda table: table.name)
        origin = writer.listed([writer.source(table) for table in tables])
        conditions = [condition, links[second.name], more, links[third.name]]
    query = f"SELECT {what} FROM {origin} WHERE {' AND '.join(conditions)}"
    things = words.plural(first.noun)
    about = shown if owner is first else f"{owner.noun} {shown}"
    question = f"what is the {about} of {things} with a {second.noun} {phrase} and a {third.noun} {extra}"
    return Asked(question, query)


def distinct_count(writer: Writer, rng: Random) -> Asked | None:
    """How many different values."""
    table = rng.choice(writer.base.tables)
    column = rng.choice(table.columns)
    phrase, condition = condition_on(writer, table, rng)
    what = writer.call("COUNT", f"DISTINCT {writer.column(table, column)}")
    wanted = rng.random() < 0.7
    form = rng.choice(("how many different {c} do {t} {p} have", "count the distinct {c} of {t} {p}"))
    question = form.format(c=column.phrase, t=words.plural(table.noun), p=phrase if wanted else "")
    return Asked(question, writer.select(what, [table], [condition] if wanted else []))


def top_group(writer: Writer, rng: Random) -> Asked | None:
    """The value that occurs most or more often than something: GROUP BY with ORDER or HAVING."""
    table = rng.choice(writer.base.tables)
    column = rng.choice(table.of("text", "name"))
    left = writer.column(table, column)
    things, count = words.plural(table.noun), writer.call("COUNT", "*")
    if rng.random() < 0.5:
        direction, spoken = rng.choice((("DESC", "most"), ("ASC", "fewest")))
        question = f"which {column.phrase} has the {spoken} {things}"
        tail = f" GROUP BY {left} ORDER BY {count} {direction} LIMIT 1"
    else:
        bound = rng.randint(2, 40)
        question = f"which {column.phrase} has more than {bound} {things}"
        tail = f" GROUP BY {left} HAVING {count} > {bound}"
    return Asked(question, writer.select(left, [table], [], tail))


FORMS = (member, member, alternative, between, chained, chained, distinct_count, top_group)
