"""Words, phrases, beginnings of words and Japanese strings are found as what they mean."""

from __future__ import annotations

from tailorbird.infra.moderation.lexicon import Lexicon

ANIMAL, END, END_ALL = range(3)
LEXICON = Lexicon(
    ["cat", "parrot*", "end", "end it all", "don't", "猫", "猫かぶり", "cat"],
    [ANIMAL, ANIMAL, END, END_ALL, END, ANIMAL, END, END],
    [ANIMAL, END, END],
)


def read(text: str) -> list[tuple[str, int]]:
    return [(word, of) for _, word, of, _ in LEXICON.read(text)]


def test_a_word_is_found_whole_and_the_first_entry_counts() -> None:
    assert read("a cat, cats") == [("a", -1), ("cat", ANIMAL), ("cats", -1)]


def test_a_star_stands_for_any_ending() -> None:
    assert read("parrot parrots parro") == [("parrot", ANIMAL), ("parrots", ANIMAL), ("parro", -1)]


def test_the_longest_phrase_wins() -> None:
    assert read("end it all") == [("end it all", END_ALL)]
    assert read("end it") == [("end", END), ("it", -1)]


def test_apostrophes_of_both_kinds_are_one() -> None:
    assert read("don\u2019t") == read("don't") == [("don't", END)]


def test_japanese_is_cut_at_what_is_known_the_longest_first() -> None:
    assert read("あの猫は猫かぶりだ") == [("あの", -1), ("猫", ANIMAL), ("は", -1), ("猫かぶり", END), ("だ", -1)]


def test_places_and_the_whole_of_a_class_are_told() -> None:
    assert list(LEXICON.read("so end it all 猫")) == [
        (0, "so", -1, -1),
        (3, "end it all", END_ALL, END),
        (14, "猫", ANIMAL, ANIMAL),
    ]


def test_a_text_without_words_has_none() -> None:
    assert read("") == read("?! --") == []
