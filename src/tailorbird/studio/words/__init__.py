"""Every text of the Studio in English, Japanese and Dutch: a folder a language, a file a page."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, cast

LANGUAGES: dict[str, str] = {"en": "English", "ja": "日本語", "nl": "Nederlands"}
DEFAULT = "en"


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """`page.name` to text. Raises KeyError for a language there is not."""
    if language not in LANGUAGES:
        raise KeyError(language)
    found: dict[str, str] = {}
    for path in sorted((Path(__file__).parent / language).glob("*.toml")):
        _flatten(tomllib.loads(path.read_text("utf-8")), path.stem, found)
    return found


def _flatten(table: Mapping[str, Any], prefix: str, into: dict[str, str]) -> None:
    for name, value in table.items():
        key = f"{prefix}.{name}"
        if isinstance(value, dict):
            _flatten(cast("dict[str, Any]", value), key, into)
        else:
            into[key] = str(value)


@dataclass(frozen=True, slots=True)
class Words:
    """Texts, numbers and times in one language."""

    language: str

    def __call__(self, key: str, /, **values: object) -> str:
        """The text with its `{names}` filled in. Raises KeyError: a missing text is a fault of ours."""
        return catalogue(self.language)[key].format(**values)

    def number(self, value: float, digits: int = 0) -> str:
        """1,234.5 in English and Japanese, 1.234,5 in Dutch."""
        text = f"{value:,.{digits}f}"
        return text.translate(str.maketrans(",.", ".,")) if self.language == "nl" else text

    def size(self, count: float) -> str:
        """Bytes as people read them."""
        for unit in ("B", "KB", "MB"):
            if count < 1000:
                return f"{self.number(count, 0 if unit == 'B' else 1)} {unit}"
            count /= 1000
        return f"{self.number(count, 1)} GB"

    def duration(self, seconds: float) -> str:
        """`3 min 5 s`, `2 h 10 min`; in the language's units."""
        whole = max(0, round(seconds))
        hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
        if hours:
            return self("shell.hours", hours=hours, minutes=minutes)
        if minutes:
            return self("shell.minutes", minutes=minutes, seconds=rest)
        return self("shell.seconds", seconds=rest)

    def moment(self, seconds: float) -> str:
        """A time of the data plane (seconds since 1970), in UTC."""
        at = datetime.fromtimestamp(seconds, UTC)
        form = {"en": "%d %b %Y, %H:%M", "ja": "%Y/%m/%d %H:%M", "nl": "%d-%m-%Y %H:%M"}[self.language]
        return f"{at.strftime(form)} UTC"


def preferred(accepted: str) -> str:
    """The language a browser asks for first among ours, from its Accept-Language header."""
    ranked: list[tuple[float, int, str]] = []
    for place, part in enumerate(accepted.split(",")):
        name, _, rest = part.strip().partition(";")
        weight = rest.strip().removeprefix("q=") or "1"
        try:
            ranked.append((-float(weight), place, name.split("-")[0].lower()))
        except ValueError:
            continue
    return next((name for _, _, name in sorted(ranked) if name in LANGUAGES), DEFAULT)
