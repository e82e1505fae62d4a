"""Adapters between the blobs, where they are kept, and the folders an engine loads them from."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tailorbird.service.ports import Blobs

FACTS_FILE = "tailorbird.json"
_MARK = "adapter_config.json"
_CHUNK = 1 << 20


class Adapters:
    """`folder` is local to this machine and only a cache: what it lacks is fetched again from the blobs."""

    def __init__(self, blobs: Blobs, folder: Path) -> None:
        self._blobs = blobs
        self._folder = folder

    def keep(self, key: str, source: Path, facts: dict[str, str]) -> None:
        """Copies the PEFT folder `source` to the blob prefix `key`; done before, it does nothing.

        `facts` (template hash, base, job) go into `tailorbird.json` beside the weights. The configuration is written
        last: an adapter without one is incomplete and written again.
        """
        if f"{key}/{_MARK}" in self._blobs.list(key):
            return
        self._blobs.put(f"{key}/{FACTS_FILE}", [json.dumps(facts, indent=1).encode()])
        names = sorted((p.name for p in source.iterdir() if p.is_file()), key=lambda name: (name == _MARK, name))
        for name in names:
            self._blobs.put(f"{key}/{name}", _read(source / name))

    def copy(self, source: str, target: str) -> None:
        """Copies the adapter of blob prefix `source` to `target`, its configuration last. Raises BlobMissing."""
        names = [key.rsplit("/", 1)[-1] for key in self._blobs.list(source)]
        for name in [*(name for name in names if name != _MARK), _MARK]:
            self._blobs.put(f"{target}/{name}", self._blobs.read(f"{source}/{name}"))

    def local(self, name: str, key: str) -> Path:
        """The folder with the adapter of blob prefix `key`, fetched when it is not here. Raises BlobMissing."""
        target = self._folder / name
        if (target / _MARK).exists():
            return target
        self._folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=self._folder))
        try:
            for blob in [*self._blobs.list(key)] or [f"{key}/{_MARK}"]:
                chunks = self._blobs.read(blob)
                with (work / blob.rsplit("/", 1)[-1]).open("wb") as out:
                    out.writelines(chunks)
            try:
                os.rename(work, target)
            except OSError:
                # Another process was faster; a rename onto a filled folder fails and its copy is as good.
                if not (target / _MARK).exists():
                    raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return target


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            yield chunk
