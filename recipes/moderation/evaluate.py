"""Judges the classifier on sentences that it never learned from.

python -m recipes.moderation.evaluate
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recipes.moderation.examples import HERE, LANGUAGES, Example, is_judged, written
from tailorbird.domain.safety import Category, Severity
from tailorbird.infra.moderation.builtin import Classifier

WEIGHTS = Path(__file__).parents[2] / "src" / "tailorbird" / "moderation" / "classifier.npz"
THRESHOLD = Severity.MEDIUM
"""The service's default."""
NOT_ALIKE = ("everyday", "customer service")
"""Groups of harmless texts that look like nothing else."""
EVERYDAY = "everyday"
DEVELOPMENT = ("development", "development_2")


@dataclass(frozen=True, slots=True)
class Figures:
    """`positives` texts of the category at or above the threshold; shares of 1."""

    positives: int
    precision: float
    recall: float


def by_category(classifier: Classifier, judged: Sequence[Example]) -> dict[Category, Figures]:
    """Precision and recall of "harmful at the threshold"."""
    found = classifier.classify([example.text for example in judged])
    figures: dict[Category, Figures] = {}
    for category in Category:
        pairs = [(e, scores) for e, scores in zip(judged, found, strict=True) if is_judged(e, category)]
        truth = [example.category == category and example.severity >= THRESHOLD for example, _ in pairs]
        said = [scores[category] >= THRESHOLD for _, scores in pairs]
        hits = sum(a and b for a, b in zip(truth, said, strict=True))
        figures[category] = Figures(sum(truth), hits / max(1, sum(said)), hits / max(1, sum(truth)))
    return figures


def any_harm(classifier: Classifier, judged: Sequence[Example]) -> tuple[int, int]:
    """Of the harmful texts, how many are called harmful in whatever category, of how many: that is what stops a job."""
    harmful = [example.text for example in judged if example.severity >= THRESHOLD]
    return sum(max(scores.values()) >= THRESHOLD for scores in classifier.classify(harmful)), len(harmful)


def false_alarms(classifier: Classifier, judged: Iterable[Example]) -> dict[str, tuple[int, int]]:
    """Of the harmless texts, everyday ones and those that look harmful: how many were called harmful, of how many."""
    harmless = [example for example in judged if example.category is None]
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for example, scores in zip(harmless, classifier.classify([e.text for e in harmless]), strict=True):
        kind = EVERYDAY if example.group in NOT_ALIKE else f"look-alikes, {example.language}"
        counts[kind][0] += max(scores.values()) >= THRESHOLD
        counts[kind][1] += 1
    return {kind: (alarms, total) for kind, (alarms, total) in sorted(counts.items())}


def earlier_sentences() -> list[Example]:
    """Written by others than the held-out ones, for the first version of this classifier."""
    rows = [json.loads(line) for line in (HERE / "free.jsonl").read_text(encoding="utf-8").splitlines()]
    return [Example(r["text"], r["category"], r["severity"], r["language"], "earlier") for r in rows]


def report(classifier: Classifier) -> str:
    """The tables of the model card, in their order."""
    held_out = written("held_out")
    lines = _table("held out", classifier, held_out)
    for language in LANGUAGES:
        lines += ["", *_table(f"held out, {language}", classifier, [e for e in held_out if e.language == language])]
    lines += [
        "",
        "| harmless, held out | false alarms | of |",
        "| --- | --- | --- |",
        *_alarm_rows(classifier, held_out),
    ]
    for name in DEVELOPMENT:
        sentences = written(name)
        *_, together = _alarm_rows(classifier, sentences)
        title = name.replace("_", " ")
        lines += ["", *_table(title, classifier, sentences), "", f"| harmless, {title} | false alarms | of |"]
        lines += ["| --- | --- | --- |", together]
    earlier = earlier_sentences()
    wrong, total = look_alikes(false_alarms(classifier, earlier))
    lines += ["", *_table("earlier sentences", classifier, earlier), f"| harmless | {total} | {wrong} false alarms | |"]
    return "\n".join(lines)


def look_alikes(counts: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """False alarms, and of how many, of the harmless texts that look harmful."""
    alike = [count for kind, count in counts.items() if kind != EVERYDAY]
    return sum(wrong for wrong, _ in alike), sum(total for _, total in alike)


def speed(classifier: Classifier) -> float:
    """Texts a second on one core."""
    texts = [example.text for name in LANGUAGES.values() for example in written(name)]
    started = time.process_time()
    classifier.classify(texts)
    return len(texts) / (time.process_time() - started)


def _alarm_rows(classifier: Classifier, judged: Sequence[Example]) -> list[str]:
    counts = false_alarms(classifier, judged)
    wrong, total = look_alikes(counts)
    rows = [f"| {kind} | {alarms} | {of} |" for kind, (alarms, of) in counts.items()]
    return [*rows, f"| look-alikes together | {wrong} | {total} |"]


def _table(name: str, classifier: Classifier, judged: Sequence[Example]) -> list[str]:
    rows = [
        f"| {category} | {found.positives} | {found.precision:.3f} | {found.recall:.3f} |"
        for category, found in by_category(classifier, judged).items()
    ]
    found, total = any_harm(classifier, judged)
    every = f"| found in whatever category | {total} | | {found / total:.3f} |"
    return [f"| {name} | texts | precision | recall |", "| --- | --- | --- | --- |", *rows, every]


if __name__ == "__main__":
    shipped = Classifier.load(WEIGHTS)
    print(report(shipped))
    print(f"\n{speed(shipped):,.0f} texts a second")
