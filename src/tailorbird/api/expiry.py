"""`expires_after` of a form in all its spellings: one field holding JSON, bracketed fields, dotted fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.files import EXPIRES_AFTER, check_expiry

_PARTS = ("anchor", "seconds")


def is_expiry(name: str) -> bool:
    """Whether a form field says when the file expires."""
    return name == EXPIRES_AFTER or name in _SPELLINGS


def life_in(fields: Mapping[str, str]) -> timedelta | None:
    """The file's life as the form has it, None when it says nothing. Raises InvalidRequest."""
    given: dict[str, Any] = {}
    for name, value in fields.items():
        if name == EXPIRES_AFTER:
            given |= _object(value)
        elif part := _SPELLINGS.get(name):
            if part in given:
                raise InvalidRequest(f"'{EXPIRES_AFTER}.{part}' is given twice.", param=f"{EXPIRES_AFTER}.{part}")
            given[part] = value
    if not given:
        return None
    for part in _PARTS:
        if part not in given:
            name = f"{EXPIRES_AFTER}.{part}"
            raise InvalidRequest(f"'{name}' is missing; '{EXPIRES_AFTER}' needs anchor and seconds.", param=name)
    seconds = given["seconds"]
    if isinstance(seconds, str) and seconds.strip().isascii() and seconds.strip().isdecimal():
        seconds = int(seconds)
    return check_expiry(given["anchor"], seconds)


def _object(text: str) -> dict[str, Any]:
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(
            f"'{EXPIRES_AFTER}' must be a JSON object with anchor and seconds, or be sent as the fields "
            f"'{EXPIRES_AFTER}[anchor]' and '{EXPIRES_AFTER}[seconds]'.",
            param=EXPIRES_AFTER,
        )
    found: dict[str, Any] = dict(value)  # pyright: ignore[reportUnknownArgumentType]
    if unknown := [name for name in found if name not in _PARTS]:
        name = f"{EXPIRES_AFTER}.{unknown[0]}"
        raise InvalidRequest(f"'{name}' is not a field of this request; remove it.", param=name)
    return found


_SPELLINGS = {form.format(EXPIRES_AFTER, part): part for part in _PARTS for form in ("{}[{}]", "{}.{}")}
