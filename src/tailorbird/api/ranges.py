"""Single byte ranges of a download (RFC 9110, section 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SINGLE = re.compile(r"bytes=[ \t]*(\d*)-(\d*)[ \t]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Span:
    """`length` bytes from `start`; none of them when the range lies outside."""

    start: int
    length: int


def read_range(header: str | None, size: int) -> Span | None:
    """None asks for the whole: no range, several, or one that is none, which a server may ignore."""
    found = None if header is None else _SINGLE.fullmatch(header)
    if found is None or found.group(0).strip().endswith("=-"):
        return None
    first, last = found.groups()
    if not first:
        length = min(int(last), size)
        return Span(size - length, length)
    start, end = int(first), int(last) if last else size - 1
    if last and end < start:
        return None
    return Span(start, max(0, min(end, size - 1) - start + 1))
