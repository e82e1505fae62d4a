"""A JSON object read field by field; what nobody takes is refused by its path."""

from __future__ import annotations

import math
from typing import Any, cast

from tailorbird.domain.errors import InvalidRequest


class Fields:
    """A JSON object whose fields are taken one by one; null counts as absent; what is left over is refused."""

    def __init__(self, raw: object, where: str) -> None:
        if not isinstance(raw, dict):
            raise InvalidRequest(f"'{where}' must be an object.", param=where)
        self._left = {k: v for k, v in cast("dict[str, Any]", raw).items() if v is not None}
        self._where = where

    def path(self, name: str) -> str:
        return f"{self._where}.{name}"

    def fault(self, name: str, reason: str) -> InvalidRequest:
        return InvalidRequest(f"'{self.path(name)}' is not valid: {reason}.", param=self.path(name))

    def take(self, name: str) -> Any:
        return self._left.pop(name, None)

    def finish(self) -> None:
        for name in self._left:
            raise InvalidRequest(f"'{self.path(name)}' is not a field here; remove it.", param=self.path(name))

    def text(self, name: str) -> str:
        value = self.required(name)
        if not isinstance(value, str) or not value:
            raise self.fault(name, "use a text that is not empty")
        return value

    def optional_text(self, name: str) -> str | None:
        return self.text(name) if name in self._left else None

    def required(self, name: str) -> Any:
        """Whatever stands there."""
        value = self.take(name)
        if value is None:
            raise InvalidRequest(f"'{self.path(name)}' is missing; it is required.", param=self.path(name))
        return value

    def object(self, name: str) -> dict[str, Any]:
        value = self.required(name)
        if not isinstance(value, dict):
            raise self.fault(name, "use an object")
        return cast("dict[str, Any]", value)

    def optional_object(self, name: str) -> dict[str, Any] | None:
        return self.object(name) if name in self._left else None

    def objects(self, name: str) -> list[dict[str, Any]]:
        """None is an empty list."""
        value = self.take(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in cast("list[Any]", value)):
            raise self.fault(name, "use a list of objects")
        return cast("list[dict[str, Any]]", value)

    def choice(self, name: str, options: tuple[str, ...]) -> str:
        value = self.text(name)
        if value not in options:
            raise self.fault(name, f"{value!r} is none of {', '.join(options)}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.take(name)
        items = cast("list[Any]", value) if isinstance(value, list) else []
        if not items or not all(isinstance(item, str) and item for item in items):
            raise self.fault(name, "use a list of texts with at least one item")
        return tuple(items)

    def number(self, name: str, low: float = -math.inf, high: float = math.inf) -> float | None:
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.fault(name, "use a number" + (f" from {low:g} to {high:g}" if high < math.inf else ""))
        return float(value)

    def whole(self, name: str, low: int = 1) -> int | None:
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value < 2**63:
            raise self.fault(name, f"use a whole number of at least {low}")
        return value

    def range(self, name: str) -> tuple[float, float]:
        value = self.take(name)
        if value is None:
            return 0.0, 1.0
        ends = cast("list[Any]", value) if isinstance(value, list) else []
        good = len(ends) == 2 and all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
        if not good or not ends[0] < ends[1]:
            raise self.fault(name, "use two numbers, the lower one first")
        return float(ends[0]), float(ends[1])
