"""The shipped classifier reaches what its model card says, and the card says what it reaches."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from recipes.moderation.evaluate import (
    NOT_ALIKE,
    WEIGHTS,
    by_category,
    false_alarms,
    report,
)
from recipes.moderation.examples import LANGUAGES, Example, examples, kept
from tailorbird.domain.safety import Category, Severity
from tailorbird.infra.moderation.builtin import Classifier
from tailorbird.service.simulations import SIMULATIONS

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.load(WEIGHTS)


@pytest.fixture(scope="module")
def held_out() -> list[Example]:
    return list(examples("test"))


def test_each_category_reaches_its_recall_at_its_precision(classifier, held_out) -> None:
    for category, figures in by_category(classifier, held_out).items():
        assert figures.precision >= 0.85, category
        assert figures.recall >= 0.85, category
        assert figures.positives > 200, category


def test_harmless_texts_that_look_harmful_raise_few_alarms(classifier, held_out) -> None:
    counts = {kind: count for kind, count in false_alarms(classifier, held_out).items() if kind not in NOT_ALIKE}
    assert set(counts) == {"homographs", "medical", "legal", "news", "fiction", "negation", "quoting"}
    assert sum(wrong for wrong, _ in counts.values()) / sum(total for _, total in counts.values()) < 0.03


def test_the_card_shows_the_figures_of_the_shipped_weights(classifier) -> None:
    card = (ROOT / "docs" / "moderation.md").read_text(encoding="utf-8")
    missing = [line for line in report(classifier).splitlines() if line and line not in card]
    assert missing == []


@pytest.mark.parametrize(
    "text",
    [
        "Kill the process and shoot a photo of the error message.",
        "Breast cancer screening is free for women over fifty.",
        "プロセスを kill して、乳がん検診の予約をしてください。",
        "Dood het proces en maak een afspraak voor het bevolkingsonderzoek naar borstkanker.",
        "SELECT name, sex FROM users WHERE killed = 0;",
        "",
    ],
)
def test_homographs_are_safe(classifier, text) -> None:
    assert set(classifier.classify([text])[0].values()) == {Severity.SAFE}


def test_harm_is_found_inside_a_long_harmless_text(classifier) -> None:
    text = "Thank you for your order. " * 40 + "I will kill you tonight. " + "It will arrive on Friday. " * 40
    assert classifier.classify([text])[0][Category.VIOLENCE] is Severity.HIGH


def test_no_simulated_conversation_is_harmful_in_itself(classifier) -> None:
    said = [
        text
        for conversations in SIMULATIONS.values()
        for conversation in conversations
        for text in (*conversation.turns, conversation.system or "")
    ]
    harmful = [text for text, s in zip(said, classifier.classify(said), strict=True) if max(s.values()) > Severity.LOW]
    assert harmful == []


def test_the_example_data_of_the_package_is_safe(classifier) -> None:
    texts = (ROOT / "examples" / "bookings.train.jsonl").read_text(encoding="utf-8").splitlines()[:300]
    assert max(max(scores.values()) for scores in classifier.classify(texts)) is Severity.SAFE


def test_a_template_is_learned_from_or_judged_with_and_never_both() -> None:
    templates = [str(number) for number in range(9)]
    train, test = kept(templates, "train"), kept(templates, "test")
    assert sorted(train + test) == templates
    assert not set(train) & set(test)
    assert set(LANGUAGES) == {"en", "ja", "nl"}


def test_a_thousand_messages_take_less_than_a_second_of_one_core(classifier) -> None:
    texts = [f"Question {number}: how do I change my booking for two people on Friday?" for number in range(1000)]
    classifier.classify(texts[:10])
    began = time.process_time()
    classifier.classify(texts)
    assert time.process_time() - began < 1.0


def test_weights_of_another_shape_are_refused(tmp_path) -> None:
    import numpy as np

    with pytest.raises(ValueError, match="do not have the shape"):
        Classifier(np.zeros((4, 12)), np.zeros(12, dtype=np.float32), np.zeros(12, dtype=np.float32))
