from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llguidance
import pytest

from tailorbird.dataset.calls import CallFormat, learn_calls
from tailorbird.dataset.render import Renderer, RenderError

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "weather", "parameters": CITY}},
    {"type": "function", "function": {"name": "now"}},
]
CALLING = ["chatml", "llama", "mistral"]
WEAVER = Path(__file__).parents[3] / "src" / "tailorbird" / "weaver"

Family = Callable[[str], tuple[Renderer, Path]]


@pytest.fixture
def family(folders: dict[str, Path]) -> Family:
    """A family's renderer and folder; weaver is one of them."""

    def make(name: str) -> tuple[Renderer, Path]:
        folder = WEAVER if name == "weaver" else folders[name]
        return Renderer.from_folder(folder), folder

    return make


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"id": "abcdefgh9", "type": "function", "function": {"name": name, "arguments": arguments}}


def turn(renderer: Renderer, *calls: dict[str, Any]) -> list[int]:
    """What the template says an assistant that makes these calls has written."""
    asked = [{"role": "user", "content": "hi"}]
    said = [*asked, {"role": "assistant", "content": "", "tool_calls": list(calls)}]
    prompt = renderer.render_chat(asked, tools=TOOLS, add_generation_prompt=True)
    return renderer.render_chat(said, tools=TOOLS, add_generation_prompt=False)[len(prompt) :]


def follow(folder: Path, grammar: str, ids: list[int]) -> tuple[int, bool]:
    """How many of the tokens the grammar lets through, and whether it could end there."""
    tokenizer = llguidance.LLTokenizer((folder / "tokenizer.json").read_text())
    matcher = llguidance.LLMatcher(tokenizer, grammar)
    assert not matcher.is_error(), matcher.get_error()
    taken = matcher.try_consume_tokens(ids)
    return taken, matcher.is_accepting()


def test_weaver_s_format_is_learned_with_its_special_tokens(family: Family) -> None:
    form = learn_calls(family("weaver")[0])
    assert form == CallFormat(
        begin='<|tool_call|>{"name": "',
        middle='", "arguments": ',
        between='}<|/tool_call|><|tool_call|>{"name": "',
        end="}<|/tool_call|>",
        opening="<|tool_call|>",
        tokens={"<|tool_call|>": 3, "<|/tool_call|>": 4},
        hidden=frozenset({3, 4}),
        key_separator=": ",
        item_separator=", ",
    )


@pytest.mark.parametrize(
    ("name", "opening", "middle", "several"),
    [
        ("chatml", "<tool_call>", '", "arguments": ', True),
        ("llama", "", '", "parameters": ', False),
        ("mistral", "[TOOL_CALLS]", '", "arguments": ', True),
    ],
)
def test_other_families_formats_are_learned(
    family: Family, name: str, opening: str, middle: str, several: bool
) -> None:
    form = learn_calls(family(name)[0])
    assert (form.opening, form.middle, form.between is not None) == (opening, middle, several)


def test_a_template_that_shows_no_tools_is_refused_with_the_reason(family: Family) -> None:
    with pytest.raises(RenderError, match="does not show tools"):
        learn_calls(family("phi")[0])


@pytest.mark.parametrize("name", ["weaver", *CALLING])
@pytest.mark.parametrize("optional", [False, True])
def test_what_the_template_writes_is_what_the_grammar_allows(family: Family, name: str, optional: bool) -> None:
    renderer, folder = family(name)
    form = learn_calls(renderer)
    grammar = form.grammar(TOOLS, many=True, otherwise="" if optional else None)
    ids = turn(renderer, call("weather", city='Par"is'))
    taken, done = follow(folder, grammar, ids)
    assert renderer.decode(ids[:taken], skip_special_tokens=False).endswith(form.end.strip())
    assert done
    if form.between is not None:
        both = turn(renderer, call("now"), call("weather", city="Rome"))
        taken, done = follow(folder, grammar, both)
        assert "Rome" in renderer.decode(both[:taken])
        assert done


@pytest.mark.parametrize("name", ["weaver", *CALLING])
def test_arguments_that_break_the_schema_and_unknown_tools_are_not_allowed(family: Family, name: str) -> None:
    renderer, folder = family(name)
    grammar = learn_calls(renderer).grammar(TOOLS, many=True, otherwise=None)
    for wrong in (call("weather", town="Paris"), call("weather"), call("now", city="x"), call("later")):
        taken, done = follow(folder, grammar, turn(renderer, wrong))
        assert not done
        assert taken < len(turn(renderer, wrong)) - 1


def test_one_call_is_one_call(family: Family) -> None:
    renderer, folder = family("weaver")
    grammar = learn_calls(renderer).grammar(TOOLS, many=False, otherwise=None)
    taken, done = follow(folder, grammar, turn(renderer, call("now"), call("now")))
    assert done
    assert taken == len(turn(renderer, call("now"))) - 2, "the end of the turn is the engine's"


@pytest.mark.parametrize("name", ["weaver", "chatml"])
def test_an_optional_call_leaves_text_free_and_an_answer_to_its_schema(family: Family, name: str) -> None:
    renderer, folder = family(name)
    form = learn_calls(renderer)
    text = renderer.encode('Well, {"a": 1} < and so on')
    assert follow(folder, form.grammar(TOOLS, many=True, otherwise=""), text) == (len(text), True)
    schema = json.dumps({"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False})
    grammar = form.grammar(TOOLS, many=True, otherwise=schema)
    assert follow(folder, grammar, text)[0] == 0
    answer = renderer.encode('{"a": 1}')
    assert follow(folder, grammar, answer) == (len(answer), True)
