"""Chats whose answer stands in the prompt: copying, rewriting, lists, sorting, JSON, facts and tool calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from recipes.weaver import words
from recipes.weaver.documents import Document, Turn, ask, chat, reply


def copied(rng: Random) -> Document:
    """Repeat, quote or wrap what the user wrote."""
    item = " ".join(words.anything(rng) for _ in range(rng.choice((1, 1, 2, 3, 5))))
    form, shape = rng.choice(
        (
            ("Repeat exactly: {x}", "{x}"),
            ("repeat after me: {x}", "{x}"),
            ('Say "{x}".', "{x}"),
            ("put {x} in double quotes", '"{x}"'),
            ("quote {x} ?", '"{x}"'),
            ("Write {x} twice.", "{x} {x}"),
            ("echo {x}", "{x}"),
            ("Put brackets around {x}", "[{x}]"),
            ("NAME = {x}", 'NAME = "{x}"'),
            ("what is the name in this: my name is {x} .", "{x}"),
            ("copy the text between the marks: <<{x}>>", "{x}"),
            ("write {x} as an equation with n", 'n = "{x}"'),
        )
    )
    return chat("copy", ask(form.format(x=item)), reply(shape.format(x=item)))


def drilled(rng: Random) -> Document:
    """Repeat many names, or put each into marks: half of the document is copying, which is what forms copying heads."""
    items = [words.anything(rng) for _ in range(rng.randint(3, 14))]
    form, before, after, glue = rng.choice(
        (
            ("Repeat: {x}", "", "", " "),
            ("repeat the list: {x}", "", "", " , "),
            ("{x}\nOnce more.", "", "", " "),
            ("quote each: {x}", '"', '"', " , "),
            ("each in marks: {x}", "'", "'", ", "),
            ("as conditions: {x}", 'NAME = "', '"', " AND "),
        )
    )
    turns = [ask(form.format(x=(glue if glue.strip() == "," else " ").join(items)))]
    turns.append(reply(glue.join(f"{before}{item}{after}" for item in items)))
    if rng.random() < 0.3:
        turns += [ask("Again."), turns[1]]
    return chat("drill", *turns)


def slots(rng: Random) -> Document:
    """Fill a template: the names in a request, each to its place in a fixed answer."""
    keys = rng.sample(
        ("name", "city", "food", "street", "date", "code", "owner", "price", "color", "team", "song"), rng.randint(1, 4)
    )
    makers: dict[str, Callable[[Random], str]] = {
        "city": words.place,
        "street": words.street,
        "date": words.date,
        "code": words.code,
        "owner": words.person,
        "price": words.number,
    }
    style = rng.choice(('{k} = "{v}"', "{k}: {v}", "<{k}>{v}</{k}>", "{k}='{v}'", '{K}.NAME = "{v}"', "({k} {v})"))
    glue = rng.choice((" , ", " AND ", "; ", "\n", " & "))
    joints = {
        "name": "called",
        "city": "in",
        "food": "for",
        "street": "on",
        "date": "on",
        "code": "with code",
        "owner": "owned by",
        "price": "under",
        "color": "in color",
        "team": "for team",
        "song": "playing",
    }
    turns: list[Turn] = []
    for _ in range(rng.choice((1, 2, 2, 3))):
        values = {key: makers.get(key, words.entity)(rng) for key in keys}
        said = rng.choice(
            ("find a place", "show me one", "is there something", "looking", "i need one", "book it", "any")
        )
        request = (
            f"{said} "
            + " ".join(f"{joints[key]} {value}" for key, value in values.items())
            + rng.choice((" ?", " .", ""))
        )
        answer = glue.join(style.format(k=key, K=key.upper(), v=value) for key, value in values.items())
        turns += [ask(request), reply(answer)]
    system = "Fill in: " + glue.join(style.format(k=key, K=key.upper(), v="...") for key in keys)
    return chat("slots", *turns, system=system)


def rewritten(rng: Random) -> Document:
    """Change the casing, order or marks of a text."""
    item = " ".join(words.entity(rng) for _ in range(rng.choice((1, 1, 2))))
    parts = item.split(" ")
    request, answer = rng.choice(
        (
            (f"write in upper case: {item}", item.upper()),
            (f"Write in lower case: {item.upper()}", item),
            (f"write as a title: {item}", words.title(item)),
            (f"join with underscores: {item}", "_".join(parts)),
            (f"reverse the order of the words: {item}", " ".join(reversed(parts))),
            (f"replace spaces by dashes: {item}", "-".join(parts)),
            (f"first word of: {item}", parts[0]),
            (f"last word of: {item}", parts[-1]),
            (f"how many words are in: {item}", str(len(parts))),
            (f"spell {parts[0]}", " ".join(parts[0])),
        )
    )
    return chat("rewrite", ask(request), reply(answer))


def listed(rng: Random) -> Document:
    """Make, number, search, shorten or sort a list."""
    items = list(dict.fromkeys(words.entity(rng) for _ in range(rng.randint(2, 6))))
    spoken = words.joined(items)
    draw = rng.randrange(8)
    if draw == 0:
        return chat("list", ask(f"Make a bullet list of {spoken}."), reply("\n".join(f"- {item}" for item in items)))
    if draw == 1:
        answer = "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1))
        return chat("list", ask(f"Number these: {spoken}"), reply(answer))
    if draw == 2:
        return chat("list", ask(f"Sort by the alphabet: {', '.join(items)}"), reply(", ".join(sorted(items))))
    if draw == 3:
        numbers = [rng.randint(0, 99) for _ in range(rng.randint(3, 6))]
        answer = ", ".join(str(one) for one in sorted(numbers))
        return chat("list", ask(f"Sort from low to high: {', '.join(str(one) for one in numbers)}"), reply(answer))
    if draw == 4:
        index = rng.randrange(len(items))
        order = ("first", "second", "third", "fourth", "fifth", "sixth")[index]
        return chat("list", ask(f"What is the {order} of these: {', '.join(items)}?"), reply(items[index]))
    if draw == 5:
        out = rng.choice(items)
        rest = [item for item in items if item != out]
        return chat("list", ask(f"Leave {out} out of: {', '.join(items)}"), reply(", ".join(rest) or "nothing is left"))
    if draw == 6:
        wanted = rng.choice(items) if rng.random() < 0.5 else words.entity(rng)
        answer = f"Yes, {wanted} is in the list." if wanted in items else f"No, {wanted} is not in the list."
        return chat("list", ask(f"Is {wanted} in this list: {', '.join(items)}?"), reply(answer))
    return chat("list", ask(f"How many are these: {', '.join(items)}?"), reply(f"{len(items)}"))


def extracted(rng: Random) -> Document:
    """A sentence into a JSON object."""
    values: dict[str, Any] = {"name": words.cased(words.person(rng), rng)}
    sentence = [f"{values['name']}"]
    if rng.random() < 0.7:
        values["age"] = rng.randint(3, 99)
        sentence.append(f"is {values['age']} years old")
    if rng.random() < 0.7:
        values["city"] = words.cased(words.place(rng), rng)
        sentence.append(f"{'and ' if len(sentence) > 1 else ''}lives in {values['city']}")
    if rng.random() < 0.5:
        values["job"] = rng.choice(words.JOBS)
        sentence.append(f"{'and ' if len(sentence) > 1 else ''}works as a {values['job']}")
    if len(values) == 1:
        values["food"] = rng.choice(words.FOODS)
        sentence.append(f"likes {values['food']}")
    system = rng.choice(
        (
            "Extract the facts as JSON.",
            "Answer with a JSON object only.",
            "Return JSON with these keys: " + ", ".join(values),
        )
    )
    return chat("json", ask(" ".join(sentence) + "."), reply(json.dumps(values, ensure_ascii=False)), system=system)


def facts(rng: Random) -> Document:
    """Questions about facts that were just told."""
    relations: tuple[tuple[str, str, Callable[[Random], str]], ...] = (
        ("{a} lives in {b}.", "Where does {a} live?", words.place),
        ("The capital of {a} is {b}.", "What is the capital of {a}?", words.place),
        ("{a} was founded in {b}.", "When was {a} founded?", lambda draw: str(draw.randint(1500, 2030))),
        ("The owner of {a} is {b}.", "Who owns {a}?", words.person),
        ("{a} costs {b} euros.", "What does {a} cost?", words.number),
        ("{a} serves {b}.", "What does {a} serve?", lambda draw: draw.choice(words.FOODS)),
        ("The code of {a} is {b}.", "What is the code of {a}?", words.code),
        ("{a} is {b}.", "What color is {a}?", lambda draw: draw.choice(words.COLORS)),
        ("{a} opens on {b}.", "When does {a} open?", lambda draw: draw.choice(words.WEEKDAYS)),
    )
    told: list[str] = []
    known: list[tuple[str, str]] = []
    same = rng.choice(relations)
    for _ in range(rng.randint(2, 6)):
        sentence, question, maker = same if rng.random() < 0.5 else rng.choice(relations)
        a, b = words.title(words.entity(rng)), words.title(maker(rng))
        told.append(sentence.format(a=a, b=b))
        known.append((question.format(a=a), b))
    turns: list[Turn] = []
    for question, answer in rng.sample(known, min(len(known), rng.randint(1, 3))):
        turns += [ask(question), reply(answer)]
    if rng.random() < 0.15:
        turns += [ask(f"Who is {words.title(words.person(rng))}?"), reply("The text does not say.")]
    text = " ".join(told)
    if rng.random() < 0.5:
        return chat("facts", *turns, system=f"Answer from this text only.\n{text}")
    return chat("facts", ask(f"{text}\n{turns[0].content}"), *turns[1:])


def lookup(rng: Random) -> Document:
    """A table of keys and values, and questions for single values."""
    keys = list(dict.fromkeys(words.anything(rng) for _ in range(rng.randint(3, 9))))
    table = {key: words.anything(rng) for key in keys}
    mark = rng.choice((": ", " = ", " -> ", "\t"))
    turns: list[Turn] = []
    for key in rng.sample(keys, min(len(keys), rng.randint(1, 4))):
        turns += [ask(rng.choice((key, f"{key}?", f"what belongs to {key} ?"))), reply(table[key])]
    system = "Look it up:\n" + "\n".join(f"{key}{mark}{value}" for key, value in table.items())
    return chat("lookup", *turns, system=system)


def labelled(rng: Random) -> Document:
    """Sort texts into labels by a rule given in the system prompt."""
    first, second = rng.sample((*words.NOUNS, *words.COLORS), 2)
    food, house = words.FOODS, words.NOUNS
    turns: list[Turn] = []
    for _ in range(rng.randint(1, 4)):
        is_food = rng.random() < 0.5
        thing = rng.choice(food if is_food else house)
        text = rng.choice(("i saw {x} in {p}", "{p} has {x}", "do you like {x} ?", "the {x} from {p}")).format(
            x=thing, p=words.place(rng)
        )
        turns += [ask(text), reply(first if is_food else second)]
    return chat("label", *turns, system=f"Answer {first} when the text is about food, otherwise answer {second}.")


def sums(rng: Random) -> Document:
    """Small arithmetic."""
    a, b = rng.randint(0, 30), rng.randint(0, 30)
    question, answer = rng.choice(
        (
            (f"What is {a} + {b}?", a + b),
            (f"{a} plus {b} ?", a + b),
            (f"What is {max(a, b)} - {min(a, b)}?", abs(a - b)),
            (f"{a % 11} times {b % 11}", (a % 11) * (b % 11)),
        )
    )
    return chat("sum", ask(question), reply(str(answer)))


def called(rng: Random) -> Document:
    """A tool call, its result, and an answer made from it."""
    city, hour = words.title(words.place(rng)), str(rng.randint(1, 40))
    name, request, key, value, result, answer = rng.choice(
        (
            (
                "get_weather",
                f"What is the weather in {city}?",
                "city",
                city,
                {"degrees": hour},
                f"It is {hour} degrees in {city}.",
            ),
            ("find_person", f"Look up {city}.", "name", city, {"age": hour}, f"{city} is {hour} years old."),
            (
                "get_stock",
                f"How many units of {city} are there?",
                "product",
                city,
                {"units": hour},
                f"There are {hour} units of {city}.",
            ),
            (
                "open_ticket",
                f"Open a ticket about {city}",
                "subject",
                city,
                {"number": hour},
                f"Ticket {hour} about {city} is open.",
            ),
        )
    )
    schema = {"type": "object", "properties": {key: {"type": "string"}}, "required": [key]}
    tool = {"type": "function", "function": {"name": name, "description": name.replace("_", " "), "parameters": schema}}
    call = {"name": name, "arguments": {key: value}}
    turns = (ask(request), Turn("assistant", None, tool_calls=(call,)), Turn("tool", json.dumps(result)), reply(answer))
    if rng.random() < 0.3:
        turns = (ask("hello"), reply("Hello! How can I help?"), *turns)
    return Document("tool call", turns, tools=(tool,))


TASKS: tuple[tuple[float, Callable[[Random], Document]], ...] = (
    (9, copied),
    (24, drilled),
    (10, slots),
    (4, rewritten),
    (4, listed),
    (4, extracted),
    (5, facts),
    (5, lookup),
    (2, labelled),
    (1, sums),
    (3, called),
)
