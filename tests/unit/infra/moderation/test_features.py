"""Texts are judged sentence by sentence; quotations, negated clauses and classes of words are told apart."""

from __future__ import annotations

import numpy as np

from tailorbird.infra.moderation.features import WINDOW, featurize, windows
from tailorbird.infra.moderation.lexicon import Lexicon

NONE = Lexicon([], [], [])
HURT, PERSON = 0, 1
FEW = Lexicon(["hurt", "stab*", "beat up", "you", "him"], [HURT, HURT, HURT, PERSON, PERSON], [HURT, PERSON])


def buckets(text: str) -> set[int]:
    (one,) = windows(text)
    return set(featurize([one], NONE).buckets.tolist())


def test_a_long_text_is_cut_into_its_sentences() -> None:
    assert windows(
        "The first sentence is here. The second follows! 三つ目の文がここにあります。四つ目もあります。"
    ) == [
        "the first sentence is here.",
        "the second follows!",
        "三つ目の文がここにあります。",
        "四つ目もあります。",
    ]


def test_a_word_alone_goes_with_the_next_sentence() -> None:
    assert windows("Hi! How are you today?") == ["hi! how are you today?"]


def test_an_endless_sentence_is_cut_and_none_of_it_lost() -> None:
    text = "word " * 500
    pieces = windows(text)
    assert max(map(len, pieces)) <= WINDOW
    assert "".join(pieces).replace(" ", "") == "word" * 500


def test_every_text_has_features_even_an_empty_one() -> None:
    found = featurize([*windows(""), *windows("?"), *windows("\ud800")], FEW)
    assert set(found.owners.tolist()) == {0, 1, 2}


def test_a_text_has_the_same_features_in_any_company() -> None:
    alone = featurize(["i will stab you"], FEW)
    together = featurize(["before", "i will stab you", "after"], FEW)
    mine = together.buckets[together.owners == 1]
    assert np.array_equal(np.sort(mine), np.sort(alone.buckets))
    assert np.allclose(np.sort(together.weights[together.owners == 1]), np.sort(alone.weights))


def test_the_same_words_quoted_or_negated_are_other_features() -> None:
    said = buckets("i will hurt you tonight")
    assert len(said & buckets("the judge read 'i will hurt you tonight' aloud in court")) < len(said) / 3
    assert len(said & buckets("never will i hurt you tonight")) < len(said) / 2


def test_what_is_nothing_but_a_quotation_is_said() -> None:
    plain, quoted = buckets("i will hurt you tonight"), buckets("'i will hurt you tonight'")
    assert len(plain & quoted) > 0.8 * len(plain)


def test_the_strings_of_json_are_no_quotations() -> None:
    plain, spelled = buckets("i will hurt you tonight"), buckets('{"message": "i will hurt you tonight", "to": "him"}')
    assert len(plain & spelled) > 0.8 * len(plain)


def test_words_of_one_class_are_alike_and_other_words_are_not() -> None:
    def shared(lexicon: Lexicon) -> int:
        one, other = (
            set(featurize([text], lexicon).buckets.tolist()) for text in ("we stabbed him", "now beat up you")
        )
        return len(one & other)

    assert shared(FEW) > shared(NONE)
