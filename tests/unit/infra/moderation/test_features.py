"""Texts are judged sentence by sentence; quotations and negated clauses are told apart."""

from __future__ import annotations

import numpy as np

from tailorbird.infra.moderation.features import WINDOW, featurize, windows


def buckets(text: str) -> set[int]:
    (one,) = windows(text)
    return set(featurize([one]).buckets.tolist())


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
    found = featurize([*windows(""), *windows("?"), *windows("\ud800")])
    assert (found.counts > 0).all()


def test_a_text_has_the_same_features_in_any_company() -> None:
    alone = featurize(["a small text"])
    together = featurize(["before", "a small text", "after"])
    mine = together.buckets[together.owners == 1]
    assert np.array_equal(np.sort(mine), np.sort(alone.buckets))


def test_the_same_words_quoted_or_negated_are_other_features() -> None:
    said = buckets("i will hurt you tonight")
    assert len(said & buckets("the judge read 'i will hurt you tonight' aloud in court")) < len(said) / 4
    assert len(said & buckets("never will i hurt you tonight")) < len(said) / 2


def test_what_is_nothing_but_a_quotation_is_said() -> None:
    plain, quoted = buckets("i will hurt you tonight"), buckets("'i will hurt you tonight'")
    assert len(plain & quoted) > 0.8 * len(plain)


def test_the_strings_of_json_are_no_quotations() -> None:
    plain, spelled = buckets("i will hurt you tonight"), buckets('{"message": "i will hurt you tonight", "to": "him"}')
    assert len(plain & spelled) > 0.8 * len(plain)
