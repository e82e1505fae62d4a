"""A JSON body's fields, taken one by one with their checks; what nobody took is refused by name."""

from __future__ import annotations

import math
from typing import Any, cast


class BodyRefused(Exception):
    """The body asks for what the engine does not do; the message names the field `param`."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class Fields:
    """A JSON object whose fields are taken one by one; null counts as absent; what is left at the end is refused."""

    def __init__(self, body: object, prefix: str = "") -> None:
        if not isinstance(body, dict):
            raise BodyRefused(f"{prefix.rstrip('.') or 'The body'} must be a JSON object.", prefix.rstrip(".") or None)
        self._left = {k: v for k, v in cast(dict[str, Any], body).items() if v is not None}
        self._prefix = prefix

    def take(self, name: str, default: Any) -> Any:
        return self._left.pop(name, default)

    def finish(self) -> None:
        if self._left:
            names = ", ".join(self._prefix + name for name in sorted(self._left))
            raise BodyRefused(f"Unknown or unsupported field(s): {names}.", self._prefix + sorted(self._left)[0])

    def text(self, name: str) -> str:
        value = self.take(name, "")
        if not isinstance(value, str) or not value:
            raise BodyRefused(f"{self._prefix}{name} must be a non-empty string.", name)
        return value

    def boolean(self, name: str) -> bool:
        value = self.take(name, False)
        if not isinstance(value, bool):
            raise BodyRefused(f"{self._prefix}{name} must be true or false.", self._prefix + name)
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        value = self.take(name, default)
        if not is_number(value) or not low <= value <= high:
            raise BodyRefused(f"{name} must be a number from {low:g} to {high:g}.", name)
        return float(value)

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        value = self.take(name, default)
        if not is_integer(value) or not low <= value <= high:
            raise BodyRefused(f"{name} must be a whole number from {low} to {high}.", name)
        return value

    def optional_integer(self, name: str, low: int, high: int) -> int | None:
        return self.integer(name, low, low, high) if name in self._left else None

    def token_ids(self, name: str, vocab: int, *, required: bool = False) -> list[int]:
        value = self.take(name, [])
        good = isinstance(value, list) and all(
            is_integer(token) and 0 <= token < vocab for token in cast(list[Any], value)
        )
        if not good or (required and not value):
            raise BodyRefused(f"{name} must be one list of token ids below {vocab}.", name)
        return value

    def given(self) -> list[str]:
        """The fields not taken yet."""
        return sorted(self._left)

    def stops(self) -> list[str]:
        value = self.take("stop", [])
        stops = cast(list[Any], [value] if isinstance(value, str) else value)
        if not isinstance(value, str | list) or not all(isinstance(stop, str) and stop for stop in stops):
            raise BodyRefused("stop must be a non-empty string or a list of them.", "stop")
        return stops

    def bias(self, vocab: int) -> dict[int, float]:
        value = self.take("logit_bias", {})
        if not isinstance(value, dict):
            raise BodyRefused("logit_bias must be an object of token ids and numbers.", "logit_bias")
        bias: dict[int, float] = {}
        for token, change in cast(dict[str, Any], value).items():
            if not (token.isascii() and token.isdigit() and int(token) < vocab):
                raise BodyRefused(f"logit_bias: {token[:40]!r} is not a token id below {vocab}.", "logit_bias")
            if not is_number(change) or not -100 <= change <= 100:
                raise BodyRefused(f"logit_bias: the value of {token} must be from -100 to 100.", "logit_bias")
            bias[int(token)] = float(change)
        return bias


def is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    return is_integer(value) or (isinstance(value, float) and math.isfinite(value))
