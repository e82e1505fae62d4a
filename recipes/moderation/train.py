"""Fits the classifier and writes src/tailorbird/moderation/classifier.npz.

python -m recipes.moderation.train [--out FILE] [--report]      # needs scikit-learn, which the service does not
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack  # pyright: ignore[reportMissingImports]
from sklearn.linear_model import LogisticRegression  # pyright: ignore[reportMissingImports]

from recipes.moderation.evaluate import report
from recipes.moderation.examples import FOLDS, HERE, Example, examples, is_judged
from tailorbird.domain.safety import Category, Severity
from tailorbird.infra.moderation.builtin import LEVELS, Classifier
from tailorbird.infra.moderation.features import BUCKET_BITS, featurize, windows
from tailorbird.infra.moderation.lexicon import Lexicon

OUT = Path(__file__).parents[2] / "src" / "tailorbird" / "moderation" / "classifier.npz"
_STRENGTH = 20.0
"""Inverse of the regularization; 5 to 80 differ by a point."""
_RARE = 3.0
"""What a harmful example weighs against a harmless one: there are fewer of them."""
_ALARMS = {Category.HATE_FAIRNESS: 0.005, Category.SELF_HARM: 0.008, Category.SEXUAL: 0.004, Category.VIOLENCE: 0.008}
"""Of the harmless written sentences so many may be called harmful when their author was not learned from.

As many as left the 13,107 real messages without an alarm and the look-alikes of the development sets under 3 %.
"""
_NEGLIGIBLE = 0.02
"""A weight below this is nothing: half of them are, and zeros take no room."""
_BATCH = 512

Floats = NDArray[np.float32]


def main() -> None:
    """Fit, choose the cuts, write, and judge where that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    # Not while developing: what has been looked at too often says nothing any more.
    parser.add_argument("--report", action="store_true", help="judge on the held-out sentences as well")
    options = parser.parse_args()
    words, classes, wholes = lexicon_arrays()
    learned = list(examples())
    matrix = Rows(learned, Lexicon(words, classes, wholes))
    weights, biases = matrix.fit(matrix.everything())
    cuts = matrix.cuts()
    weights[np.abs(weights) < _NEGLIGIBLE] = 0
    options.out.parent.mkdir(parents=True, exist_ok=True)
    # Float16 is exact enough for sums of hundreds, and half the size.
    np.savez_compressed(
        options.out,
        weights=weights.astype(np.float16),
        biases=biases,
        cuts=cuts,
        words=np.array(words),
        classes=np.array(classes, dtype=np.int16),
        wholes=np.array(wholes, dtype=np.int16),
    )
    if options.report:
        print(report(Classifier.load(options.out)))


def lexicon_arrays() -> tuple[list[str], list[int], list[int]]:
    """Words, the class of each, and of each class the one it is a part of. Of two entries the later one counts."""
    with (HERE / "lexicon.toml").open("rb") as source:
        lists: dict[str, dict[str, str]] = tomllib.load(source)
    names = list(lists)
    entries = [
        (word, place) for place, name in enumerate(names) for text in lists[name].values() for word in _words(text)
    ]
    entries.reverse()
    return [w for w, _ in entries], [c for _, c in entries], [names.index(name.split(".")[0]) for name in names]


def _words(text: str) -> Iterator[str]:
    for entry in text.split(","):
        word = " ".join(entry.lower().split())
        if word.endswith("*") and " " in word:
            yield from (word[:-1], f"{word[:-1]}s")
        elif word:
            yield word


class Rows:
    """What is learned from, window by window as it is judged, with its features."""

    def __init__(self, learned: Sequence[Example], lexicon: Lexicon) -> None:
        pairs = [(window, place) for place, example in enumerate(learned) for window in windows(example.text)]
        self._learned = learned
        self._owner = np.array([place for _, place in pairs])
        texts = [window for window, _ in pairs]
        parts = [_matrix(texts[at : at + _BATCH], lexicon) for at in range(0, len(texts), _BATCH)]
        self._features = vstack(parts).tocsr()

    def everything(self) -> NDArray[np.bool_]:
        return np.ones(len(self._owner), dtype=bool)

    def fit(self, chosen: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Weights (buckets, heads) and biases: one logistic regression for each category and severity."""
        weights: list[Floats] = []
        biases: list[float] = []
        for category in Category:
            judged = np.array([is_judged(example, category) for example in self._learned])[self._owner] & chosen
            for level in LEVELS:
                target = np.array([is_harmful(example, category, level) for example in self._learned])[self._owner]
                model = LogisticRegression(C=_STRENGTH, solver="liblinear", class_weight={True: _RARE, False: 1.0})
                model.fit(self._features[judged], target[judged])
                weights.append(model.coef_[0].astype(np.float32))
                biases.append(float(model.intercept_[0]))
        return np.stack(weights, axis=1), np.array(biases, dtype=np.float32)

    def cuts(self) -> Floats:
        """Where a score becomes a finding: so high that few harmless sentences not learned from reach it."""
        fold = np.array([example.fold for example in self._learned])
        scores = np.full((len(self._learned), len(Category) * len(LEVELS)), -np.inf, dtype=np.float32)
        for number in range(FOLDS):
            inside = fold[self._owner] == number
            weights, biases = self.fit(~inside)
            np.maximum.at(scores, self._owner[inside], self._features[inside] @ weights + biases)
        harmless = np.array([example.category is None and example.fold >= 0 for example in self._learned])
        falling = np.sort(scores[harmless], axis=0)[::-1]
        places = [round(_ALARMS[category] * harmless.sum()) for category in Category for _ in LEVELS]
        cuts = falling[places, range(len(places))]
        for head, (category, level) in enumerate((c, level) for c in Category for level in LEVELS):
            of = np.array([e.fold >= 0 and is_harmful(e, category, level) for e in self._learned])
            found = (scores[of, head] > cuts[head]).mean()
            print(f"{category} {level.word}: cut {cuts[head]:.2f} finds {found:.3f} of what was not learned from")
        return cuts.astype(np.float32)


def is_harmful(example: Example, category: Category, level: Severity) -> bool:
    """Whether it is of the category and at least so severe."""
    return example.category == category and example.severity >= level


def _matrix(texts: Sequence[str], lexicon: Lexicon) -> csr_matrix:
    found = featurize(texts, lexicon)
    made = csr_matrix((found.weights, (found.owners, found.buckets)), shape=(len(texts), 1 << BUCKET_BITS))
    made.sum_duplicates()
    return made


if __name__ == "__main__":
    main()
