"""The glance at a line against the full inspection: it may doubt, but never err."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tailorbird.dataset import validate
from tailorbird.dataset.faults import MAX_CONTENT, Kind
from tailorbird.dataset.quick import certainly_good
from tailorbird.dataset.validate import Report, validate_stream

USER = {"role": "user", "content": "a"}
ANSWER = {"role": "assistant", "content": "b"}
KINDS: tuple[Kind, ...] = ("chat", "completion", "preference")


def both_ways(line: bytes, kind: Kind) -> tuple[Report, Report]:
    """The report on a file of this line, with the glance and without."""
    quick = validate_stream([line], kind=kind, min_examples=1)
    with pytest.MonkeyPatch.context() as patch:

        def doubt(line: bytes, kind: Kind) -> bool:
            return False

        patch.setattr(validate, "certainly_good", doubt)
        return quick, validate_stream([line], kind=kind, min_examples=1)


contents = st.sampled_from(["a", "", " \n", "é\u2003", "\u2003", "\x1f", "\x00", "🐦", '"\\', None, 1, []]) | st.text(
    max_size=4
)
roles = st.sampled_from(["system", "user", "assistant", "developer", "tool", "function", "bot", None])
weights = st.sampled_from([0, 1, 2, -1, 1.0, 0.0, True, False, None, "1"])
messages = st.fixed_dictionaries(
    {"role": roles, "content": contents}, optional={"weight": weights, "name": contents, "refusal": st.none()}
)
conversations = st.lists(messages | st.just(USER) | st.just(ANSWER), max_size=4)
tools = {"tools": st.just([]), "parallel_tool_calls": st.booleans()}
rows = (
    st.fixed_dictionaries({"messages": conversations}, optional=tools)
    | st.fixed_dictionaries({"prompt": contents, "completion": contents}, optional={"weight": weights})
    | st.fixed_dictionaries(
        {
            "input": st.fixed_dictionaries({"messages": conversations}, optional=tools),
            "preferred_output": conversations,
            "non_preferred_output": conversations,
        },
    )
)


@settings(max_examples=400, deadline=None)
@given(row=rows, kind=st.sampled_from(KINDS), plain=st.booleans())
def test_the_verdict_on_a_row_is_that_of_the_full_inspection(row: Any, kind: Kind, plain: bool) -> None:
    quick, full = both_ways(json.dumps(row, ensure_ascii=not plain).encode("utf-8", "surrogatepass"), kind)
    assert quick == full


GOOD = json.dumps({"messages": [USER, ANSWER]}).encode()


@settings(max_examples=400, deadline=None)
@given(
    at=st.integers(0, len(GOOD)),
    cut=st.integers(0, 3),
    put=st.binary(max_size=3)
    | st.sampled_from([b"\\ud800", b"\\ud83d\\udc26", b"\\udc26\\ud83d", b"\\u0000", b"\xed\xa0\x80", b"\xef\xbb\xbf"])
    | st.sampled_from(
        [b"NaN", b",", b"\\/", b"\\x", b"\t", b"\r", b"\x0b", b'","content":"c', b'","role":"user', b"1e400"]
    ),
)
@example(at=len(GOOD), cut=0, put=b"\x00")
@example(at=len(GOOD) - 3, cut=0, put=b'","role":"user')
@example(at=len(GOOD) - 4, cut=0, put=b'","weight":-0,"content":"b')
@example(at=len(GOOD) - 1, cut=0, put=b',"messages":[]')
def test_the_verdict_on_damaged_bytes_is_that_of_the_full_inspection(at: int, cut: int, put: bytes) -> None:
    quick, full = both_ways(GOOD[:at] + put + GOOD[at + cut :], "chat")
    assert quick == full


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"messages": [{"role": "system", "content": "s"}, USER, ANSWER, USER, ANSWER]}, "chat"),
        ({"messages": [USER, {**ANSWER, "weight": 0}, USER, {**ANSWER, "weight": 1}]}, "chat"),
        ({"prompt": "", "completion": "b"}, "completion"),
        ({"input": {"messages": [USER]}, "preferred_output": [ANSWER], "non_preferred_output": [ANSWER]}, "preference"),
    ],
)
def test_common_rows_are_known_at_a_glance(row: Any, kind: Kind) -> None:
    line = json.dumps(row).encode()
    assert certainly_good(line, kind)
    assert not any(certainly_good(line, other) for other in KINDS if other != kind)


@pytest.mark.parametrize("kind", ["chat", "preference"])
def test_a_content_may_have_so_many_characters_and_no_more(kind: Kind) -> None:
    for length, text in (
        (MAX_CONTENT, None),
        (MAX_CONTENT + 1, "has 1048577 characters; at most 1048576 are allowed."),
    ):
        asked: list[dict[str, Any]] = [{"role": "user", "content": "é" * length}]
        row: dict[str, Any] = {"messages": [*asked, ANSWER]}
        if kind == "preference":
            row = {"input": {"messages": asked}, "preferred_output": [ANSWER], "non_preferred_output": [ANSWER]}
        quick, full = both_ways(json.dumps(row, ensure_ascii=False).encode(), kind)
        assert quick == full
        where = "messages[0].content" if kind == "chat" else "input.messages[0].content"
        assert [(p.field, p.message) for p in full.problems] == ([(where, text)] if text else [])
