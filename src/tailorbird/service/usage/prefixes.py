"""How much of a run's tokens are really computed: what examples of one batch begin with alike is computed once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tailorbird.dataset.render import Renderer
from tailorbird.dataset.validate import read_records
from tailorbird.service.runs import chunks
from tailorbird.service.validation import sequences

SAMPLE = 512
"""Examples that stand for a file."""


def distinct_share(examples: Sequence[Sequence[Sequence[int]]], batch_size: int) -> float:
    """Distinct prefixes over tokens, in batches drawn at random as the trainer draws them. An example is one sequence
    of token ids, a preference pair two."""
    order = list(examples)
    random.Random(0).shuffle(order)
    tokens = distinct = 0
    for start in range(0, len(order), batch_size):
        tree: dict[int, Any] = {}
        for sequence in (one for example in order[start : start + batch_size] for one in example):
            tokens += len(sequence)
            node = tree
            for token in sequence:
                if token not in node:
                    node[token] = {}
                    distinct += 1
                node = node[token]
    return distinct / tokens if tokens else 1.0


def share_of_file(path: Path, renderer: Renderer, batch_size: int) -> float:
    """The same of a file that was trained on."""
    good = (item[1] for item in read_records(chunks(path)) if isinstance(item, tuple))
    return distinct_share([sequences(renderer, record) for record in islice(good, SAMPLE)], batch_size)
