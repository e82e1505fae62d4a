"""What a run's tokens cost: what examples of one batch begin with alike is computed once, predictions cost extra."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tailorbird.dataset.render import Rendered, Renderer
from tailorbird.dataset.validate import read_records
from tailorbird.service.runs import chunks

SAMPLE = 512
"""Examples that stand for a file."""
_TARGET = 0.36
"""What predicting a token costs beside computing it, in tokens: measured with weaver, whose vocabulary is a large part
of the work. Larger models have less of it; jobs and calibrations are counted alike, so little is lost."""


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


def cost_share(examples: Sequence[Sequence[Rendered]], batch_size: int) -> float:
    """What a token costs on average, in tokens that are computed: the distinct ones, and the predictions among all."""
    rendered = [one for example in examples for one in example]
    tokens = sum(len(one.token_ids) for one in rendered)
    targets = sum(weight != 0 for one in rendered for weight in one.weights)
    distinct = distinct_share([[one.token_ids for one in example] for example in examples], batch_size)
    return distinct + (_TARGET * targets / tokens if tokens else 0.0)


def cost_share_of_file(path: Path, renderer: Renderer, batch_size: int) -> float:
    """The same of a file that was trained on."""
    good = (item[1] for item in read_records(chunks(path)) if isinstance(item, tuple))
    return cost_share([renderer.render_record(record) for record in islice(good, SAMPLE)], batch_size)
