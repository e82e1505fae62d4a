"""Texts as hashed n-grams of characters, words and classes of words; the recipe trains on the same numbers."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailorbird.infra.moderation.lexicon import Lexicon

BUCKET_BITS = 18
WINDOW = 320
"""Characters judged together: a harmful sentence must not drown in a long harmless text."""
_SHORT = 8

_CHARACTERS = (1, 2, 3, 4)
_SCALES = (0.7, 1.0, 2.0)
"""What all n-grams of characters, of words and of classes weigh together, however many a text has of each."""
_DILUTION, _USUAL = 0.3, 30.0
"""A text with more n-grams than the usual number gives each of them less weight, but more than its share."""
_QUOTED = re.compile(r"(?<!\w)['‘](?=\w).{4,300}?(?<=\S)['’](?!\w)|[\"“](?=\w)[^\"”]{4,300}[\"”]|「[^」]{4,300}」")
_TELLS = 12
"""So many characters around a quotation make it one; what is nothing but quoted is said."""
_INSIDE_QUOTES, _NEGATED = 1 << 21, 1 << 22
_NEGATION = re.compile(
    r"\b(?:not|never|nobody|no|none|neither|cannot|without|wrong to|refus\w+|forbid\w*|\w+n['’]t)\b[^,.;!?]*"
    r"|\b(?:niet|nooit|niemand|geen|zonder|verkeerd om|weiger\w*|verboden|strafbaar)\b[^,.;!?]*"
)
"""From a negating word to the end of its clause."""
_CLAUSE = re.compile(r"[^、。，！？「」]+")
_NEGATES = re.compile("ない|ません|いけな|やめ|拒|間違|許され|禁じ|犯罪|なかった|なく")
"""In Japanese the negation stands at a clause's end and is about all of it."""
_LONGEST_WORD = 40
_MOST_CLASSES = 12
"""So many of a text are paired with each other; the number of pairs grows with the square."""
_ODD = 0x9E3779B97F4A7C15
_MIX = 0xD6E8FEB86659FD93
_THIRD = 0xA0761D6478BD642F
_ALL_BITS = (1 << 64) - 1
_SENTENCE_END = re.compile(r"(?<=[.!?\n])\s+|(?<=[。！？])")

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
Floats = NDArray[np.float32]
Grams = list[tuple[Words, Ints]]


@dataclass(frozen=True, slots=True)
class Features:
    """The bucket of each n-gram, the number of the text it stands in, and what it weighs there."""

    buckets: Ints
    owners: Ints
    weights: Floats


def windows(text: str) -> list[str]:
    """The text sentence by sentence, none longer than `WINDOW`; one of a word or two goes with the next."""
    plain = " ".join(unicodedata.normalize("NFKC", text).lower().split(" "))
    found: list[str] = []
    short = ""
    for sentence in _SENTENCE_END.split(plain):
        for piece in _cut(" ".join(sentence.split())):
            joined = f"{short} {piece}" if short else piece
            short = joined if len(joined) < _SHORT else ""
            if not short:
                found.append(joined)
    if short or not found:
        found.append(short)
    return found


def featurize(texts: Sequence[str], lexicon: Lexicon) -> Features:
    """Of texts that `windows` made. Every one has at least one feature."""
    joined = "".join(f" {text} " for text in texts)
    lengths = np.array([len(text) + 2 for text in texts], dtype=np.int64)
    owner = np.repeat(np.arange(len(texts), dtype=np.int64), lengths)
    points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    # What is quoted or negated is told apart from what is said.
    for start, end, mark in _marked(texts):
        points[start:end] |= np.uint64(mark)
    hashes: list[Words] = []
    owners: list[Ints] = []
    weights: list[Floats] = []
    kinds = (_character_grams(points, owner), _word_grams(joined, points, owner), _class_grams(texts, points, lexicon))
    for grams, scale in zip(kinds, _SCALES, strict=True):
        if grams:
            of = np.concatenate([whose for _, whose in grams])
            counts = np.bincount(of, minlength=len(texts))
            hashes.extend(gram for gram, _ in grams)
            owners.append(of)
            weights.append((scale / _USUAL**0.5 * (counts[of] / _USUAL) ** -_DILUTION).astype(np.float32))
    buckets = ((np.concatenate(hashes) * np.uint64(_MIX)) >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
    return Features(buckets, np.concatenate(owners), np.concatenate(weights))


def _marked(texts: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    """Where quotations and negated clauses stand in the joined texts. The strings of JSON are no quotations."""
    place = 1
    for text in texts:
        yield from ((place + start, place + end, _NEGATED) for start, end in _negated(text))
        if text[:1] not in ("{", "["):
            found = [match.span() for match in _QUOTED.finditer(text)]
            if found and len(text) - sum(end - start for start, end in found) >= _TELLS:
                yield from ((place + start, place + end, _INSIDE_QUOTES) for start, end in found)
        place += len(text) + 2


def _negated(text: str) -> Iterator[tuple[int, int]]:
    yield from (match.span() for match in _NEGATION.finditer(text))
    if not text.isascii() and _NEGATES.search(text):
        yield from (clause.span() for clause in _CLAUSE.finditer(text) if _NEGATES.search(clause[0]))


def _cut(sentence: str) -> list[str]:
    return [sentence[start : start + WINDOW] for start in range(0, len(sentence), WINDOW)]


def _chained(parts: Sequence[Words], salt: int) -> Words:
    """One hash of several; their order counts. Arithmetic is modulo 2^64."""
    total = np.full(len(parts[0]), salt * _ODD % (1 << 64), dtype=np.uint64)
    for part in parts:
        total = (total ^ part) * np.uint64(_ODD)
        total ^= total >> np.uint64(29)
    return total


def _character_grams(points: Words, owner: Ints) -> Grams:
    found: Grams = []
    for size in _CHARACTERS:
        count = len(points) - size + 1
        if count > 0:
            gram = _chained([points[offset : offset + count] for offset in range(size)], size)
            whole = owner[:count] == owner[size - 1 :]
            found.append((gram[whole], owner[:count][whole]))
    return found


def _word_grams(joined: str, points: Words, owner: Ints) -> Grams:
    """Words, neighbours, words with one between them, and threes; a word is letters and digits side by side."""
    inside = np.fromiter((character.isalnum() for character in joined), dtype=bool, count=len(joined))
    begins = np.flatnonzero(inside & ~np.concatenate(([False], inside[:-1])))
    if not len(begins):
        return []
    number = np.cumsum(np.isin(np.arange(len(joined)), begins)) - 1
    place = np.arange(len(joined)) - begins[np.maximum(number, 0)]
    powers = np.array([pow(_ODD, k + 1, 1 << 64) for k in range(_LONGEST_WORD)], dtype=np.uint64)
    terms: Any = np.where(inside & (place < _LONGEST_WORD), points * powers[np.minimum(place, _LONGEST_WORD - 1)], 0)
    words = np.add.reduceat(terms.astype(np.uint64), begins)
    of = owner[begins]
    grams: Grams = [(_chained([words], 11), of)]
    for salt, offsets in ((12, (0, 1)), (13, (0, 2)), (14, (0, 1, 2))):
        count = len(words) - offsets[-1]
        if count > 0:
            same = of[:count] == of[offsets[-1] :]
            gram = _chained([words[offset : offset + count] for offset in offsets], salt)
            grams.append((gram[same], of[:count][same]))
    return grams


def _class_grams(texts: Sequence[str], points: Words, lexicon: Lexicon) -> Grams:
    """What the texts say in classes: "i will hurt you" and "we are going to stab him" are nearly the same."""
    codes: list[int] = []
    owners: list[int] = []
    place = 1
    for number, text in enumerate(texts):
        parts: list[int] = []
        wholes: list[int] = []
        mixed: list[int] = []
        for at, word, part, whole in lexicon.read(text):
            if part < 0:
                mixed.append((zlib.crc32(word.encode("utf-8", "surrogatepass")) << 10) + 1)
            else:
                # The marks of quotation and negation are the two bits above a character's.
                mark = int(points[place + at]) >> 21 & 3
                parts.append(part << 2 | mark)
                wholes.append(whole << 2 | mark)
                mixed.append(part << 2 | mark)
        found = _sequences(parts, 20) | _sequences(wholes, 30) | _neighbours(mixed, 40)
        some = wholes[:_MOST_CLASSES]
        found.update(_code(43, first, then) for i, first in enumerate(some) for then in some[i + 1 :])
        codes.extend(found)
        owners.extend([number] * len(found))
        place += len(text) + 2
    return [(_chained([np.array(codes, dtype=np.uint64)], 15), np.array(owners, dtype=np.int64))] if codes else []


def _sequences(classes: list[int], salt: int) -> set[int]:
    """Each class, neighbours (words of no class between them do not count), and which stand in one text at all."""
    pairs = sorted(set(classes))[:_MOST_CLASSES]
    found = _neighbours(classes, salt + 1)
    found.update(_code(salt, one) for one in classes)
    found.update(_code(salt + 3, one, other) for i, one in enumerate(pairs) for other in pairs[i + 1 :])
    return found


def _neighbours(line: list[int], salt: int) -> set[int]:
    found = {_code(salt, *pair) for pair in pairwise(line)}
    found.update(_code(salt + 1, *three) for three in zip(line, line[1:], line[2:], strict=False))
    return found


def _code(salt: int, first: int, second: int = 0, third: int = 0) -> int:
    return (salt + first * _ODD + second * _MIX + third * _THIRD) & _ALL_BITS
