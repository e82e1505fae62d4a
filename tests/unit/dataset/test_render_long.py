"""Long conversations: found with few renderings, and found where the long way finds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird.dataset import render
from tailorbird.dataset.records import ChatExample, parse_record
from tailorbird.dataset.render import Rendered, Renderer, RenderError
from tailorbird.dataset.spans import Opening, content_places, mark
from tailorbird.dataset.template import ChatTemplate

NAMES = ["chatml", "thinking", "llama", "mistral", "gemma", "phi", "plain", "marked", "marked_text", "features"]
TOOL = {"type": "function", "function": {"name": "look", "description": "d", "parameters": {"type": "object"}}}
Pairs = Callable[[str], tuple[Renderer, Any]]

said = st.text(alphabet="ab E1\n.éこ🐦|[", min_size=1, max_size=12).filter(str.strip) | st.sampled_from(
    ["<think>\nhm\n</think>\n\nyes", " led by a space", "zqtailorbirdzq", '{"a": "b\\n"}', "assistant\n"]
)


@st.composite
def conversations(draw: st.DrawFn, *, calling: bool) -> dict[str, Any]:
    """Six to ten rounds; assistants that speak, speak twice, call tools or do both, some of weight 0."""
    messages: list[dict[str, Any]] = []
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(said)})
    for number in range(draw(st.integers(6, 10))):
        messages.append({"role": "user", "content": draw(said)})
        if calling and draw(st.booleans()):
            call = {"id": f"c{number}", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
            messages.append({"role": "assistant", "content": draw(st.none() | said), "tool_calls": [call]})
            messages.append({"role": "tool", "content": draw(st.just("") | said), "tool_call_id": f"c{number}"})
        weight = {} if draw(st.integers(0, 4)) else {"weight": 0}
        messages.append({"role": "assistant", "content": draw(said), **weight})
    messages[-1].pop("weight", None)
    return {"messages": messages, **({"tools": [TOOL]} if calling else {})}


def outcome(renderer: Renderer, raw: dict[str, Any]) -> Rendered | str:
    record = parse_record(raw)
    assert isinstance(record, ChatExample), record
    try:
        return renderer.render_example(record)
    except RenderError as error:
        return str(error)


def both_ways(renderer: Renderer, raw: dict[str, Any]) -> tuple[Rendered | str, Rendered | str]:
    short = outcome(renderer, raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "_FEW_TURNS", 10**6)
        return short, outcome(renderer, raw)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None)
@given(raw=conversations(calling=False))
def test_the_short_way_finds_what_the_long_way_finds(pairs: Pairs, name: str, raw: dict[str, Any]) -> None:
    short, long = both_ways(pairs(name)[0], raw)
    assert short == long


@pytest.mark.parametrize("name", ["chatml", "thinking", "llama", "mistral", "features"])
@settings(max_examples=12, deadline=None)
@given(raw=conversations(calling=True))
def test_the_short_way_finds_tool_calls_where_the_long_way_does(pairs: Pairs, name: str, raw: dict[str, Any]) -> None:
    short, long = both_ways(pairs(name)[0], raw)
    assert short == long


def chat_of(turns: int) -> dict[str, Any]:
    pair = [{"role": "user", "content": "How much?"}, {"role": "assistant", "content": "Very much."}]
    return {"messages": pair * turns}


def count_renderings(renderer: Renderer, raw: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> int:
    count = 0
    draw = ChatTemplate.render

    def counting(self: ChatTemplate, variables: Any) -> str:
        nonlocal count
        count += 1
        return draw(self, variables)

    with monkeypatch.context() as patch:
        patch.setattr(ChatTemplate, "render", counting)
        assert isinstance(outcome(renderer, raw), Rendered)
    return count


@pytest.mark.parametrize("name", ["chatml", "llama", "mistral", "gemma", "phi", "features"])
def test_a_longer_conversation_takes_no_more_renderings(
    folders: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer = Renderer.from_folder(folders[name])
    count_renderings(renderer, chat_of(1), monkeypatch)  # learns the ends of turns
    assert count_renderings(renderer, chat_of(40), monkeypatch) == count_renderings(renderer, chat_of(6), monkeypatch)


def test_every_answer_of_a_long_conversation_is_learned_on_weaver(weaver: Path) -> None:
    renderer = Renderer.from_folder(weaver)
    rendered = outcome(renderer, chat_of(100))
    assert isinstance(rendered, Rendered)
    starts = [i for i, w in enumerate(rendered.weights) if w and not rendered.weights[i - 1]]
    assert len(starts) == 100
    end = renderer.encode("<|im_end|>")[0]
    first = rendered.token_ids[starts[0] : rendered.token_ids.index(end, starts[0]) + 1]
    assert renderer.decode(first, skip_special_tokens=False) == "Very much.<|im_end|>"
    assert all(rendered.token_ids[start : start + len(first)] == first for start in starts)


def test_places_are_told_up_to_the_first_text_that_does_not_fit() -> None:
    trial = f"<{mark('w', 0)}>[{mark('w', 2)}]({mark('w', 4)})"
    contents = {0: " a ", 2: "b", 4: "c"}
    assert content_places("< a >[b](c)", trial, "w", contents) == {0: 1, 2: 6, 4: 9}
    assert content_places("<a>[b](c)", trial, "w", contents) == {0: 1, 2: 4, 4: 7}
    assert content_places("< a >[B](c)", trial, "w", contents) == {0: 1}
    assert content_places("< a >(b](c)", trial, "w", contents) == {}
    cut = f"<{mark('w', 0)}>["  # the template leaves the later ones out
    assert content_places("< a >[b](c)", cut, "w", contents) == {0: 1}
    twice = f"<{mark('w', 0)}>{mark('w', 0)}[{mark('w', 2)}]"
    assert content_places("< a > a [b]", twice, "w", contents) == {}


def test_a_header_that_fits_twice_tells_nothing() -> None:
    text = "?>>hi"
    assert Opening(">>", "").end_before(3, text) == 3
    assert Opening(">", "?").end_before(3, text) is None
    assert Opening("", "?>>").end_before(3, text) == 0
    assert Opening("", "?").end_before(3, text) is None
    assert Opening(">>", "").end_before(None, text) is None


def calls_of(turns: int) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    for number in range(turns):
        call = {"id": f"call_{number:05d}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        messages += [
            {"role": "user", "content": "How much?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": "seven"},
            {"role": "assistant", "content": "Seven."},
        ]
    return {"messages": messages, "tools": [TOOL]}


@pytest.mark.parametrize("name", ["chatml", "llama"])
def test_many_tool_calls_take_no_more_renderings(
    folders: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer = Renderer.from_folder(folders[name])
    count_renderings(renderer, calls_of(1), monkeypatch)
    assert count_renderings(renderer, calls_of(30), monkeypatch) == count_renderings(renderer, calls_of(5), monkeypatch)
