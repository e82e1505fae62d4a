"""Documents into batches of one length each, so that attention needs neither mask nor much filling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import torch
from tokenizers import Tokenizer

from recipes.weaver.corpus import documents
from recipes.weaver.documents import PROMPT_WEIGHT, Document, spans
from recipes.weaver.network import Batch
from recipes.weaver.vocabulary import SPECIAL

TOKENS = 2048
"""Tokens per batch; fixed, because the compiled parts of the network are made for one size."""
LONGEST = 1024
POOL = 3000
"""Documents sorted by length together."""
CHAINED = 0.02
"""Share of rows made of several documents in a row, for the sake of positions that single documents seldom reach."""

PIECE_DRILLS = 0.3
"""Share of rows that repeat pieces drawn from the whole vocabulary. Pieces that documents seldom hold would
otherwise end up with nearly the same embedding, and what two tied embeddings do not tell apart, no adapter can."""


@dataclass(frozen=True)
class Encoded:
    """Token ids and the loss weight of each token."""

    ids: list[int]
    weights: list[float]


def encoded(tokenizer: Tokenizer, document: Document) -> Encoded:
    """A document as ids. The text is tokenized whole, as when served; a token weighs what its first character does."""
    pieces = spans(document)
    text = "".join(piece for piece, _ in pieces)
    encoding = tokenizer.encode(text)
    weights: list[float] = []
    index, end = 0, len(pieces[0][0])
    for start, _ in encoding.offsets:
        while start >= end:
            index += 1
            end += len(pieces[index][0])
        weights.append(pieces[index][1])
    return Encoded(encoding.ids[:LONGEST], weights[:LONGEST])


def piece_drill(tokenizer: Tokenizer, rng: Random) -> Encoded:
    """A chat whose answer repeats 4 to 40 pieces of the vocabulary, each as likely as any other."""
    pieces = [rng.randrange(len(SPECIAL), tokenizer.get_vocab_size()) for _ in range(rng.randint(4, 40))]
    before = tokenizer.encode("<|im_start|>user\nRepeat: ").ids
    between = tokenizer.encode("<|im_end|>\n<|im_start|>assistant\n").ids
    end = tokenizer.encode("<|im_end|>").ids
    read = before + pieces + between
    answer = pieces + end
    return Encoded(read + answer, [PROMPT_WEIGHT] * len(read) + [1.0] * len(answer))


class Batches:
    """An endless stream of batches; ``read`` counts the documents taken from the corpus, for resuming."""

    def __init__(self, tokenizer: Tokenizer, seed: int, read: int = 0, pool: int = POOL) -> None:
        self.tokenizer = tokenizer
        self.seed = seed
        self.read = read
        self.pool = pool

    def __iter__(self) -> Iterator[Batch]:
        stream = documents(self.seed, self.read)
        while True:
            rng = Random(f"pool {self.seed} {self.read}")
            rows: list[Encoded] = []
            for _ in range(self.pool):
                row = encoded(self.tokenizer, next(stream))
                if rng.random() < CHAINED:
                    row = self._chained(row, rows)
                rows.append(row)
                if rng.random() < PIECE_DRILLS:
                    rows.append(piece_drill(self.tokenizer, rng))
            self.read += self.pool
            rows.sort(key=lambda row: len(row.ids) + rng.random() * 8)
            groups = list(_grouped(rows))
            rng.shuffle(groups)
            for group in groups:
                yield batch(group)

    @staticmethod
    def _chained(row: Encoded, rows: list[Encoded]) -> Encoded:
        """The row with some before it taken along."""
        ids, weights = row.ids, row.weights
        while rows and len(ids) + len(rows[-1].ids) <= LONGEST:
            taken = rows.pop()
            ids, weights = taken.ids + ids, taken.weights + weights
        return Encoded(ids, weights)


def _grouped(rows: list[Encoded]) -> Iterator[list[Encoded]]:
    """Cut sorted rows into groups that fit a batch at the length of their longest row, a multiple of 16."""
    group: list[Encoded] = []
    longest = 0
    for row in rows:
        longest = max(longest, len(row.ids))
        if (len(group) + 1) * rounded(longest) > TOKENS:
            yield group
            group, longest = [], len(row.ids)
        group.append(row)
    # The last group is dropped when it is half empty: less than one batch of a pool.
    if len(group) * rounded(longest) > TOKENS // 2:
        yield group


def rounded(length: int) -> int:
    """The next multiple of 16."""
    return -(-length // 16) * 16


def batch(group: list[Encoded]) -> Batch:
    """A batch of rows; token ``t`` of a row has token ``t + 1`` as target."""
    length = rounded(max(len(row.ids) for row in group))
    tokens = torch.zeros(TOKENS, dtype=torch.long)
    targets = torch.zeros(TOKENS, dtype=torch.long)
    weights = torch.zeros(TOKENS)
    for number, row in enumerate(group):
        start, size = number * length, len(row.ids)
        tokens[start : start + size] = torch.tensor(row.ids)
        targets[start : start + size - 1] = torch.tensor(row.ids[1:])
        weights[start : start + size - 1] = torch.tensor(row.weights[1:])
    positions = torch.arange(length).repeat(len(group))
    positions = torch.cat((positions, torch.zeros(TOKENS - len(positions), dtype=torch.long)))
    return Batch(len(group), length, tokens, positions, targets, weights, sum(len(row.ids) for row in group))
