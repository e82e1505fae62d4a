from __future__ import annotations

import random

import pytest
from tokenizers import Tokenizer, decoders, models

from tailorbird.serving.text import TextStream

SENTENCE = "Größe: 3 × 4 — 日本語 🧵, the needle and the leaf."


def play(tokenizer: Tokenizer, ids: list[int], stops: list[str]) -> tuple[list[str], bool]:
    stream = TextStream(tokenizer, [], stops)
    pieces: list[str] = []
    for token in ids:
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    return [*pieces, stream.finish()], stream.stopped


def test_pieces_join_to_the_text_and_none_holds_half_a_character(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(SENTENCE).ids
    pieces, _ = play(tokenizer, ids, [])
    assert "".join(pieces) == SENTENCE
    assert not any("\ufffd" in piece for piece in pieces)
    assert len([piece for piece in pieces if piece]) > 20, "it must come piece by piece"


def test_a_text_that_ends_inside_a_character_says_so_only_at_the_end(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a🧵").ids[:-1]
    pieces, _ = play(tokenizer, ids, [])
    assert pieces[0] == "a"
    assert pieces[1:-1] == [""] * (len(ids) - 1)
    assert pieces[-1] == "\ufffd"


def test_special_tokens_have_no_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("leaf").ids
    assert "".join(play(tokenizer, [*ids, 0, 1, *ids], [])[0]) == "leafleaf"


def test_a_prompt_that_ends_inside_a_character_does_not_hide_what_follows(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("🧵x").ids
    stream = TextStream(tokenizer, ids[:2], [])
    assert "".join([*(stream.push(token) for token in ids[2:]), stream.finish()]) == "🧵x"


def test_the_space_before_the_first_word_is_kept_where_sentencepiece_would_drop_it() -> None:
    pieces = {"<s>": 0, "▁a": 1, "▁leaf": 2, "y": 3}
    tokenizer = Tokenizer(models.WordLevel(pieces, unk_token="<s>"))
    tokenizer.decoder = decoders.Metaspace()
    assert tokenizer.decode([2]) == "leaf"
    stream = TextStream(tokenizer, [1], [])
    assert [stream.push(2), stream.push(3)] == [" leaf", "y"]


@pytest.mark.parametrize("seed", range(20))
def test_a_stop_string_cuts_where_it_begins_however_tokens_fall(tokenizer: Tokenizer, seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(draw.choice("abcé🧵 ") for _ in range(60))
    start = draw.randrange(10, 40)
    stop = text[start : start + draw.randrange(1, 8)]
    pieces, stopped = play(tokenizer, tokenizer.encode(text).ids, ["zzz", stop])
    assert stopped
    assert "".join(pieces) == text[: text.index(stop)]


def test_the_beginning_of_a_stop_string_is_held_back_until_it_is_none(tokenizer: Tokenizer) -> None:
    stream = TextStream(tokenizer, [], ["abc"])
    a, b, x = (tokenizer.encode(letter).ids[0] for letter in "abx")
    assert [stream.push(a), stream.push(b), stream.push(x)] == ["", "", "abx"]


def test_what_was_held_back_for_a_stop_string_comes_out_at_the_end(tokenizer: Tokenizer) -> None:
    pieces, stopped = play(tokenizer, tokenizer.encode("xab").ids, ["abc"])
    assert not stopped
    assert "".join(pieces) == "xab"


def test_of_two_stop_strings_the_earlier_in_the_text_wins(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("one leaf").ids
    whole = next(i for i in range(len(ids)) if "leaf" in tokenizer.decode(ids[: i + 1]))
    assert "".join(play(tokenizer, ids[: whole + 1], ["af", "le"])[0]) == "one "
