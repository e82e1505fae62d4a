"""`{{ sample.output_text }}` and `{{ item.a.b }}` in the texts of graders and of evaluations' prompts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

_FIELD = re.compile(r"\{\{\s*(.*?)\s*\}\}", re.DOTALL)
_PATH = re.compile(r"(?:sample|item)(?:\.[\w-]+|\[\d+\])*")
_STEP = re.compile(r"\.([\w-]+)|\[(\d+)\]")

_EXAMPLES = {"sample": "output_text", "item": "answer"}

Namespaces = Mapping[str, Any]
"""`sample` and `item`."""


class TemplateError(Exception):
    """The text names something that is not there; the message says what."""


def check_template(text: str, roots: Sequence[str] = ("sample", "item")) -> None:
    """Raises TemplateError when a field is no path into one of the roots."""
    for match in _FIELD.finditer(text):
        if _PATH.fullmatch(match[1]) is None or not match[1].startswith(tuple(roots)):
            known = " or ".join(f"{root}.{_EXAMPLES[root]}" for root in roots)
            raise TemplateError(f"'{{{{ {match[1]} }}}}' is no path such as {known}")


def fill(text: str, namespaces: Namespaces) -> str:
    """The text with its fields filled in; what is no text is written as JSON. Raises TemplateError."""
    return _FIELD.sub(lambda match: _shown(resolve(match[1], namespaces)), text)


def resolve(path: str, namespaces: Namespaces) -> Any:
    """What stands at the path. Raises TemplateError."""
    root = re.match(r"\w+", path)
    if root is None or root[0] not in namespaces or _PATH.fullmatch(path) is None:
        raise TemplateError(f"'{path}' is no path such as sample.output_text or item.answer")
    value = namespaces[root[0]]
    for step in _STEP.finditer(path, root.end()):
        value = _into(value, step[1] or step[2], path)
    return value


def _into(value: Any, step: str, path: str) -> Any:
    if isinstance(value, Mapping) and step in value:
        return cast("Mapping[str, Any]", value)[step]
    if isinstance(value, list) and step.isdecimal() and int(step) < len(cast("list[Any]", value)):
        return cast("list[Any]", value)[int(step)]
    raise TemplateError(f"'{path}' is not there: nothing is named '{step}'")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
