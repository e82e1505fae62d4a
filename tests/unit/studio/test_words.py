"""The catalogue: complete in each language, used, and the same in what it fills in."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from tailorbird import studio
from tailorbird.studio.words import LANGUAGES, Words, catalogue, preferred

FOLDER = Path(studio.__file__).parent
SOURCES = {path: path.read_text("utf-8") for path in sorted(FOLDER.rglob("*.py"))}
LITERAL = re.compile(r"\b(?:t|visit\.t|self\.t|_visit\.t|words|self)\(\s*\"([a-z_]+\.[\w.]+)\"")
BUILT = re.compile(r"f\"([a-z_]+\.[\w.]*)\{")
ANY = re.compile(r"\"([a-z_]+\.[\w.]+)\"")
JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")


def names(text: str) -> set[str]:
    return {field for _, field, _, _ in string.Formatter().parse(text) if field}


def words(text: str) -> int:
    return len(re.findall(r"[A-Za-z]{2,}", re.sub(r"\{\w+\}", "", text)))


@pytest.mark.parametrize("language", ["ja", "nl"])
def test_each_language_has_every_text_with_the_same_values_filled_in(language: str) -> None:
    english, other = catalogue("en"), catalogue(language)
    assert sorted(set(english) - set(other)) == [], "missing"
    assert sorted(set(other) - set(english)) == [], "left over"
    assert [key for key in english if names(english[key]) != names(other[key])] == []


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_no_text_is_empty(language: str) -> None:
    assert [key for key, text in catalogue(language).items() if not text.strip()] == []


def test_every_text_the_code_names_is_there() -> None:
    asked = {key for text in SOURCES.values() for key in LITERAL.findall(text)}
    assert len(asked) > 50
    assert sorted(asked - set(catalogue("en"))) == []


def test_every_text_is_used() -> None:
    named = {key for text in SOURCES.values() for key in ANY.findall(text)}
    beginnings = tuple({start for text in SOURCES.values() for start in BUILT.findall(text)})
    unused = [key for key in catalogue("en") if key not in named and not key.startswith(beginnings)]
    assert unused == []


def test_japanese_is_japanese() -> None:
    latin = [key for key, text in catalogue("ja").items() if not JAPANESE.search(text)]
    # Names, units and words that stand in the interface of the API itself.
    assert [key for key in latin if words(catalogue("en")[key]) > 2] == []


def test_dutch_is_not_english() -> None:
    same = [key for key, text in catalogue("nl").items() if text == catalogue("en")[key]]
    assert [key for key in same if words(catalogue("en")[key]) > 3] == []


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("ja-JP,ja;q=0.9,en;q=0.8", "ja"),
        ("fr-FR,fr;q=0.9,nl;q=0.5,en;q=0.3", "nl"),
        ("en;q=0.2, nl-BE;q=0.9", "nl"),
        ("fr", "en"),
        ("", "en"),
        ("ja;q=broken, nl", "nl"),
    ],
)
def test_the_browser_s_first_known_language_is_taken(accepted: str, language: str) -> None:
    assert preferred(accepted) == language


def test_numbers_sizes_and_times_follow_the_language() -> None:
    english, dutch, japanese = Words("en"), Words("nl"), Words("ja")
    assert (english.number(12345.678, 2), dutch.number(12345.678, 2)) == ("12,345.68", "12.345,68")
    assert (english.size(999), english.size(1_500_000), dutch.size(2_500)) == ("999 B", "1.5 MB", "2,5 KB")
    assert english.duration(7384) == "2 h 3 min"
    assert japanese.duration(65) == "1 分 5 秒"
    assert english.moment(1_795_000_000) == "18 Nov 2026, 11:06 UTC"


def test_a_text_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        Words("en")("home.no_such_text")
