"""How alike two texts are, by the metrics of the text_similarity grader; each from 0 to 1.

fuzzy_match: rapidfuzz's weighted ratio. BLEU (Papineni et al. 2002, smoothed by Chen and Cherry's method 1), GLEU (Wu
et al. 2016) and METEOR (Banerjee and Lavie 2005, exact and stem matches; WordNet's synonyms are not installed) are
NLTK's. ROUGE-N and ROUGE-L (Lin 2004) are F1 over lower-case words.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tailorbird.domain.graders import Metric

_WORD = re.compile(r"\w+", re.UNICODE)


def similarity(metric: Metric, text: str, reference: str) -> float:
    if metric is Metric.FUZZY_MATCH:
        from rapidfuzz import fuzz

        return fuzz.WRatio(text, reference) / 100.0
    if metric is Metric.ROUGE_L:
        return _rouge_l(_words(text), _words(reference))
    if metric in _ROUGE_N:
        return _rouge_n(_words(text), _words(reference), _ROUGE_N[metric])
    words, wanted = text.split(), reference.split()
    return _NLTK[metric](words, wanted) if words and wanted else float(words == wanted)


_ROUGE_N = {
    Metric.ROUGE_1: 1,
    Metric.ROUGE_2: 2,
    Metric.ROUGE_3: 3,
    Metric.ROUGE_4: 4,
    Metric.ROUGE_5: 5,
}


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _rouge_n(words: Sequence[str], reference: Sequence[str], n: int) -> float:
    ours, theirs = _ngrams(words, n), _ngrams(reference, n)
    return _f1((ours & theirs).total(), ours.total(), theirs.total())


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _rouge_l(words: Sequence[str], reference: Sequence[str]) -> float:
    row = [0] * (len(reference) + 1)
    for word in words:
        diagonal = 0
        for i, other in enumerate(reference, 1):
            above = row[i]
            row[i] = diagonal + 1 if word == other else max(above, row[i - 1])
            diagonal = above
    return _f1(row[-1], len(words), len(reference))


def _f1(common: int, ours: int, theirs: int) -> float:
    return 2 * common / (ours + theirs) if common else 0.0


# NLTK is imported on first use: it takes 0.3 seconds and 30 MB that most servers never need. It has no types.


def _nltk(module: str) -> Any:
    return importlib.import_module(f"nltk.translate.{module}")


def _bleu(words: list[str], reference: list[str]) -> float:
    bleu = _nltk("bleu_score")
    # A text of three words holds no 4-grams; asking for them would make every short answer 0.
    longest = min(4, len(words), len(reference))
    return float(bleu.sentence_bleu([reference], words, (1 / longest,) * longest, bleu.SmoothingFunction().method1))


def _gleu(words: list[str], reference: list[str]) -> float:
    return float(_nltk("gleu_score").sentence_gleu([reference], words))


class _NoSynonyms:
    """Stands in for WordNet."""

    def synsets(self, word: str) -> list[object]:
        del word
        return []


def _meteor(words: list[str], reference: list[str]) -> float:
    return float(_nltk("meteor_score").single_meteor_score(reference, words, wordnet=_NoSynonyms()))


_NLTK: dict[Metric, Callable[[list[str], list[str]], float]] = {
    Metric.BLEU: _bleu,
    Metric.GLEU: _gleu,
    Metric.METEOR: _meteor,
}
