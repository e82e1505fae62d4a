"""The error tree is the one its docstring draws."""

from __future__ import annotations

import inspect
import re

from tailorbird.domain import errors
from tailorbird.domain.errors import ServiceError, TooManyRequests


def drawn() -> dict[str, str]:
    """Class to parent, read off the drawing by its indentation."""
    parents: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^( *[│ ├└─]*)([A-Z]\w+)( {2,}.*)?$", line)
        if not found or (path and "─" not in found[1]):
            continue
        depth, name = len(found[1]), found[2]
        while path and path[-1][0] >= depth:
            path.pop()
        parents[name] = path[-1][1] if path else "Exception"
        path.append((depth, name))
    return parents


def real() -> dict[str, str]:
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, ServiceError)]
    return {c.__name__: c.__bases__[0].__name__ for c in classes}


def test_the_drawn_tree_is_the_real_tree() -> None:
    assert drawn() == real()
    assert len(real()) > 10


def test_an_error_carries_message_field_and_code() -> None:
    error = ServiceError("what is wrong", param="field", code="refined")
    assert (str(error), error.message, error.param, error.code) == ("what is wrong",) * 2 + ("field", "refined")
    assert (ServiceError("x").param, ServiceError("x").code) == (None, None)


def test_too_many_requests_says_when_to_come_back() -> None:
    assert TooManyRequests("slow down", retry_after=1.5).retry_after == 1.5
