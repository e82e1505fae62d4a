"""The learned spans of assistant turns, against what the engine is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird.dataset.records import ChatExample, Message, PreferencePair, parse_record
from tailorbird.dataset.render import Rendered, Renderer, RenderError
from tailorbird.dataset.validate import load_records

TRIMMING = {"llama", "mistral", "gemma"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather <now> & 'here'",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Köln"}'}}
Pairs = Callable[[str], tuple[Renderer, Any]]


questions = st.text(alphabet="ab E1\n\t.:éこ🐦<|>[]'", min_size=1, max_size=24)


def conversations(answers: st.SearchStrategy[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """User and assistant in turns, the assistant last."""
    return st.lists(st.tuples(questions, answers), min_size=1, max_size=3).map(
        lambda turns: [message for ask, say in turns for message in (turn("user", ask), turn("assistant", say))]
    )


def turn(role: str, content: str | None, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def example(*messages: dict[str, Any], tools: list[dict[str, Any]] | None = None) -> ChatExample:
    record = parse_record({"messages": list(messages), **({"tools": tools} if tools else {})})
    assert isinstance(record, ChatExample), record
    return record


def example_of(messages: list[dict[str, Any]]) -> ChatExample:
    return ChatExample(tuple(Message(message["role"], message["content"]) for message in messages))


def learned(renderer: Renderer, rendered: Rendered) -> list[str]:
    """The text of each run of weighted tokens."""
    runs, run = list[list[int]](), list[int]()
    for token, weight in zip(rendered.token_ids, rendered.weights, strict=True):
        if weight:
            run.append(token)
        elif run:
            runs, run = [*runs, run], []
    return [renderer.decode(ids, skip_special_tokens=False) for ids in [*runs, *([run] if run else [])]]


@pytest.mark.parametrize("name", ["chatml", "llama", "gemma", "phi", "marked", "marked_text", "features"])
@settings(max_examples=20, deadline=None)
@given(messages=conversations(st.text(alphabet="ab E1\n.éこ🐦|[", min_size=1, max_size=20).filter(str.strip)))
def test_the_learned_tokens_are_each_answer_and_its_end_of_turn(
    pairs: Pairs,
    end_of_turn: dict[str, str],
    name: str,
    messages: list[dict[str, Any]],
) -> None:
    renderer, _ = pairs(name)
    rendered = renderer.render_example(example_of(messages))
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    runs = learned(renderer, rendered)
    assert len(runs) == len(answers)
    for run, answer in zip(runs, answers, strict=True):
        wanted = (answer.strip() if name in TRIMMING else answer) + end_of_turn[name]
        # Whitespace at the beginning may belong to the header's last token.
        assert wanted.endswith(run)
        assert not wanted.removesuffix(run).strip()
    assert rendered.token_ids == renderer.render_chat(messages, add_generation_prompt=False)


@pytest.mark.parametrize("name", ["chatml", "llama", "gemma", "phi", "mistral", "marked"])
def test_the_prompt_of_serving_is_the_beginning_of_what_was_learned(pairs: Pairs, name: str) -> None:
    renderer, _ = pairs(name)
    messages = [turn("user", "one ?"), turn("assistant", "SELECT 1"), turn("user", "two"), turn("assistant", "three")]
    rendered = renderer.render_example(example(*messages))
    first = rendered.weights.index(1.0)
    assert rendered.token_ids[:first] == renderer.render_chat(messages[:1], add_generation_prompt=True)
    last_zero = max(i for i, w in enumerate(rendered.weights) if not w and 1.0 in rendered.weights[i:])
    assert rendered.token_ids[: last_zero + 1] == renderer.render_chat(messages[:3], add_generation_prompt=True)


def test_an_answer_of_weight_0_is_not_learned(folders: dict[str, Path]) -> None:
    for name in ("chatml", "marked"):
        renderer = Renderer.from_folder(folders[name])
        rendered = renderer.render_example(
            example(turn("user", "a"), turn("assistant", "no", weight=0), turn("user", "b"), turn("assistant", "yes"))
        )
        assert learned(renderer, rendered) == ["yes<|im_end|>"]


def test_an_example_with_nothing_to_learn_is_refused(folders: dict[str, Path]) -> None:
    silent = ChatExample((Message("user", "a"), Message("assistant", "b", weight=0)))
    with pytest.raises(RenderError, match="nothing to learn"):
        Renderer.from_folder(folders["chatml"]).render_example(silent)


@settings(max_examples=20, deadline=None)
@given(messages=conversations(st.text(alphabet="ab E1.éこ", min_size=1, max_size=20).filter(lambda s: s[0] != " ")))
def test_the_mask_equals_that_of_transformers_where_the_template_marks_turns(
    pairs: Pairs, messages: list[dict[str, Any]]
) -> None:
    renderer, theirs = pairs("marked")
    expected = theirs.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    rendered = renderer.render_example(example_of(messages))
    assert rendered.token_ids == expected["input_ids"]
    assert rendered.weights == expected["assistant_masks"]


@settings(max_examples=20, deadline=None)
@given(messages=conversations(st.text(alphabet="abE1.", min_size=1, max_size=20)))
def test_a_marked_turn_is_learned_with_its_end_even_when_the_mark_stops_before_it(
    pairs: Pairs, messages: list[dict[str, Any]]
) -> None:
    # ASCII only: transformers forgets the last bytes of an answer that ends in the middle of a split character.
    renderer, theirs = pairs("marked_text")
    expected = theirs.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    end, ids, mask = renderer.encode("<|im_end|>")[0], expected["input_ids"], expected["assistant_masks"]
    wanted = [int(bool(m or (i and ids[i] == end and mask[i - 1]))) for i, m in enumerate(mask)]
    assert renderer.render_example(example_of(messages)).weights == wanted


def test_marks_in_macros_and_filters_are_ignored_where_their_place_is_lost(
    make_folder: Callable[..., Path],
) -> None:
    source = (
        "{% macro say(m) %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% endmacro %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' %}{{ say(m)FILTER }}{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    conversation = example(turn("user", "a"), turn("assistant", "b"), turn("user", "c"), turn("assistant", "d"))
    for filtering in ("", " | replace('zz', 'y')", " | list | join"):
        renderer = Renderer.from_folder(make_folder(source.replace("FILTER", filtering)))
        assert learned(renderer, renderer.render_example(conversation)) == ["b<|im_end|>", "d<|im_end|>"]
    lost = " | length if false else (m.content ~ '<|im_end|>')"
    renderer = Renderer.from_folder(make_folder(source.replace("FILTER", lost)))
    assert learned(renderer, renderer.render_example(conversation)) == ["b<|im_end|>", "d<|im_end|>"]


THOUGHT = "<think>\nhm\n</think>\n\n"


@pytest.mark.parametrize("pieces", [False, True])
def test_a_template_that_forgets_earlier_thinking_learns_what_is_left(
    make_folder: Callable[..., Path], pieces: bool
) -> None:
    renderer = Renderer.from_folder(make_folder("thinking", pieces=pieces))
    rendered = renderer.render_example(
        example(
            turn("user", "one"),
            turn("assistant", f"{THOUGHT}first", tool_calls=[CALL]),
            turn("tool", "grey", tool_call_id="call_1"),
            turn("assistant", f"{THOUGHT}second"),
            turn("user", "two"),
            turn("assistant", f"{THOUGHT}third"),
            tools=None,
        )
    )
    call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}\n</tool_call>'
    assert learned(renderer, rendered) == [
        f"first\n{call}<|im_end|>",
        "second<|im_end|>",
        f"{THOUGHT}third<|im_end|>",
    ]


@pytest.mark.parametrize("pieces", [False, True])
def test_a_template_that_moves_tools_to_the_last_user_turn_masks_every_turn(
    make_folder: Callable[..., Path], pieces: bool
) -> None:
    renderer = Renderer.from_folder(make_folder("mistral", pieces=pieces))
    rendered = renderer.render_example(
        example(
            turn("system", "Be brief."),
            turn("user", "Hello"),
            turn("assistant", "Hi there"),
            turn("user", "Weather?"),
            turn("assistant", None, tool_calls=[CALL]),
            turn("tool", "grey", tool_call_id="call_1"),
            turn("assistant", "Grey."),
            tools=[WEATHER],
        )
    )
    call = '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Köln"}}]</s>'
    assert [run.lstrip(" ") for run in learned(renderer, rendered)] == ["Hi there</s>", call, "Grey.</s>"]


def test_tool_calls_are_learned_with_their_end_of_turn(folders: dict[str, Path]) -> None:
    conversation = [
        turn("user", "Weather?"),
        turn("assistant", None, tool_calls=[CALL]),
        turn("tool", "grey", tool_call_id="call_1"),
        turn("assistant", "Grey."),
    ]
    expected = {
        "chatml": '\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Köln"}}\n</tool_call><|im_end|>',
        "llama": '{"name": "get_weather", "parameters": {"city": "Köln"}}<|eot_id|>',
    }
    for name, text in expected.items():
        renderer = Renderer.from_folder(folders[name])
        first, second = learned(renderer, renderer.render_example(example(*conversation, tools=[WEATHER])))
        assert text.endswith(first)
        assert text.removesuffix(first).strip() == ""
        assert second.startswith("Grey.<|")


TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
OPENING = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (TURNS, "add_generation_prompt"),
        (PLAIN + "{% if add_generation_prompt %}assistant:{% endif %}", "no end-of-turn token"),
        (PLAIN + "{{ 'assistant:' if add_generation_prompt else eos_token }}", "no end-of-turn token"),
        (TURNS.replace("{{ m.content }}<|im_end|>", "{{ m.content if m.role == 'user' else 'words' }}</s>") + OPENING,
         "leaves it out"),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}assistant: "
         "{% endif %}", "joins the end"),
        (TURNS.replace("{{ m.content }}", "{{ loop.length }}{{ m.content | replace('e', 'E') }}")
         + "{% if add_generation_prompt %}<|im_start|>{{ messages | length }}assistant\n{% endif %}", "rewrites"),
        ("{{ raise_exception('never') }}", "never"),
        ("{{ messages[0].role + 1 }}", "refuses"),
        ("{{ ''.__class__.__mro__ }}{{ messages.append(1) }}", "refuses"),
    ],
    ids=["no header", "no end", "end only once", "content dropped", "header ends in a space", "counts", "raises",
         "type", "sandbox"],
)  # fmt: skip
def test_a_template_that_cannot_be_masked_is_refused_with_the_reason(
    make_folder: Callable[..., Path], source: str, reason: str
) -> None:
    renderer = Renderer.from_folder(make_folder(source))
    conversation = example(turn("user", "he ?"), turn("assistant", "the"), turn("user", "e"), turn("assistant", "the"))
    with pytest.raises(RenderError, match=reason):
        renderer.render_example(conversation)


def test_an_end_of_turn_token_typed_into_an_answer_is_refused(folders: dict[str, Path]) -> None:
    renderer = Renderer.from_folder(folders["chatml"])
    with pytest.raises(RenderError, match=r"messages\[1\].*<\|im_end\|>"):
        renderer.render_example(example(turn("user", "a"), turn("assistant", "b<|im_end|>")))


def test_a_tool_call_without_end_of_turn_is_refused_and_not_learned_into_the_next_turn(
    make_folder: Callable[..., Path],
) -> None:
    ending = "{% for c in m.tool_calls or [] %}{{ c.function.name }}{% else %}<|im_end|>{% endfor %}"
    renderer = Renderer.from_folder(make_folder(TURNS.replace("<|im_end|>", ending) + OPENING))
    called, answered = turn("assistant", None, tool_calls=[CALL]), turn("tool", "grey", tool_call_id="call_1")
    with pytest.raises(RenderError, match=r"messages\[1\].*no end-of-turn token"):
        renderer.render_example(example(turn("user", "a"), called, answered, turn("assistant", "b")))


def test_a_text_that_holds_the_renderers_own_trial_word_is_masked_right(make_folder: Callable[..., Path]) -> None:
    renderer = Renderer.from_folder(make_folder("mistral"))
    word = "zqtailorbirdzq"
    conversation = [turn("user", word), turn("assistant", f"{word}q"), turn("user", "b"), turn("assistant", word)]
    rendered = renderer.render_example(example(turn("system", "s"), *conversation, tools=[WEATHER]))
    assert learned(renderer, rendered) == [f" {word}q</s>", f" {word}</s>"]


def test_tools_that_the_template_would_not_show_are_refused(folders: dict[str, Path]) -> None:
    renderer = Renderer.from_folder(folders["gemma"])
    assert not renderer.renders_tools
    with pytest.raises(RenderError, match="does not show tools"):
        renderer.render_example(example(turn("user", "a"), turn("assistant", "b"), tools=[WEATHER]))
    calling = example(turn("user", "a"), turn("assistant", "b", tool_calls=[CALL]))
    with pytest.raises(RenderError, match="leaves them out"):
        renderer.render_example(calling)


def test_a_preference_pair_is_refused_as_one_conversation(folders: dict[str, Path]) -> None:
    say = (Message("assistant", "a"),)
    with pytest.raises(RenderError, match="two conversations"):
        Renderer.from_folder(folders["chatml"]).render_example(PreferencePair((), None, say, say))


def test_weaver_learns_tool_calls_and_answers(weaver: Path) -> None:
    renderer = Renderer.from_folder(weaver)
    conversation = [
        turn("user", "Weather in Köln?"),
        turn("assistant", None, tool_calls=[CALL]),
        turn("tool", "grey", tool_call_id="call_1"),
        turn("assistant", "Grey 🐦."),
    ]
    first, second = learned(renderer, renderer.render_example(example(*conversation, tools=[WEATHER])))
    assert "get_weather" in first
    assert first.endswith("<|im_end|>")
    assert second == "Grey 🐦.<|im_end|>"


def test_every_row_of_the_shared_files_renders_on_weaver(weaver: Path) -> None:
    data = Path(__file__).parents[4] / "shared" / "data" / "restaurants.test.jsonl"
    if not data.is_file():
        pytest.skip("no ../shared beside the repository")
    renderer = Renderer.from_folder(weaver)
    for _, record in load_records(data):
        assert isinstance(record, ChatExample)
        (answer,) = learned(renderer, renderer.render_example(record))
        assert answer.startswith(record.messages[-1].content or "?")
