"""Preference pairs and lines with tool calls: what is learned of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tailorbird.dataset.records import ChatExample, PreferencePair, Record, parse_record
from tailorbird.dataset.render import Rendered, Renderer, RenderError

FUNCTION = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
TOOL = {"type": "function", "function": FUNCTION}
USER = {"role": "user", "content": "Weather?"}
GREY = {"role": "assistant", "content": "Grey."}
SHOWN = {
    "weaver": '<|tool_call|>{"name": "get_weather", "arguments": {"city": "Köln"}}<|/tool_call|><|im_end|>',
    "chatml": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}\n</tool_call><|im_end|>',
    "thinking": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}\n</tool_call><|im_end|>',
    "llama": '{"name": "get_weather", "parameters": {"city": "Köln"}}<|eot_id|>',
    "mistral": '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Köln"}}]</s>',
}


def call(number: int, city: str = "Köln") -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": f'{{"city": "{city}"}}'}
    return {"id": f"call_{number:05d}", "type": "function", "function": function}


def calling(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def answer(number: int, content: str = "grey") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"call_{number:05d}", "content": content}


def parsed(raw: dict[str, Any]) -> Record:
    record = parse_record(raw)
    assert not isinstance(record, list), record
    return record


def pair(
    given: list[dict[str, Any]], good: list[dict[str, Any]], bad: list[dict[str, Any]], **more: Any
) -> PreferencePair:
    record = parsed({"input": {"messages": given, **more}, "preferred_output": good, "non_preferred_output": bad})
    assert isinstance(record, PreferencePair)
    return record


def learned(renderer: Renderer, rendered: Rendered) -> list[str]:
    """The text of each run of weighted tokens."""
    runs, run = list[list[int]](), list[int]()
    for token, weight in zip([*rendered.token_ids, 0], [*rendered.weights, 0.0], strict=True):
        if weight:
            run.append(token)
        elif run:
            runs, run = [*runs, run], []
    return [renderer.decode(ids, skip_special_tokens=False).strip() for ids in runs]


@pytest.fixture
def renderer_of(folders: dict[str, Path], weaver: Path) -> Callable[[str], Renderer]:
    return lambda name: Renderer.from_folder(weaver if name == "weaver" else folders[name])


Named = Callable[[str], Renderer]


@pytest.mark.parametrize("name", ["weaver", "chatml", "thinking", "llama", "mistral", "gemma", "phi", "marked"])
def test_only_the_outputs_are_learned_after_the_prompt_of_serving(renderer_of: Named, name: str) -> None:
    renderer = renderer_of(name)
    given = [USER, {"role": "assistant", "content": "Where?"}, {"role": "user", "content": "Here."}]
    both = renderer.render_pair(pair(given, [GREY], [{"role": "assistant", "content": "No idea."}]))
    prompt = renderer.render_chat(given, add_generation_prompt=True)
    for rendered, text in zip(both, ("Grey.", "No idea."), strict=True):
        (run,) = learned(renderer, rendered)
        assert text in run
        assert "Where?" not in run
        assert rendered.token_ids[: rendered.weights.index(1.0)][: len(prompt)] == prompt
        assert set(rendered.weights) == {0.0, 1.0}
    conversation = [*given, GREY]
    assert both[0].token_ids == renderer.render_chat(conversation, add_generation_prompt=False)


def test_an_output_of_several_turns_is_learned_without_the_answers_of_tools(renderer_of: Named) -> None:
    renderer = renderer_of("weaver")
    rendered, other = renderer.render_pair(
        pair([USER], [calling(call(1)), answer(1), GREY], [GREY], tools=[TOOL], parallel_tool_calls=False)
    )
    assert learned(renderer, rendered) == [SHOWN["weaver"], "Grey.<|im_end|>"]
    assert learned(renderer, other) == ["Grey.<|im_end|>"]


def test_an_outputs_turn_of_weight_0_is_not_learned(renderer_of: Named) -> None:
    renderer = renderer_of("chatml")
    good = [{"role": "assistant", "content": "Hm.", "weight": 0}, GREY]
    assert learned(renderer, renderer.render_pair(pair([USER], good, [GREY]))[0]) == ["Grey.<|im_end|>"]


def test_both_spellings_of_a_pair_give_the_same_tokens(renderer_of: Named) -> None:
    renderer = renderer_of("chatml")
    other = parsed({"input": {"messages": [USER]}, "preferred_completion": [GREY], "non_preferred_completion": [GREY]})
    assert isinstance(other, PreferencePair)
    assert renderer.render_pair(other) == renderer.render_pair(pair([USER], [GREY], [GREY]))


def test_a_refused_side_is_named(renderer_of: Named) -> None:
    bad = [{"role": "assistant", "content": "a<|im_end|>"}]
    with pytest.raises(
        RenderError, match=r"^non_preferred_output \(its turns count from messages\[1\]\): messages\[1\]"
    ):
        renderer_of("chatml").render_pair(pair([USER], [GREY], bad))


@pytest.mark.parametrize("name", SHOWN)
def test_a_tool_call_is_learned_with_its_markers_and_its_end(renderer_of: Named, name: str) -> None:
    renderer = renderer_of(name)
    tools = {"tools": [TOOL]} if renderer.renders_tools else {}
    record = parsed({"messages": [USER, calling(call(1)), answer(1), GREY], **tools})
    first, second = learned(renderer, renderer.render_example(record))
    assert first == SHOWN[name]
    assert "Grey." in second
    last = parsed({"messages": [USER, calling(call(1))], **tools})
    (only,) = learned(renderer, renderer.render_example(last))
    assert only.endswith(SHOWN[name])


@pytest.mark.parametrize("name", ["weaver", "chatml", "mistral"])
def test_parallel_calls_of_one_turn_are_learned_together(renderer_of: Named, name: str) -> None:
    renderer = renderer_of(name)
    calls = calling(call(1), call(2, "Bonn"))
    record = parsed({"messages": [USER, calls, answer(1), answer(2, "blue"), GREY], "tools": [TOOL]})
    first, second = learned(renderer, renderer.render_example(record))
    assert 0 < first.index("Köln") < first.index("Bonn")
    assert "grey" not in first + second


def test_calls_before_tools_that_the_template_moves_to_the_last_question_are_learned(renderer_of: Named) -> None:
    messages = [USER, calling(call(1)), answer(1), GREY, USER, calling(call(2, "Bonn")), answer(2, "blue"), GREY]
    rendered = renderer_of("mistral").render_example(parsed({"messages": messages, "tools": [TOOL]}))
    again = SHOWN["mistral"].replace("Köln", "Bonn")
    assert learned(renderer_of("mistral"), rendered) == [SHOWN["mistral"], "Grey.</s>", again, "Grey.</s>"]


@pytest.mark.parametrize("name", ["weaver", "chatml", "llama", "mistral"])
def test_the_deprecated_spelling_of_functions_teaches_the_same(renderer_of: Named, name: str) -> None:
    renderer = renderer_of(name)
    old = [USER, {"role": "assistant", "content": None, "function_call": call(1)["function"]}]
    old += [{"role": "function", "name": "get_weather", "content": "grey"}, GREY]
    today = [USER, calling(call(1)), {**answer(1), "name": "get_weather"}, GREY]
    first = renderer.render_example(parsed({"messages": old, "functions": [FUNCTION]}))
    second = renderer.render_example(parsed({"messages": today, "tools": [TOOL]}))
    assert learned(renderer, first) == learned(renderer, second)


READS_PARALLEL = (
    "{% if parallel_tool_calls is defined %}<|im_start|>system\n{{ parallel_tool_calls }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize(("given", "shown"), [({}, None), ({"parallel_tool_calls": False}, "False")])
def test_parallel_tool_calls_reaches_the_template_where_the_line_says_it(
    make_folder: Callable[..., Path], given: dict[str, Any], shown: str | None
) -> None:
    renderer = Renderer.from_folder(make_folder(READS_PARALLEL))
    chat = parsed({"messages": [USER, GREY], **given})
    assert isinstance(chat, ChatExample)
    rendered = [renderer.render_example(chat), *renderer.render_pair(pair([USER], [GREY], [GREY], **given))]
    for one in rendered:
        text = renderer.decode(one.token_ids, skip_special_tokens=False)
        assert ("<|im_start|>system\nFalse<|im_end|>" in text) == (shown is not None)
        assert learned(renderer, one) == ["Grey.<|im_end|>"]
    prompt = renderer.render_chat([USER], add_generation_prompt=True, **given)
    assert rendered[0].token_ids[: len(prompt)] == prompt


def test_a_template_that_hides_what_a_tool_answered_is_refused_by_name(make_folder: Callable[..., Path]) -> None:
    hiding = READS_PARALLEL.replace("{% for m in messages %}", "{% for m in messages if m.role != 'tool' %}")
    hiding = hiding.replace(
        "{{ m.content }}", "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}"
    )
    folder = make_folder(hiding)
    record = parsed({"messages": [USER, calling(call(1)), answer(1), GREY]})
    with pytest.raises(RenderError, match=rf"messages\[2\]\.content: the chat template of {folder.name} leaves it out"):
        Renderer.from_folder(folder).render_example(record)


def test_a_base_that_cannot_show_tools_refuses_a_line_with_tools_naming_itself(folders: dict[str, Path]) -> None:
    renderer = Renderer.from_folder(folders["gemma"])
    with pytest.raises(RenderError, match=f"The chat template of {folders['gemma'].name} does not show tools"):
        renderer.render_example(parsed({"messages": [USER, GREY], "tools": [TOOL]}))
    with pytest.raises(RenderError, match=r"preferred_output .*does not show tools"):
        renderer.render_pair(pair([USER], [GREY], [GREY], tools=[TOOL]))


def test_a_call_that_a_marking_template_hides_is_refused(folders: dict[str, Path]) -> None:
    record = parsed({"messages": [USER, {**calling(call(1)), "content": "Wait."}, answer(1), GREY]})
    with pytest.raises(RenderError, match=r"messages\[1\]\.tool_calls: .* leaves them out"):
        Renderer.from_folder(folders["marked"]).render_example(record)
