"""How a model writes tool calls: learned from its chat template, as a grammar that forces them and as what to look for

A trial conversation in which the assistant calls two made-up tools is rendered, and what stands before, between and
after their names and arguments is the format:

    begin                        middle            args                between
    <tool_call>\\n{"name": "     first", "arguments": {"a": 1, "b": 2}  }\\n</tool_call>\\n<tool_call>\\n{"name": "  ...

Everything that writes arguments as one JSON object can be learned: `<tool_call>{...}</tool_call>`,
`[TOOL_CALLS] [{...}]`, a bare `{"name": ..., "parameters": ...}`, `<function=name>{...}</function>`. Other forms are
refused with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tailorbird.dataset.render import Renderer, RenderError

Tools = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`arguments` is the text of a JSON object."""

    name: str
    arguments: str


@dataclass(frozen=True)
class CallFormat:
    """`between` is None for templates that show one call a turn. `opening` is the marker all calls begin with, empty
    where the JSON stands bare. `tokens` are the texts in the format that are one token each, whatever else could spell
    them; an engine's own text leaves the `hidden` ones of them out."""

    begin: str
    middle: str
    between: str | None
    end: str
    opening: str
    tokens: Mapping[str, int]
    hidden: frozenset[int]
    key_separator: str
    item_separator: str

    @property
    def head(self) -> re.Pattern[str]:
        """A call up to its arguments, from `opening` on; the group is the tool's name."""
        return _named(_flexible(self._opened(self.begin)), self.middle)

    @property
    def next_head(self) -> re.Pattern[str] | None:
        """From the end of one call's arguments to the begin of the next one's."""
        return None if self.between is None else _named(_flexible(self.between), self.middle)

    @property
    def tail(self) -> re.Pattern[str]:
        """What follows the last call's arguments."""
        return re.compile(_flexible(self.end))

    def grammar(self, tools: Tools, *, many: bool, otherwise: str | None) -> str:
        """A grammar in llguidance's Lark: calls of these tools with arguments by their schemas, and nothing else.

        `otherwise` allows an answer without calls: "" is any text, perhaps before a call; anything else is the JSON
        schema of the answer. `many` allows several calls, where the template can show them.
        """
        several = many and self.between is not None
        names = " | ".join(f"tool_{number}" for number in range(len(tools)))
        rules = [
            "%llguidance {}",
            self._start(otherwise),
            "calls: named"
            + (f" ({self._lark(self.between or '')} named)*" if several else "")
            + f" {self._lark(self.end)}",
            f"named: {names}",
        ]
        for number, tool in enumerate(tools):
            function: Mapping[str, Any] = tool["function"]
            rules.append(f"tool_{number}: {self._lark(function['name'] + self.middle)} args_{number}")
            rules.append(f"args_{number}: %json {json.dumps(self._schema(function))}")
        return "\n".join(rules) + "\n"

    def _start(self, otherwise: str | None) -> str:
        begin = self._lark(self._opened(self.begin))
        if otherwise is None:
            # The first whitespace may be one token with the end of the prompt.
            bare = self.begin.lstrip()
            lead = self.begin[: len(self.begin) - len(bare)]
            return f"start: {f'{json.dumps(lead)}? ' if lead else ''}{self._lark(bare)} calls"
        if otherwise:
            return f"start: {begin} calls | answer\nanswer: %json {otherwise}"
        marker = self._pieces(self.opening)[:1]
        if not marker:
            return f"start: TEXT | {begin} calls\nTEXT: /([^{{\\[\\s](.|\\n)*)?/"
        if marker[0] in self.tokens:
            return f"start: TEXT | TEXT {begin} calls\nTEXT: /(.|\\n)*/"
        # A marker that is no token of its own could be text as well: the lexer takes the first it meets.
        rest = self._lark(self._opened(self.begin)[len(marker[0]) :])
        return f"start: TEXT | opened {rest} calls\nopened[lazy]: TEXT {json.dumps(marker[0])}\nTEXT: /(.|\\n)*/"

    def _schema(self, function: Mapping[str, Any]) -> dict[str, Any]:
        # A function without parameters takes none. Spaces stand where the template puts them: a small model that may
        # write any number of them sometimes never stops.
        given: Mapping[str, Any] = function.get("parameters") or {"properties": {}, "additionalProperties": False}
        spacing = {
            "whitespace_flexible": False,
            "key_separator": self.key_separator,
            "item_separator": self.item_separator,
        }
        return {"x-guidance": spacing, "type": "object", **given}

    def _opened(self, text: str) -> str:
        """`text` from its last `opening` on: a template may put an empty thinking block before the first call."""
        return text[text.rfind(self.opening) :] if self.opening else text.lstrip()

    def _pieces(self, text: str) -> list[str]:
        wanted = "|".join(re.escape(token) for token in sorted(self.tokens, key=len, reverse=True))
        return [piece for piece in re.split(f"({wanted})", text) if piece] if wanted else [text] if text else []

    def _lark(self, text: str) -> str:
        parts: list[str] = []
        for piece in self._pieces(text):
            if piece in self.tokens:
                parts.append(f"<[{self.tokens[piece]}]>")
                continue
            for part in re.split(f"({_CALL_ID})", piece):
                if part:
                    parts.append("/[A-Za-z0-9]{9}/" if part == _CALL_ID else json.dumps(part, ensure_ascii=False))
        return " ".join(parts)


def learn_calls(renderer: Renderer) -> CallFormat:
    """Raises RenderError with the reason when the template shows no calls, or not in a form that can be told."""
    if not renderer.renders_tools:
        raise RenderError("the model's chat template does not show tools")
    for opening in ([], [{"role": "system", "content": "s"}]):
        try:
            return _Trial(renderer, [*opening, {"role": "user", "content": "hi"}]).format()
        except RenderError as error:
            reason = error
    raise reason


_FIRST, _SECOND = "zqtailorbirdcallzqa", "zqtailorbirdcallzqb"
_WORD: Final = "zqtailorbirdzq"
_CALL_ID: Final = "zqCall000"
"""Nine letters and digits: some templates take no other id. In a format it stands for any such id."""
_ARGUMENTS: Final = {"zqa": 1, "zqb": 2}
_SHOWN_ARGUMENTS: Final = re.compile(r'\{\s*"zqa"(?P<key>\s*:\s*)1(?P<item>\s*,\s*)"zqb"\s*:\s*2\s*\}')
_JSON_HEAD: Final = re.compile(r'\s*(?:\[\s*)?\{[^{}\[\]]*"\s*$')
_NAME: Final = "[A-Za-z0-9_-]{1,64}"


class _Trial:
    """Renders made-up calls after `before` and looks at what stands around them."""

    def __init__(self, renderer: Renderer, before: list[dict[str, Any]]) -> None:
        self._renderer = renderer
        self._before = before
        schema: dict[str, Any] = {"type": "object", "properties": {}}
        function = {"name": _WORD, "description": _WORD, "parameters": schema}
        self._tools = [{"type": "function", "function": function}]

    def format(self) -> CallFormat:
        one = self._turn(_FIRST)
        name, arguments = self._place(one, _FIRST, 0)
        begin = one[self._start(one) : name]
        end = self._without_turn_end(one[arguments.end() :])
        between = self._between()
        opening = _opening(begin, between)
        shared = f"{begin}{between or ''}{end}"
        tokens = {text: token for token, text in self._renderer.added_tokens.items() if text in shared}
        plain = "\n" not in arguments["key"] + arguments["item"]
        return CallFormat(
            begin=begin,
            middle=one[name + len(_FIRST) : arguments.start()],
            between=between,
            end=end,
            opening=opening,
            tokens=tokens,
            hidden=frozenset(token for token in tokens.values() if not self._renderer.decode([token])),
            key_separator=arguments["key"] if plain else ": ",
            item_separator=arguments["item"] if plain else ", ",
        )

    def _turn(self, *names: str) -> str:
        calls = [
            {"id": _CALL_ID, "type": "function", "function": {"name": name, "arguments": _ARGUMENTS}} for name in names
        ]
        turn = {"role": "assistant", "content": "", "tool_calls": calls}
        return self._renderer.render_text([*self._before, turn], tools=self._tools)

    def _between(self) -> str | None:
        try:
            two = self._turn(_FIRST, _SECOND)
            _, arguments = self._place(two, _FIRST, 0)
            second, _ = self._place(two, _SECOND, arguments.end())
        except RenderError:
            return None
        return two[arguments.end() : second]

    def _place(self, text: str, name: str, start: int) -> tuple[int, re.Match[str]]:
        at = text.find(name, start)
        found = None if at < 0 else _SHOWN_ARGUMENTS.search(text, at)
        if found is None:
            what = (
                "leaves tool calls out" if at < 0 else "writes the arguments of a tool call in another form than JSON"
            )
            raise RenderError(f"the model's chat template {what}")
        return at, found

    def _start(self, text: str) -> int:
        prompt = self._renderer.render_text(self._before, tools=self._tools, add_generation_prompt=True)
        same = (i for i, (left, right) in enumerate(zip(text, prompt, strict=False)) if left != right)
        return next(same, min(len(text), len(prompt)))

    def _without_turn_end(self, text: str) -> str:
        said = self._renderer.render_text([*self._before, {"role": "assistant", "content": _WORD}], tools=self._tools)
        return text.removesuffix(said[said.rfind(_WORD) + len(_WORD) :])


def _opening(begin: str, between: str | None) -> str:
    """What marks a call: the text before its JSON, as far as it stands before every call."""
    first, later = _JSON_HEAD.sub("", begin), _JSON_HEAD.sub("", between or "")
    shared = next((n for n in range(min(len(first), len(later)), 0, -1) if first.endswith(later[-n:])), 0)
    marker = first[len(first) - shared :].strip()
    return marker or first.strip()


def _named(before: str, middle: str) -> re.Pattern[str]:
    return re.compile(f"{before}(?P<name>{_NAME}){_flexible(middle)}")


def _flexible(text: str) -> str:
    """A pattern for `text` that minds no whitespace between words and signs, and takes any call id."""
    parts = [part for part in re.split(rf"({_CALL_ID}|\w+|\s+|.)", text) if part and not part.isspace()]
    return r"\s*".join(["", *("[A-Za-z0-9]{9}" if part == _CALL_ID else re.escape(part) for part in parts), ""])
