"""The shipped classifier reaches what its model card says, and the card says what it reaches."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from recipes.moderation.evaluate import (
    DEVELOPMENT,
    WEIGHTS,
    any_harm,
    by_category,
    false_alarms,
    look_alikes,
    report,
)
from recipes.moderation.examples import AUTHORS, FOLDS, LANGUAGES, Example, examples, in_folds, written
from tailorbird.domain.safety import Category, Severity
from tailorbird.infra.moderation.builtin import Classifier
from tailorbird.infra.moderation.lexicon import Lexicon
from tailorbird.service.simulations import SIMULATIONS

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.load(WEIGHTS)


@pytest.fixture(scope="module")
def held_out() -> list[Example]:
    return written("held_out")


def test_each_category_is_found_with_the_precision_and_the_recall_of_the_card(classifier, held_out) -> None:
    """0.85 is the aim for both; where it is missed, the card says so, and it must not become less."""
    reached = {Category.HATE_FAIRNESS: 0.86, Category.SELF_HARM: 0.48, Category.SEXUAL: 0.46, Category.VIOLENCE: 0.64}
    for category, figures in by_category(classifier, held_out).items():
        assert figures.precision >= 0.85, category
        assert figures.recall >= reached[category], category
        assert figures.positives >= 75, category
    found, harmful = any_harm(classifier, held_out)
    assert found / harmful >= 0.62


@pytest.mark.parametrize("name", DEVELOPMENT)
def test_each_category_of_the_development_sentences_is_found_with_precision(classifier, name) -> None:
    for category, figures in by_category(classifier, written(name)).items():
        assert figures.precision >= 0.85, category
        assert figures.recall >= 0.65, category
        assert figures.positives >= 75, category


@pytest.mark.parametrize(("name", "most"), [("development", 0.03), ("development_2", 0.03), ("held_out", 0.033)])
def test_harmless_texts_that_look_harmful_raise_few_alarms(classifier, name, most) -> None:
    """3 % is the aim; the card says that texts by another author raise a little more."""
    wrong, total = look_alikes(false_alarms(classifier, written(name)))
    assert total >= 150
    assert wrong / total < most


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
        "position_ids",
        "bash",
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


def shape(text: str) -> set[str]:
    letters = "".join(character for character in text.lower() if character.isalnum())
    size = 4 if letters.isascii() else 2
    return {letters[at : at + size] for at in range(max(1, len(letters) - size + 1))}


def test_no_sentence_that_is_learned_from_is_nearly_one_that_is_judged_with(held_out) -> None:
    learned = [e for e in examples() if e.fold >= 0]
    texts = {e.text.lower() for e in examples()}
    assert not texts & {e.text.lower() for name in DEVELOPMENT for e in (*written(name), *held_out)}
    places: dict[str, list[int]] = defaultdict(list)
    judged = [shape(e.text) for e in held_out]
    for place, grams in enumerate(judged):
        for gram in grams:
            places[gram].append(place)
    for sentence in learned:
        own = shape(sentence.text)
        common = Counter(place for gram in own for place in places.get(gram, ()))
        near = [place for place, count in common.items() if count >= 0.6 * (len(own) + len(judged[place]) - count)]
        assert not near, sentence.text


@pytest.mark.parametrize(
    ("file", "least", "severities"),
    [("development", 30, {1, 2, 3}), ("development_2", 19, {2, 3}), ("held_out", 21, {2, 3})],
)
def test_what_is_judged_with_covers_every_category_severity_and_language(file, least, severities) -> None:
    assert set(LANGUAGES) == {"en", "ja", "nl"}
    for language in LANGUAGES:
        for category in (*Category, None):
            found = [e for e in written(file) if (e.language, e.category) == (language, category)]
            assert len(found) >= least, (language, category)
            assert {e.severity for e in found} == (severities if category else {0})


def test_sentences_next_to_each_other_share_a_fold() -> None:
    sentences = [Example(str(number), "violence", 2, "en", "street") for number in range(10)]
    folds = [e.fold for e in in_folds(sentences)]
    assert len(set(folds)) == 5
    assert folds[::2] == folds[1::2]


def test_what_one_author_wrote_is_in_one_fold_and_every_fold_has_authors() -> None:
    assert len(AUTHORS) > FOLDS
    folds = defaultdict(set)
    for e in examples():
        folds[e.group.partition("-")[0]].add(e.fold)
    assert all(len(folds[author]) == 1 for author in AUTHORS)
    assert {fold for author in AUTHORS for fold in folds[author]} == set(range(FOLDS))


def test_a_thousand_messages_take_less_than_a_second_of_one_core(classifier) -> None:
    texts = [f"Question {number}: how do I change my booking for two people on Friday?" for number in range(1000)]
    classifier.classify(texts[:10])
    began = time.process_time()
    classifier.classify(texts)
    assert time.process_time() - began < 1.0


def test_weights_of_another_shape_are_refused(tmp_path) -> None:
    import numpy as np

    with pytest.raises(ValueError, match="do not have the shape"):
        Classifier(
            np.zeros((4, 12)), np.zeros(12, dtype=np.float32), np.zeros(12, dtype=np.float32), Lexicon([], [], [])
        )
