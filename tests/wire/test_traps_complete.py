"""Every row of the table of traps has its test, by number."""

from __future__ import annotations

import re
from pathlib import Path

ROWS = 45


def test_every_trap_has_a_test() -> None:
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("test_traps_*.py"))]
    numbers = {int(number) for text in texts for number in re.findall(r"def test_trap_(\d\d)_", text)}
    assert sorted(set(range(1, ROWS + 1)) - numbers) == []
