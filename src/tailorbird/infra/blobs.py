"""Bytes in a folder, in memory, on S3, Azure Blob or Google Cloud Storage."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from tailorbird.service.ports import BlobMissing

if TYPE_CHECKING:
    from obstore import ObjectMeta  # exists in the stubs only

_PART = 5 * 1024 * 1024  # S3 takes no smaller part, but for the last
_PARTS_AT_ONCE = 2
_CHUNK = 1024 * 1024
# Nothing that climbs, nothing a shell or a URL reads twice; obstore names its unfinished local files `name#1`.
_SEGMENT = re.compile(r"[^/\\#?%\x00-\x1f\x7f]+")


class ObstoreBlobs:
    """A put becomes visible at its end: a rename in a folder, the completed multipart upload in a cloud."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Holds up to 15 MiB. Raises what `chunks` raises; they may come from blobs themselves."""
        size = 0
        # Not `obstore.put`: it asks for the chunks from inside its runtime, where reading another blob panics.
        writer = obstore.open_writer(self._store, _checked(key), buffer_size=_PART, max_concurrency=_PARTS_AT_ONCE)
        try:
            for chunk in chunks:
                size += writer.write(chunk)
            writer.close()
        finally:
            # A writer that goes away unclosed takes along what it has written. A traceback must not keep it.
            del writer
        return size

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Chunks of at most 1 MiB. A range that reaches beyond the end is cut, one that begins there is empty."""
        if start < 0 or (length is not None and length < 0):
            raise ValueError(f"no range begins at {start} with length {length}")
        end = self.size(key)
        if length is not None:
            end = min(end, start + length)
        if start >= end:
            return iter(())
        try:
            found = obstore.get(self._store, key, options={"range": (start, end)})
        except FileNotFoundError:
            raise BlobMissing(key) from None
        return _sliced(found.stream(min_chunk_size=_CHUNK))

    def size(self, key: str) -> int:
        try:
            return obstore.head(self._store, _checked(key))["size"]
        except FileNotFoundError:
            raise BlobMissing(key) from None

    def delete(self, key: str) -> None:
        try:
            obstore.delete(self._store, _checked(key))
        except FileNotFoundError:
            return

    def list(self, prefix: str) -> list[str]:
        """An empty prefix lists everything."""
        folder = prefix.rstrip("/")
        if folder:
            _checked(folder)
        return sorted(blob["path"] for blob in _listed(self._store, folder or None))


def _listed(store: ObjectStore, prefix: str | None) -> Iterator[ObjectMeta]:
    # The stubs leave the Arrow form of the answer untyped, and with it the whole function.
    chunks: Iterable[Sequence[ObjectMeta]] = obstore.list(store, prefix=prefix)  # pyright: ignore[reportUnknownMemberType]
    for chunk in chunks:
        yield from chunk


def open_blobs(url: str) -> ObstoreBlobs:
    """A folder (made when missing; `file://` may lead), `memory://`, or a cloud's own form: `s3://bucket/prefix`,
    `az://container/prefix`, `gs://bucket/prefix`. A cloud's credentials come from its usual variables."""
    scheme, colon, rest = url.partition("://")
    if not colon or scheme == "file":
        folder = Path(rest if colon else url).absolute()
        return ObstoreBlobs(LocalStore(folder, mkdir=True))
    if scheme == "memory":
        return ObstoreBlobs(MemoryStore())
    if scheme not in ("s3", "az", "gs"):
        raise ValueError(f"blob_url: {url!r} is neither a folder nor one of memory://, s3://, az://, gs://")
    return ObstoreBlobs(from_url(url))


def _checked(key: str) -> str:
    """Raises ValueError for a key that is not a plain relative path."""
    if any(not _SEGMENT.fullmatch(part) or part in (".", "..") for part in key.split("/")):
        raise ValueError(f"{key!r} is not a relative path with forward slashes")
    return key


def _sliced(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        # Memory answers with the whole blob at once.
        for at in range(0, len(piece), _CHUNK):
            yield piece[at : at + _CHUNK]
