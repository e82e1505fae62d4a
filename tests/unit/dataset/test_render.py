"""Token ids against transformers, and what a model folder says about its tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tailorbird.dataset.records import ChatExample, CompletionExample, Message
from tailorbird.dataset.render import Renderer, RenderError

NAMES = ["chatml", "thinking", "llama", "mistral", "gemma", "phi", "plain", "marked", "marked_text", "features"]
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

texts = st.text(alphabet=st.sampled_from("ab E1\n\t.:éこ🐦<|>[]'"), min_size=1, max_size=24) | st.sampled_from(
    ["how many restaurants ?", "<think>\nhm\n</think>\n\nyes", "  spaces  ", "\n\nnew lines\n\n", '{"a": [1]}']
)


def conversations(contents: st.SearchStrategy[str] = texts) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Optional system message, then user and assistant in turns, the assistant last."""

    def build(system: str | None, pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
        messages = [{"role": "system", "content": system}] if system else []
        for question, answer in pairs:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return messages

    return st.builds(build, st.none() | texts, st.lists(st.tuples(texts, contents), min_size=1, max_size=3))


def turn(role: str, content: str | None, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, deadline=None)
@given(messages=conversations(), prompt=st.booleans())
def test_token_ids_equal_those_of_transformers(
    pairs: Pairs, name: str, messages: list[dict[str, Any]], prompt: bool
) -> None:
    renderer, theirs = pairs(name)
    if prompt:
        messages = messages[:-1]
    expected = theirs.apply_chat_template(messages, tokenize=True, return_dict=False, add_generation_prompt=prompt)
    assert renderer.render_chat(messages, add_generation_prompt=prompt) == expected
    text = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
    assert renderer.render_text(messages, add_generation_prompt=prompt) == text


@pytest.mark.parametrize("name", ["chatml", "thinking", "llama", "mistral", "features"])
def test_tools_and_tool_calls_equal_those_of_transformers(pairs: Pairs, name: str) -> None:
    renderer, theirs = pairs(name)
    messages = [
        turn("system", "Be brief."),
        turn("user", "Weather?"),
        Message("assistant", None, tool_calls=(CALL,)).to_template(),
        turn("tool", '{"sky": "grey"}', tool_call_id="call_1"),
        turn("assistant", "Grey."),
        turn("user", "And now?"),
    ]
    for tools in (None, [], [WEATHER], [WEATHER] * 3):
        expected = theirs.apply_chat_template(
            messages, tools=tools, tokenize=True, return_dict=False, add_generation_prompt=True
        )
        assert renderer.render_chat(messages, tools=tools, add_generation_prompt=True) == expected


def test_template_variables_reach_the_template_as_in_transformers(
    pairs: Pairs,
) -> None:
    messages = [turn("user", "hi")]
    cases: list[tuple[str, dict[str, Any]]] = [
        ("thinking", {"enable_thinking": False}),
        ("features", {"documents": [{"title": "A", "text": "b"}]}),
        ("llama", {"bos_token": "<|end|>"}),
    ]
    for name, more in cases:
        renderer, theirs = pairs(name)
        expected = theirs.apply_chat_template(
            messages, tokenize=True, return_dict=False, add_generation_prompt=True, **more
        )
        assert renderer.render_chat(messages, add_generation_prompt=True, **more) == expected
        assert expected != renderer.render_chat(messages, add_generation_prompt=True)


def test_weaver_renders_as_in_transformers(weaver: Path) -> None:
    renderer, theirs = Renderer.from_folder(weaver), PreTrainedTokenizerFast.from_pretrained(weaver)
    messages = [
        turn("system", "Be brief."),
        turn("user", "Weather in Köln?"),
        Message("assistant", None, tool_calls=(CALL,)).to_template(),
        turn("tool", "grey", tool_call_id="call_1"),
        turn("assistant", "Grey 🐦."),
        turn("user", "Thanks"),
    ]
    for tools in (None, [WEATHER]):
        expected = theirs.apply_chat_template(
            messages, tools=tools, tokenize=True, return_dict=False, add_generation_prompt=True
        )
        assert renderer.render_chat(messages, tools=tools, add_generation_prompt=True) == expected
    assert renderer.renders_tools


@settings(max_examples=40, deadline=None)
@given(text=st.text(max_size=40))
def test_plain_encoding_and_decoding_equal_those_of_transformers(pairs: Pairs, text: str) -> None:
    renderer, theirs = pairs("chatml")
    assert renderer.encode(text) == theirs(text, add_special_tokens=False)["input_ids"]
    assert renderer.encode_completion_prompt(text) == theirs(text)["input_ids"]
    ids = renderer.encode_completion_prompt(text)
    assert renderer.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    joined = b"".join(renderer.token_bytes(token) for token in ids)
    assert joined == b"<s>" + text.encode()


def test_a_folder_without_template_takes_completions_and_refuses_chats(make_folder: Callable[..., Path]) -> None:
    renderer = Renderer.from_folder(make_folder(None))
    assert not renderer.chat
    with pytest.raises(RenderError, match="no chat template"):
        renderer.render_chat([turn("user", "a")], add_generation_prompt=True)
    with pytest.raises(RenderError, match="no chat template"):
        renderer.render_example(ChatExample((Message("user", "a"), Message("assistant", "b"))))


def test_an_empty_conversation_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(RenderError, match="no messages"):
        Renderer.from_folder(folders["chatml"]).render_chat([], add_generation_prompt=True)


@pytest.mark.parametrize("pieces", [False, True])
@settings(max_examples=25, deadline=None)
@given(prompt=texts | st.just(""), completion=texts)
def test_a_completion_is_learned_after_the_very_tokens_serving_sends(
    make_folder: Callable[..., Path], pieces: bool, prompt: str, completion: str
) -> None:
    renderer = COMPLETING.setdefault(pieces, Renderer.from_folder(make_folder(None, pieces=pieces)))
    rendered = renderer.render_example(CompletionExample(prompt, completion))
    given_ids = renderer.encode_completion_prompt(prompt)
    assert rendered.token_ids[: len(given_ids)] == given_ids
    assert rendered.weights == [0.0] * len(given_ids) + [1.0] * (len(rendered.token_ids) - len(given_ids))
    assert renderer.decode(rendered.token_ids[len(given_ids) :], skip_special_tokens=False) == completion + "</s>"


COMPLETING: dict[bool, Renderer] = {}


def test_the_end_of_turn_is_a_stop_token_even_when_the_config_forgets_it(
    folders: dict[str, Path], end_of_turn: dict[str, str]
) -> None:
    for name, token in end_of_turn.items():
        renderer = Renderer.from_folder(folders[name])
        assert set(renderer.stop_token_ids) == {*renderer.encode("</s>"), *renderer.encode(token)}
        assert list(renderer.eos_token_ids) == renderer.encode("</s>")


def test_generation_config_names_more_stop_tokens(make_folder: Callable[..., Path]) -> None:
    folder = make_folder("chatml")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 3]}), encoding="utf-8")
    assert Renderer.from_folder(folder).eos_token_ids == (1, 2, 3)


def test_the_hash_follows_the_template_and_its_special_tokens(make_folder: Callable[..., Path]) -> None:
    first = Renderer.from_folder(make_folder("chatml")).template_hash
    assert first == Renderer.from_folder(make_folder("chatml", pieces=True)).template_hash
    assert len(first) == 64
    changed = make_folder("chatml", eos_token="<|im_end|>")
    assert first != Renderer.from_folder(changed).template_hash
    assert first != Renderer.from_folder(make_folder("gemma")).template_hash
