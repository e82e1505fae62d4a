"""The classifier that comes with the package: linear, over hashed n-grams; made by recipes/moderation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.safety import Category, Scores, Severity
from tailorbird.infra.moderation.features import BUCKET_BITS, featurize, windows
from tailorbird.infra.moderation.lexicon import Lexicon

LEVELS = (Severity.LOW, Severity.MEDIUM, Severity.HIGH)
_BATCH = 256
"""Windows at a time: more only costs memory."""

Floats = NDArray[np.float32]


class Classifier:
    """`weights` is (buckets, categories * levels), `biases` and `cuts` have one number a column.

    The column of medium decides; high is what is medium and reaches the cut of high as well.
    """

    def __init__(self, weights: NDArray[Any], biases: Floats, cuts: Floats, lexicon: Lexicon) -> None:
        heads = len(Category) * len(LEVELS)
        if weights.shape != (1 << BUCKET_BITS, heads) or biases.shape != (heads,) or cuts.shape != (heads,):
            raise ValueError("the weights of the classifier do not have the shape its features ask for")
        self._weights = weights
        self._biases = biases
        self._cuts = cuts
        self._lexicon = lexicon

    @classmethod
    def load(cls, path: Path) -> Classifier:
        """From an npz file that holds arrays alone (nothing in it is executed)."""
        with np.load(path, allow_pickle=False) as stored:
            lexicon = Lexicon(*(stored[name].tolist() for name in ("words", "classes", "wholes")))
            return cls(stored["weights"], stored["biases"], stored["cuts"], lexicon)

    def logits(self, texts: Sequence[str]) -> Floats:
        """(texts, categories * levels): of each column the highest of the text's windows."""
        pieces = [windows(text) for text in texts]
        flat = [window for piece in pieces for window in piece]
        scored = np.concatenate([self._scored(flat[at : at + _BATCH]) for at in range(0, len(flat), _BATCH)])
        counts = np.array([len(piece) for piece in pieces], dtype=np.int64)
        return np.maximum.reduceat(scored, np.cumsum(counts) - counts, axis=0)

    def classify(self, texts: Sequence[str]) -> list[Scores]:
        if not texts:
            return []
        reached = (self.logits(texts) >= self._cuts).reshape(len(texts), len(Category), len(LEVELS))
        low, medium, high = (reached[:, :, place] for place in range(len(LEVELS)))
        # One head decides what stops a job: the others only say whether it is less or more than that.
        severities = (low | medium).astype(int) + medium + (medium & high)
        return [dict(zip(Category, map(Severity, row), strict=True)) for row in severities.tolist()]

    def _scored(self, texts: Sequence[str]) -> Floats:
        features = featurize(texts, self._lexicon)
        chosen = self._weights[features.buckets] * features.weights[:, None]
        sums = [np.bincount(features.owners, chosen[:, head], len(texts)) for head in range(chosen.shape[1])]
        return (np.stack(sums, axis=1) + self._biases).astype(np.float32)
