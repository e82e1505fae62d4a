"""The Weaver corpus: an endless, seeded stream of documents, never the same one twice.

python -m recipes.weaver.corpus --count 5 --seed 1      # look at some documents
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from random import Random

from recipes.weaver import prose, sql_tasks, talk, text_tasks
from recipes.weaver.documents import Document, spans

Generator = Callable[[Random], Document]

GROUPS: tuple[tuple[float, tuple[tuple[float, Generator], ...]], ...] = (
    (
        0.40,
        (
            (36, sql_tasks.by_name),
            (22, sql_tasks.by_schema),
            (8, sql_tasks.by_example),
            (29, sql_tasks.paraphrased),
            (5, sql_tasks.script),
        ),
    ),
    (0.43, text_tasks.TASKS),
    (0.08, ((8, talk.small_talk), (2, talk.remembered))),
    (0.09, prose.PLAIN),
)
"""Shares of the documents: queries, tasks answered from the prompt, talk, plain text."""


def _flattened() -> tuple[list[Generator], list[float]]:
    generators: list[Generator] = []
    shares: list[float] = []
    for share, members in GROUPS:
        total = sum(weight for weight, _ in members)
        for weight, generator in members:
            generators.append(generator)
            shares.append(share * weight / total)
    return generators, shares


def documents(seed: int, start: int = 0) -> Iterator[Document]:
    """Documents number ``start`` and on of the stream ``seed``; each depends on seed and number alone."""
    generators, shares = _flattened()
    number = start
    while True:
        rng = Random(f"weaver {seed} {number}")
        yield rng.choices(generators, shares)[0](rng)
        number += 1


def main() -> None:
    """Print some documents."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    stream = documents(arguments.seed)
    for _ in range(arguments.count):
        document = next(stream)
        print(f"===== {document.kind}\n" + "".join(text for text, _ in spans(document)))


if __name__ == "__main__":
    main()
