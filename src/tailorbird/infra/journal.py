"""Journals of tokens: a file of JSON lists for each process and minute, locked while its process lives.

What was written is the kernel's from then on, so that killing the process loses nothing; only a machine that stops
loses what it had not yet put on its disk.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from tailorbird.service.ports import Journal, TokenCount

_ENDING = ".tokens"


class FileJournals:
    """In one folder of this machine, which has to outlive the processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self) -> Journal:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{uuid.uuid4().hex}{_ENDING}"
        # Made and locked under another name: nobody may find it between the two.
        draft = path.with_suffix(".new")
        handle = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft.rename(path)
        return FileJournal(path, handle)

    def abandoned(self) -> Iterator[Journal]:
        for path in sorted(self._folder.glob(f"*{_ENDING}")):
            try:
                handle = os.open(path, os.O_RDWR | os.O_APPEND)
            except FileNotFoundError:
                continue
            try:
                # The kernel gives a lock back when its process ends, however it ends.
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                continue
            if path.exists():
                yield FileJournal(path, handle)
            else:
                os.close(handle)


class FileJournal:
    def __init__(self, path: Path, handle: int) -> None:
        self._path = path
        self._handle = handle

    @property
    def id(self) -> str:
        return self._path.stem

    def append(self, count: TokenCount) -> None:
        line = [
            count.minute.isoformat(),
            count.account,
            count.deployment,
            count.model,
            count.paid,
            count.input_tokens,
            count.output_tokens,
        ]
        os.write(self._handle, json.dumps(line).encode() + b"\n")

    def counts(self) -> list[TokenCount]:
        """A torn last line was never said to be written."""
        lines = self._path.read_bytes().split(b"\n")[:-1]
        return [count for line in lines if (count := _read(line)) is not None]

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        os.close(self._handle)


def _read(line: bytes) -> TokenCount | None:
    try:
        minute, *rest = json.loads(line)
        return TokenCount(datetime.fromisoformat(minute), *rest)
    except (ValueError, TypeError):
        return None
