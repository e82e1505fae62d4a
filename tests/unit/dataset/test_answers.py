from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird.dataset.answers import CallReader, Piece, SpelledText
from tailorbird.dataset.calls import CallFormat
from tailorbird.dataset.render import Renderer

HERMES = CallFormat(
    begin='\n<tool_call>\n{"name": "',
    middle='", "arguments": ',
    between='}\n</tool_call>\n<tool_call>\n{"name": "',
    end="}\n</tool_call>",
    opening="<tool_call>",
    tokens={},
    hidden=frozenset(),
    key_separator=": ",
    item_separator=", ",
)
BARE = CallFormat('{"name": "', '", "parameters": ', None, "}", "", {}, frozenset(), ": ", ", ")
NAMES = ("f", "g")
ONE = '<tool_call>\n{"name": "f", "arguments": {"a": "}\\""}}\n</tool_call>'
TWO = ONE + '\n<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>'
READ_TWO = [("f", '{"a": "}\\""}'), ("g", "{}")]


def read(parts: list[str], form: CallFormat = HERMES, **how: Any) -> tuple[str, list[tuple[str, str]]]:
    """Content and calls of a text that comes in these parts."""
    reader = CallReader(form, NAMES, **how)
    pieces = [piece for part in parts for piece in reader.push(part)] + reader.finish()
    content = "".join(piece.text for piece in pieces if piece.call is None)
    names = {piece.call: piece.name for piece in pieces if piece.name is not None}
    arguments = {call: "".join(p.text for p in pieces if p.call == call) for call in names}
    assert reader.calls == len(names)
    return content, [(str(names[call]), arguments[call]) for call in names]


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, len("Sure. \n") + len(TWO)), max_size=8), checked=st.booleans())
def test_however_a_text_is_cut_its_content_and_calls_are_the_same(cuts: list[int], checked: bool) -> None:
    text = "Sure. \n" + TWO
    places = [0, *sorted(cuts), len(text)]
    parts = [text[start:end] for start, end in itertools.pairwise(places)]
    assert read(parts, checked=checked) == ("Sure.", READ_TWO)


def test_a_forced_call_comes_while_it_is_written() -> None:
    reader = CallReader(HERMES, NAMES, forced=True, checked=True)
    assert reader.push(HERMES.begin + 'f", "arguments": ') == [Piece(call=0, name="f")]
    assert reader.push('{"a": ') == [Piece('{"a": ', 0)]
    assert reader.push("1}}\n</tool_call>") == [Piece("1}", 0)]
    assert reader.finish() == []


def test_what_a_template_writes_before_forced_calls_is_no_content() -> None:
    assert read(["<think>\n\n</think>\n" + ONE], forced=True, checked=True) == ("", READ_TWO[:1])


def test_a_forced_call_that_was_cut_off_keeps_what_there_is() -> None:
    assert read([TWO[:55]], forced=True, checked=True) == ("", [("f", '{"a": "}\\""}')])
    assert read([ONE[:45]], forced=True, checked=True) == ("", [("f", '{"a": ')])
    assert read([ONE[:20]], forced=True, checked=True) == ("", [])


@pytest.mark.parametrize(
    "spoiled",
    [
        ONE.replace('"f"', '"unknown"'),
        ONE.replace("}}", "}"),
        ONE[:-5],
        ONE.replace('{"a"', '["a"').replace('"}}', '"]}'),
        ONE.replace('"arguments"', '"argument"'),
        ONE.replace('"}\\""', "NaN"),
        "<tool_call>",
    ],
)
def test_a_call_that_a_free_model_spoiled_stays_content(spoiled: str) -> None:
    assert read(list("Hm.\n" + spoiled)) == ("Hm.\n" + spoiled, [])


def test_spaces_a_free_model_puts_elsewhere_do_not_spoil_a_call() -> None:
    loose = '<tool_call>{ "name":"f","arguments":{"a":1} }</tool_call>'
    assert read([loose]) == ("", [("f", '{"a":1}')])


def test_text_after_calls_and_the_begin_of_a_marker_are_content() -> None:
    assert read([ONE + "\nDone."]) == ("Done.", READ_TWO[:1])
    assert read(["a < b and <tool"]) == ("a < b and <tool", [])
    assert read(["ends in a space \n"]) == ("ends in a space \n", [])


def test_with_one_call_allowed_the_first_is_kept() -> None:
    for checked in (False, True):
        assert read([TWO], many=False, checked=checked) == ("", READ_TWO[:1])


@pytest.mark.parametrize("checked", [False, True])
def test_a_bare_object_is_a_call_when_it_is_one_to_the_end(checked: bool) -> None:
    assert read(list('{"name": "g", "parameters": {"x": 1}}'), BARE, checked=checked) == ("", [("g", '{"x": 1}')])
    assert read(list('{"name": "Ada"}'), BARE, checked=checked) == ('{"name": "Ada"}', [])
    assert read(list('  So {"name": "g"'), BARE, checked=checked) == ('  So {"name": "g"', [])


# --- tokens -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weaver() -> Renderer:
    return Renderer.from_folder(Path(__file__).parents[3] / "src" / "tailorbird" / "weaver")


def spell(renderer: Renderer, text: str, *stops: str) -> list[str]:
    spelled = SpelledText(renderer, renderer.encode("before"), {3, 4}, stops)
    parts = [spelled.push([token]) for token in renderer.encode(text)]
    return [*parts, spelled.finish()]


def test_special_tokens_of_calls_are_spelled_out_and_others_are_not(weaver: Renderer) -> None:
    text = 'Grüße 漢字 <|tool_call|>{"name": "f"}<|/tool_call|>'
    parts = spell(weaver, text + "<|im_end|><|reserved_0|>")
    assert "".join(parts) == text
    assert not any("\ufffd" in part for part in parts)


def test_text_ends_before_a_stop_string_of_which_nothing_is_passed_on(weaver: Renderer) -> None:
    parts = spell(weaver, "one two STOP three", "STOP")
    assert "".join(parts) == "one two "
    assert "".join(spell(weaver, "one two STO", "STOP")) == "one two STO"
