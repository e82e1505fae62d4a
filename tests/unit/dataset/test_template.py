"""Where templates are found, their clock, their sandbox."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tailorbird.dataset.render import Renderer, RenderError

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather <now> & 'here'",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def turn(role: str, content: str | None, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def test_a_faulty_template_is_refused_when_the_folder_is_read(make_folder: Callable[..., Path]) -> None:
    with pytest.raises(RenderError, match="faulty"):
        Renderer.from_folder(make_folder("{% for m in messages %}"))


def test_the_date_of_a_template_comes_from_the_given_clock(make_folder: Callable[..., Path]) -> None:
    source = "{{ strftime_now('%d %b %Y') }}: {{ messages[0].content }}"
    renderer = Renderer.from_folder(make_folder(source), now=lambda: datetime(2024, 7, 26))
    assert renderer.render_text([turn("user", "hi")]) == "26 Jul 2024: hi"


@pytest.mark.parametrize("where", ["config", "list", "folder"])
def test_templates_are_found_where_transformers_finds_them(make_folder: Callable[..., Path], where: str) -> None:
    default, tools = "D{{ messages[0].content }}", "T{{ tools | length }}"
    if where == "config":
        folder = make_folder(None, chat_template=default)
    elif where == "list":
        named = [{"name": "default", "template": default}, {"name": "tool_use", "template": tools}]
        folder = make_folder(None, chat_template=named)
    else:
        folder = make_folder(default, chat_template="never")
        (folder / "additional_chat_templates").mkdir()
        (folder / "additional_chat_templates" / "tool_use.jinja").write_text(tools, encoding="utf-8")
    renderer, theirs = Renderer.from_folder(folder), PreTrainedTokenizerFast.from_pretrained(folder)
    for given_tools in (None, [WEATHER]):
        expected = theirs.apply_chat_template([turn("user", "hi")], tools=given_tools, tokenize=False)
        assert renderer.render_text([turn("user", "hi")], tools=given_tools) == expected
        assert expected == ("T1" if given_tools and where != "config" else "Dhi")


def test_several_templates_without_a_default_are_refused(make_folder: Callable[..., Path]) -> None:
    folder = make_folder(None, chat_template=[{"name": "rag", "template": "x"}])
    with pytest.raises(RenderError, match="default"):
        Renderer.from_folder(folder).render_text([turn("user", "hi")])
