"""Writes the demo's data: booking requests for a house of workshops, answered in a small booking language of our own.

    python examples/make_bookings.py [folder]

The language has five statements. A model that has never seen it cannot guess it; a tuned one has to copy names it has
never seen, because the people and the workshops of the validation and test rows do not occur in the training rows:

    BOOK "glass blowing" FOR "Ines Vollmer" ON friday AT 14:30 SEATS 3
    MOVE "glass blowing" OF "Ines Vollmer" TO saturday AT 10:00
    CANCEL "glass blowing" OF "Ines Vollmer" ON friday
    FREE SEATS IN "glass blowing" ON friday
    LIST BOOKINGS OF "Ines Vollmer"

The same seed gives the same bytes. The files are UTF-8 with a byte order mark, as Azure's documentation asks.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SEED = 105
SYSTEM = "You turn requests to the Lantern House workshops into one line of booking code. Answer with that line only."

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
TIMES = tuple(f"{hour}:{minute}" for hour in range(9, 21) for minute in ("00", "15", "30", "45"))


@dataclass(frozen=True)
class Cast:
    """Who asks, and for what, separated by commas. Training and held-out rows share no name and no workshop.

    There are many more combinations than rows: a model that sees each name once or twice learns to copy, not to recall.
    """

    first_names: str
    last_names: str
    materials: str
    crafts: str
    single_words: str


TRAINING = Cast(
    first_names="""Ada, Bruno, Carla, Dmitri, Elena, Farid, Greta, Hugo, Ilse, Jonas, Katya, Lars, Mina, Noor, Otto,
    Petra, Quentin, Rosa, Sven, Tessa, Umar, Vera, Wim, Xenia, Yusuf, Zoe, Anouk, Boris, Celine, Daan, Esra, Femke,
    Goran, Hanna, Ivo, Jelena, Kofi, Linnea, Marek, Nadia, Oskar, Pilar, Raoul, Sigrid, Tomas, Ulla, Viktor, Willem,
    Yasmin, Zdenka, Amira, Bjorn, Chidi, Dagny, Emre, Fatou, Gijs, Hiro, Ingrid, Jaro""",
    last_names="""Aalto, Brouwer, Castell, Dekker, Engel, Ferrante, Gruber, Holm, Ivanova, Jansen, Keller, Lindqvist,
    Moreau, Novak, Okafor, Pereira, Quist, Rossi, Sato, Tanaka, Ulrich, Visser, Weber, Xu, Yilmaz, Zeman, Abels,
    Bakker, Conti, Dahl, Eklund, Fischer, Garnier, Huber, Ibsen, Jovic, Kimura, Lopes, Maes, Nilsen, Orlov, Peeters,
    Quinn, Ruiz, Simic, Toth, Urban, Verhoef, Wolff, Yamada, Zorn, Adeyemi, Bianchi, Costa, Demir, Esposito, Falk""",
    materials="""wood, silk, paper, wool, stone, copper, bread, candle, soap, linen, silver, willow, felt, wire, sand,
    ribbon, bamboo, cotton, pearl, rope, ink, flower, herb, chocolate, tea, kite, map, toy, drum, lute, boat, bench,
    basket, window, garden, shoe, hat, lamp, bird, honey, velvet, marble, feather, cider, pepper, violin, saddle,
    curtain, whistle, gutter, chimney, pickle, sausage, mitten, barrel, needle, kettle, hammer, locket, parasol""",
    crafts="""carving, painting, folding, spinning, cutting, printing, weaving, stitching, building, drawing, casting,
    dyeing, tying, polishing, sewing, baking, mending, tasting, design, basics, decoration, preservation, arrangement,
    photography, upholstery, conservation, improvement, embroidery, engraving, assembly""",
    single_words="pottery, juggling, calligraphy, quilting, fencing, gardening, knitting, archery, cooking, singing",
)
HELD_OUT = Cast(
    first_names="""Ines, Kaspar, Leonie, Mirko, Saskia, Thilo, Ursula, Vikram, Wanda, Yara, Bastian, Corinna, Emil,
    Frieda""",
    last_names="""Vollmer, Hartog, Nakamura, Petrov, Santini, Osei, Kowalski, Rydberg, Meijer, Laurent, Ashby,
    Duarte""",
    materials="glass, leather, puppet, cheese, harp, clock, tile, knife, mosaic, shadow",
    crafts="blowing, making, repair, grinding, restoration",
    single_words="origami, bookbinding, beekeeping, astronomy",
)

# Each kind: ways to ask, and the line it becomes. {who}, {what}, {day}, {time} and {seats} are filled in.
KINDS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        (
            "please book {what} for {who} on {day} at {time}, {seats} seats",
            "{who} would like {seats} places in {what} this {day}, {time}",
            "can you put {who} down for {what} on {day} at {time} with {seats} people",
            "i need {seats} seats in {what} on {day} {time} under the name {who}",
            "hello, {seats} of us want to join {what}, {day} at {time}, the name is {who}",
            "on {day} at {time} {who} comes to {what}, reserve {seats} seats please",
            "reserve {what} at {time} on {day} for {who}, a group of {seats}",
        ),
        'BOOK "{what}" FOR "{who}" ON {day} AT {time} SEATS {seats}',
    ),
    (
        (
            "move {who}'s {what} to {day} at {time}",
            "{who} can't make it, could {what} be on {day} at {time} instead ?",
            "please shift the {what} booking of {who} to {day}, {time}",
            "i am {who} and i want my {what} session on {day} {time} now",
            "change the date: {what}, {who}, new time is {time} on {day}",
            "{day} {time} suits {who} better for {what}",
        ),
        'MOVE "{what}" OF "{who}" TO {day} AT {time}',
    ),
    (
        (
            "cancel {what} on {day} for {who}",
            "{who} is ill and won't come to {what} on {day}",
            "take {who} off the list for {what}, {day}",
            "sorry, we have to drop {what} this {day}, name {who}",
            "please delete the {day} booking of {who} in {what}",
            "{what} on {day} is not for me after all, regards {who}",
        ),
        'CANCEL "{what}" OF "{who}" ON {day}',
    ),
    (
        (
            "how many places are left in {what} on {day} ?",
            "is there still room in {what} this {day} ?",
            "free seats for {what}, {day} ?",
            "could one more person join {what} on {day} ?",
            "what is the space like on {day} in {what}",
        ),
        'FREE SEATS IN "{what}" ON {day}',
    ),
    (
        (
            "what has {who} booked ?",
            "show me everything for {who}",
            "which workshops is {who} coming to ?",
            "i am {who}, what did i sign up for ?",
            "list the bookings under {who}",
        ),
        'LIST BOOKINGS OF "{who}"',
    ),
)
KIND_WEIGHTS = (8, 6, 6, 3, 2)


def pick(rng: random.Random, choices: str) -> str:
    return rng.choice([" ".join(choice.split()) for choice in choices.split(",")])


def workshop(rng: random.Random, cast: Cast) -> str:
    if rng.random() < 0.2:
        return pick(rng, cast.single_words)
    return f"{pick(rng, cast.materials)} {pick(rng, cast.crafts)}"


def row(rng: random.Random, cast: Cast) -> dict[str, object]:
    """One chat example of the training format."""
    phrasings, answer = rng.choices(KINDS, KIND_WEIGHTS)[0]
    values = {
        "who": f"{pick(rng, cast.first_names)} {pick(rng, cast.last_names)}",
        "what": workshop(rng, cast),
        "day": rng.choice(DAYS),
        "time": rng.choice(TIMES),
        "seats": str(rng.randint(2, 12)),
    }
    return {
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": rng.choice(phrasings).format(**values)},
            {"role": "assistant", "content": answer.format(**values)},
        ]
    }


def distinct_rows(rng: random.Random, cast: Cast, count: int) -> list[dict[str, object]]:
    found: dict[str, dict[str, object]] = {}
    while len(found) < count:
        example = row(rng, cast)
        found.setdefault(json.dumps(example), example)
    return list(found.values())


def write(path: Path, rows: Sequence[dict[str, object]]) -> None:
    text = "".join(json.dumps(example, ensure_ascii=False) + "\n" for example in rows)
    path.write_text(text, encoding="utf-8-sig", newline="\n")


def main(folder: Path) -> None:
    rng = random.Random(SEED)
    write(folder / "bookings.train.jsonl", distinct_rows(rng, TRAINING, 480))
    held_out = distinct_rows(rng, HELD_OUT, 80)
    write(folder / "bookings.valid.jsonl", held_out[:40])
    write(folder / "bookings.test.jsonl", held_out[40:])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
