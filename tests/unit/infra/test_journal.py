"""Journals: what is written outlives its process, and is given to one reader only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tailorbird.infra.journal import FileJournals
from tailorbird.service.ports import TokenCount

COUNT = TokenCount(datetime(2026, 1, 5, 12, tzinfo=UTC), "acct", "Bot", "gpt-4o", True, 12, 3)

WRITER = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from tailorbird.infra.journal import FileJournals
from tailorbird.service.ports import TokenCount
journal = FileJournals(Path(sys.argv[1])).open()
for n in range(1000):
    journal.append(TokenCount(datetime(2026, 1, 5, 12, tzinfo=UTC), "acct", None, "gpt-4o", True, n, 1))
print("written", flush=True)
sys.stdin.read()
"""


def test_counts_come_back_and_a_journal_that_is_open_is_nobody_elses(tmp_path: Path) -> None:
    journals = FileJournals(tmp_path / "usage")
    assert list(journals.abandoned()) == []
    journal = journals.open()
    second = replace(COUNT, deployment=None, paid=False)
    journal.append(COUNT)
    journal.append(second)
    assert journal.counts() == [COUNT, second]
    assert list(FileJournals(tmp_path / "usage").abandoned()) == []
    journal.remove()
    assert list((tmp_path / "usage").iterdir()) == []


def test_killing_a_process_loses_no_count_and_one_finder_gets_them(tmp_path: Path) -> None:
    source = str(Path(__file__).parents[3] / "src")
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    with writer.stdin, writer.stdout:
        assert writer.stdout.readline() == b"written\n"
        assert list(FileJournals(tmp_path).abandoned()) == []
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    (found,) = FileJournals(tmp_path).abandoned()
    assert list(FileJournals(tmp_path).abandoned()) == []
    assert [count.input_tokens for count in found.counts()] == list(range(1000))
    found.remove()
    assert list(FileJournals(tmp_path).abandoned()) == []


def test_a_line_that_was_torn_or_is_foreign_is_passed_over(tmp_path: Path) -> None:
    journal = FileJournals(tmp_path).open()
    journal.append(COUNT)
    path = next(tmp_path.iterdir())
    with path.open("ab") as out:
        out.write(b'[]\n{"minute": 3}\n["x"]\nnonsense\n["2026-01-05T12:00:00+00:00", "acc')
    assert journal.counts() == [COUNT]
    journal.remove()
