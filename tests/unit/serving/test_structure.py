"""Structures compiled once, followed token by token; masks over the logits."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from llguidance import LLParserLimits
from tokenizers import Tokenizer

from tailorbird.protocol.generation import Structure
from tailorbird.serving.structure import Compiler, Guide, StructureRefused, mask

VOCAB, END = 310, 2  # ten rows more than the tokenizer could ever have


@pytest.fixture
def compiler(tokenizer: Tokenizer) -> Compiler:
    return Compiler(tokenizer, vocab=VOCAB, end_ids={END})


def lark(text: str) -> Structure:
    return Structure("grammar", text)


def start(compiler: Compiler, structure: Structure, end_ids: tuple[int, ...] = ()) -> Guide:
    return compiler.compile(structure).result(60).start(end_ids)


def piece(tokenizer: Tokenizer, text: str) -> int:
    token = tokenizer.token_to_id(text)
    assert token is not None, text
    return token


def allowed(guide: Guide) -> set[int]:
    found = mask(torch.zeros(1, VOCAB), [guide])
    return set(found[0].isfinite().nonzero()[:, 0].tolist())


def texts(tokenizer: Tokenizer, ids: set[int]) -> set[str]:
    return {tokenizer.decode([token]) for token in ids}


def test_only_tokens_that_fit_may_come_and_the_end_only_when_all_is_said(
    compiler: Compiler, tokenizer: Tokenizer
) -> None:
    guide = start(compiler, lark('start: "ne" ("st" | "edle")?'))
    assert texts(tokenizer, allowed(guide)) == {"ne"}, "what is certain comes in the tokenizer's own pieces"
    assert not guide.finished
    guide.take(piece(tokenizer, "ne"))
    assert texts(tokenizer, allowed(guide) - {END}) <= {"s", "st", "e", "ed", "edl", "edle"}
    assert END in allowed(guide), "the rest may be left out"
    assert not guide.finished, "it may come, too"
    for letter in "st":
        guide.take(piece(tokenizer, letter))
    assert guide.finished
    assert not guide.fault


def test_rows_that_pad_the_vocabulary_are_never_allowed(compiler: Compiler, tokenizer: Tokenizer) -> None:
    real = tokenizer.get_vocab_size()
    assert real < VOCAB, "the test proves nothing"
    assert max(allowed(start(compiler, lark(r"start: /(.|\n)+/")))) < real


def test_a_special_token_stands_in_a_grammar_by_its_name(compiler: Compiler, tokenizer: Tokenizer) -> None:
    bos = piece(tokenizer, "<bos>")
    guide = start(compiler, lark('start: <bos> "a" <bos>'))
    assert allowed(guide) == {bos}
    guide.take(bos)
    assert allowed(guide) == {piece(tokenizer, "a")}
    for token in (piece(tokenizer, "a"), bos):
        guide.take(token)
    assert guide.finished


def test_free_text_lets_no_special_token_in(compiler: Compiler, tokenizer: Tokenizer) -> None:
    specials = {piece(tokenizer, name) for name in ("<pad>", "<bos>", "<eos>")}
    assert allowed(start(compiler, lark(r"start: /(.|\n)+/"))) & specials == set()


def test_a_request_s_own_end_tokens_may_come_when_the_structure_is_complete(
    compiler: Compiler, tokenizer: Tokenizer
) -> None:
    end = piece(tokenizer, "z")
    guide = start(compiler, lark("start: /a+/"), (end,))
    assert end not in allowed(guide)
    guide.take(piece(tokenizer, "a"))
    assert {end, END} <= allowed(guide)


def test_choices_of_one_grammar_go_their_own_ways(compiler: Compiler, tokenizer: Tokenizer) -> None:
    grammar = compiler.compile(lark('start: "ax" | "by"')).result(60)
    one, other = grammar.start(()), grammar.start(())
    one.take(piece(tokenizer, "a"))
    other.take(piece(tokenizer, "b"))
    assert allowed(one) == {piece(tokenizer, "x")}
    assert allowed(other) == {piece(tokenizer, "y")}


def test_rows_without_a_guide_stay_as_they_are(compiler: Compiler) -> None:
    logits = torch.randn(3, VOCAB)
    before = logits.clone()
    masked = mask(logits, [None, start(compiler, lark('start: "a"')), None])
    assert torch.equal(masked[[0, 2]], before[[0, 2]])
    assert int(masked[1].isfinite().sum()) == 1
    assert torch.equal(logits, before), "the caller's logits are its own"
    assert mask(logits, [None] * 3) is logits


def test_a_token_that_does_not_fit_is_a_fault_that_forbids_nothing(compiler: Compiler, tokenizer: Tokenizer) -> None:
    guide = start(compiler, lark('start: "ab"'))
    guide.take(piece(tokenizer, "z"))
    assert guide.fault
    assert "<state>" not in guide.fault, "the dump of the matcher is nobody's business"
    assert not guide.finished
    assert len(allowed(guide)) == VOCAB


def test_the_same_structure_is_compiled_once(compiler: Compiler) -> None:
    first = compiler.compile(Structure("json_schema", '{"type": "object"}'))
    assert compiler.compile(Structure("json_schema", '{"type": "object"}')) is first
    assert compiler.compile(Structure("json_object")) is not first


def test_only_the_latest_structures_are_kept(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailorbird.serving.structure._KEPT", 2)
    first, second = (compiler.compile(lark(f'start: "{letter}"')) for letter in "ab")
    assert compiler.compile(lark('start: "a"')) is first
    compiler.compile(lark('start: "c"'))
    assert compiler.compile(lark('start: "a"')) is first
    assert compiler.compile(lark('start: "b"')) is not second


@pytest.mark.parametrize(
    ("structure", "reason"),
    [
        (Structure("json_schema", '{"type": "nope"}'), "nope"),
        (Structure("json_schema", "[1]"), "object"),
        (Structure("json_schema", '{"type": "integer", "minimum": 3, "maximum": 1}'), "Unsatisfiable"),
        (Structure("json_schema", '{"type": "string", "pattern": "(?=a)b"}'), "look-around"),
        (Structure("grammar", 'start: "{'), "lexer error"),
        (Structure("grammar", 'begin: "a"'), "start"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_the_reason(
    compiler: Compiler, structure: Structure, reason: str
) -> None:
    for _ in range(2):
        with pytest.raises(StructureRefused, match=reason):
            compiler.compile(structure).result(60)


def test_a_tokenizer_that_is_not_byte_level_is_refused_by_name() -> None:
    from tokenizers import models

    words = Compiler(Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a")), vocab=2, end_ids={1})
    with pytest.raises(StructureRefused, match="tokenizer"):
        words.compile(Structure("json_object")).result(60)


def test_space_between_json_tokens_has_an_end(compiler: Compiler, tokenizer: Tokenizer) -> None:
    guide = start(compiler, Structure("json_schema", '{"type": "array", "items": {"const": 1}, "minItems": 1}'))
    guide.take(piece(tokenizer, "["))
    space = piece(tokenizer, "\u0120")  # how byte-level vocabularies write a space
    for _ in range(32):
        assert space in allowed(guide)
        guide.take(space)
    assert space not in allowed(guide)
    assert not guide.fault


def test_a_json_object_is_any_object_and_nothing_else(compiler: Compiler, tokenizer: Tokenizer) -> None:
    guide = start(compiler, Structure("json_object"))
    assert texts(tokenizer, allowed(guide)) == {"{"}
    given: Any = {"a": [1, {"b": None}], "c": "d"}
    for token in tokenizer.encode(json.dumps(given)).ids:
        guide.take(token)
        assert not guide.fault
    assert guide.finished


def test_a_schema_of_hundreds_of_properties_is_followed(compiler: Compiler, tokenizer: Tokenizer) -> None:
    names = {f"property_{i}": {"type": ["string", "null"]} for i in range(400)}
    guide = start(compiler, Structure("json_schema", json.dumps({"type": "object", "properties": names})))
    given = {"property_3": "a", "property_250": None, "property_399": "b", "another": [1]}
    for token in tokenizer.encode(json.dumps(given)).ids:
        assert token in allowed(guide)
        guide.take(token)
    assert guide.finished


def test_a_grammar_that_grows_beyond_the_limit_of_a_step_is_given_up(
    compiler: Compiler, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailorbird.serving.structure._limits", lambda: LLParserLimits(step_max_items=600))
    guide = start(compiler, lark("start: a\na: /[a-z]/ | a a | a a a"))
    for _ in range(60):
        allowed(guide)
        guide.take(piece(tokenizer, "a"))
    assert "Too many items" in guide.fault
    assert "<state>" not in guide.fault
