"""A chat template in a sandbox, with the filters and tags that transformers gives templates

Source: Hugging Face's guide to writing chat templates, and what `apply_chat_template` of transformers 5 puts in reach:
`tojson` that leaves HTML characters alone, `raise_exception`, `strftime_now`, loop controls, `{% generation %}`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

Clock = Callable[[], datetime]


class RenderError(ValueError):
    """A record cannot be turned into tokens; the text gives the reason and, where there is one, the remedy."""


class ChatTemplate:
    """One compiled template. Safe to use from several threads at once."""

    def __init__(self, source: str, now: Clock) -> None:
        """Raises RenderError when `source` is no template. `now` is what `strftime_now` shows."""
        self.source = source
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        reachable = cast(dict[str, object], environment.globals)
        reachable["raise_exception"] = _refuse
        reachable["strftime_now"] = partial(_format_time, now)
        try:
            self._compiled = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise RenderError(f"The chat template is faulty: {error}") from error
        generation = environment.extensions[_Generation.identifier]
        self.has_generation_blocks = isinstance(generation, _Generation) and generation.seen

    def render(self, variables: Mapping[str, Any]) -> str:
        """Raises RenderError with the template's own words when it refuses the conversation."""
        try:
            return self._compiled.render(variables)
        except (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise RenderError(f"The chat template refuses this conversation: {error}") from error
        except RecursionError as error:
            raise RenderError("The chat template refuses this conversation: nested too deeply") from error

    def generation_spans(self, variables: Mapping[str, Any], text: str) -> list[tuple[int, int]] | None:
        """Character spans in `text` that the template's `{% generation %}` blocks wrote, in order.

        None when the blocks' output is worked on afterwards, so that their place in `text` cannot be told.
        """
        mark = _GENERATION_MARK
        while mark in text:
            mark += _GENERATION_MARK
        pieces = self.render({**variables, _MARK_VARIABLE: mark}).split(mark)
        if "".join(pieces) != text or len(pieces) % 2 == 0:
            return None
        spans, at = list[tuple[int, int]](), 0
        for index, piece in enumerate(pieces):
            if index % 2:
                spans.append((at, at + len(piece)))
            at += len(piece)
        return spans


def read_templates(folder: Path, config: Mapping[str, Any], now: Clock) -> dict[str, ChatTemplate]:
    """The templates of a model folder by name: `default`, and `tool_use` or others where a model has several.

    As in transformers, `chat_template.jinja` and `additional_chat_templates/*.jinja` win over tokenizer_config.json.
    """
    sources: dict[str, str] = {}
    main = folder / "chat_template.jinja"
    if main.is_file():
        sources["default"] = main.read_text(encoding="utf-8")
    for extra in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        sources[extra.stem] = extra.read_text(encoding="utf-8")
    configured = config.get("chat_template")
    if not sources and isinstance(configured, str):
        sources["default"] = configured
    elif not sources and isinstance(configured, list):
        named = cast(Sequence[Mapping[str, str]], configured)
        sources = {entry["name"]: entry["template"] for entry in named}
    elif not sources and isinstance(configured, dict):
        sources = dict(cast(Mapping[str, str], configured))
    return {name: ChatTemplate(source, now) for name, source in sources.items()}


_GENERATION_MARK = "\ufdd0"
"""A code point Unicode keeps free for a program's own use (a noncharacter)."""
_MARK_VARIABLE = "tailorbird_generation_mark"


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}`: around what the model writes. Prints its body, marked on request."""

    def __init__(self, environment: jinja2.Environment) -> None:
        super().__init__(environment)
        self.tags = {"generation"}
        self.seen = False

    def parse(self, parser: Parser) -> nodes.Node:
        self.seen = True
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_print", [nodes.ContextReference()])
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _print(self, context: Context, caller: Callable[[], str]) -> str:
        mark = context.get(_MARK_VARIABLE)
        return f"{mark}{caller()}{mark}" if mark else caller()


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _format_time(now: Clock, pattern: str) -> str:
    return now().strftime(pattern)
