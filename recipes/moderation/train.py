"""Fits the classifier and writes src/tailorbird/moderation/classifier.npz.

python -m recipes.moderation.train [--out FILE]      # needs scikit-learn, which the service does not
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix  # pyright: ignore[reportMissingImports]
from sklearn.linear_model import LogisticRegression  # pyright: ignore[reportMissingImports]

from recipes.moderation.evaluate import report
from recipes.moderation.examples import Example, examples, is_judged
from tailorbird.domain.safety import Category, Severity
from tailorbird.infra.moderation.builtin import LEVELS, Classifier
from tailorbird.infra.moderation.features import BUCKET_BITS, featurize, windows

OUT = Path(__file__).parents[2] / "src" / "tailorbird" / "moderation" / "classifier.npz"
_STRENGTH = 20.0
"""Inverse of the regularization; 5 to 40 differ by a point or two."""
_RARE = 3.0
"""What a harmful example weighs against a harmless one: there are fewer of them."""
_FOLDS = 4
_BETA = dict.fromkeys(Category, 0.5) | {Category.SELF_HARM: 0.6, Category.VIOLENCE: 0.25}
"""Of the F-measure: precision counts more than recall, for a false alarm stops somebody's job. A cry for help that is
overlooked weighs more; most of what looks harmful and is not (news, fiction, games) looks violent."""


def main() -> None:
    """Train, judge on the held-out templates, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    learned = list(examples("train"))
    weights, biases = fit(learned)
    cuts = chosen_cuts(learned)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    # Float16 is exact enough for sums of hundreds, and half the size.
    np.savez_compressed(options.out, weights=weights.astype(np.float16), biases=biases, cuts=cuts)
    print(report(Classifier.load(options.out)))


def fit(learned: Sequence[Example]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights (buckets, heads) and biases: one logistic regression for each category and severity."""
    # A text is learned sentence by sentence, as it is judged.
    rows = [(window, example) for example in learned for window in windows(example.text)]
    features = matrix([window for window, _ in rows])
    weights: list[NDArray[np.float32]] = []
    biases: list[float] = []
    for category in Category:
        kept = np.array([is_judged(example, category) for _, example in rows])
        for level in LEVELS:
            target = np.array([is_harmful(example, category, level) for _, example in rows])
            model = LogisticRegression(C=_STRENGTH, solver="liblinear", class_weight={True: _RARE, False: 1.0})
            model.fit(features[kept], target[kept])
            weights.append(model.coef_[0].astype(np.float32))
            biases.append(float(model.intercept_[0]))
    return np.stack(weights, axis=1), np.array(biases, dtype=np.float32)


def chosen_cuts(learned: Sequence[Example]) -> NDArray[np.float32]:
    """Where a score becomes a finding: where precision and recall are best together on templates not fitted.

    The templates for training alone decide, a third of them at a time; the held-out ones are never looked at.
    """
    scores = np.zeros((len(learned), len(Category) * len(LEVELS)), dtype=np.float32)
    fold = np.array([zlib.crc32(example.template.encode()) % _FOLDS for example in learned])
    for number in range(_FOLDS):
        inside = np.flatnonzero(fold == number)
        weights, biases = fit([learned[place] for place in np.flatnonzero(fold != number).tolist()])
        classifier = Classifier(weights, biases, np.zeros_like(biases))
        scores[inside] = classifier.logits([learned[place].text for place in inside.tolist()])
    cuts: list[float] = []
    for head, (category, level) in enumerate((c, level) for c in Category for level in LEVELS):
        kept = [place for place, example in enumerate(learned) if is_judged(example, category)]
        target = np.array([is_harmful(learned[place], category, level) for place in kept])
        cuts.append(_best(scores[kept, head], target, _BETA[category]))
    return np.array(cuts, dtype=np.float32)


def _best(scores: NDArray[np.float32], target: NDArray[np.bool_], beta: float) -> float:
    order = np.argsort(-scores)
    hits = np.cumsum(target[order])
    precision, recall = hits / np.arange(1, len(order) + 1), hits / max(1, target.sum())
    square = beta * beta
    f_measure = (1 + square) * precision * recall / np.maximum(square * precision + recall, 1e-9)
    return float(scores[order][f_measure.argmax()])


def is_harmful(example: Example, category: Category, level: Severity) -> bool:
    """Whether it is of the category and at least so severe."""
    return example.category == category and example.severity >= level


def matrix(texts: Sequence[str]) -> csr_matrix:
    """The features as the classifier weighs them."""
    found = featurize(texts)
    values = 1.0 / np.sqrt(found.counts)[found.owners]
    made = csr_matrix((values, (found.owners, found.buckets)), shape=(len(texts), 1 << BUCKET_BITS))
    made.sum_duplicates()
    return made


if __name__ == "__main__":
    main()
