"""Fetches files from URLs in the background: piece by piece, on from where it stopped, never showing the URL again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from tailorbird.domain import ids
from tailorbird.domain.errors import InvalidRequest, NotFound, QuotaExceeded
from tailorbird.domain.files import File, FileImport, FileStatus, check_filename, check_move, check_purpose
from tailorbird.service.files import Files, delete_folder, import_folder, too_large
from tailorbird.service.ports import BlobMissing, Blobs, Clock, Fetched, Store, Web, WebBroken, WebRefused

PIECE_BYTES = 16 * 1024 * 1024
"""What is fetched between two marks: so much a crash can cost."""
MAX_ATTEMPTS = 6
"""Attempts in a row that bring less than a mebibyte; then the import has failed."""
MAX_CONNECTIONS = 100
_WORTH = 1024 * 1024
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_ONCE = "once-"


class _Overtaken(Exception):
    """Another process fetches this file, or it was deleted."""


class _Failed(Exception):
    """Its text is for the customer."""


class Imports:
    """`pause` waits so many seconds between attempts; `piece_bytes` is what is kept at a time."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        clock: Clock,
        new_hex: Callable[[], str],
        files: Files,
        web: Web,
        *,
        pause: Callable[[float], None] = time.sleep,
        piece_bytes: int = PIECE_BYTES,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._new_hex = new_hex
        self._files = files
        self._web = web
        self._pause = pause
        self._piece_bytes = piece_bytes

    def create(self, account_id: str, filename: str, purpose: str, url: str, life: timedelta | None) -> File:
        """The file's row, pending and without bytes; `run` fetches them. Raises InvalidRequest and QuotaExceeded."""
        name = check_filename(filename, "filename")
        wanted = check_purpose(purpose)
        try:
            self._web.check(url)
        except WebRefused as refusal:
            raise InvalidRequest(f"'content_url' cannot be imported: {refusal}", param="content_url") from None
        file_id = ids.file_id(self._new_hex())
        now = self._clock.now()
        file = File(
            id=file_id,
            account_id=account_id,
            filename=name,
            purpose=wanted,
            bytes=0,
            status=FileStatus.PENDING,
            created_at=now,
            blob_key=f"accounts/{account_id}/files/{file_id}",
            expires_at=None if life is None else now + life,
        )
        with self._store.begin() as session:
            self._files.admit(session, file)
            session.imports.add(FileImport(file_id, account_id, url, 0, None))
        return file

    def run(self, account_id: str, file_id: str) -> None:
        """Fetches the file and judges it, or ends it in error. Safe to run again and by two at once."""
        with self._store.begin() as session:
            row = session.imports.get(file_id)
            file = session.files.get(account_id, file_id)
        if row is None or file is None:
            return
        try:
            self._finish(file, self._fetch(file, row))
        except _Overtaken:
            self._leave(file)
            return
        except _Failed as failure:
            self._fail(file, str(failure))
            return
        with suppress(NotFound):
            self._files.process(account_id, file_id)

    def unfinished(self) -> list[FileImport]:
        """What a server left behind when it stopped in between; `run` goes on with each."""
        with self._store.begin() as session:
            return session.imports.unfinished()

    def _fetch(self, file: File, row: FileImport) -> FileImport:
        """Connects until all is here. Raises _Failed and _Overtaken."""
        idle, fault = 0, ""
        for _ in range(MAX_CONNECTIONS):
            before = row
            try:
                with self._web.open(row.url, row.received, _resumable(row.version)) as got:
                    row = self._begin(file, row, got)
                    row, fault = self._read(file, row, got)
                if not fault:
                    return row
            except WebBroken as broken:
                fault = str(broken)
            except WebRefused as refusal:
                raise _Failed(str(refusal)) from None
            gained = _resumable(row.version) is not None and row.received >= before.received + _WORTH
            idle = 1 if gained else idle + 1
            if idle >= MAX_ATTEMPTS:
                break
            self._pause(min(_FIRST_PAUSE * 2 ** (idle - 1), _LONGEST_PAUSE))
        raise _Failed(f"{fault} It was tried {MAX_ATTEMPTS} times; import it again later.")

    def _begin(self, file: File, row: FileImport, got: Fetched) -> FileImport:
        """The row as it stands for this answer: at its beginning when the file is another one by now."""
        if got.total is not None:
            self._check_size(file, got.total)
        if got.start and got.start == row.received:
            return row
        return self._advance(row, 0, got.version or f"{_ONCE}{self._new_hex()}")

    def _read(self, file: File, row: FileImport, got: Fetched) -> tuple[FileImport, str]:
        """Keeps pieces until the answer ends; the second value says what broke it off, if anything."""
        source = _Source(got.chunks)
        while not source.ended:
            key = _piece(row, row.received)
            size = self._blobs.put(key, source.take(self._piece_bytes))
            if size:
                row = self._advance(row, row.received + size, row.version)
                self._check_size(file, row.received)
        if not source.fault and got.total is not None and row.received != got.total:
            return row, f"The file ended after {row.received} of {got.total} bytes."
        return row, source.fault

    def _check_size(self, file: File, size: int) -> None:
        if size > self._files.max_bytes:
            raise _Failed(too_large(self._files.max_bytes).message)
        try:
            with self._store.begin() as session:
                self._files.check_bytes(session, file, size)
        except QuotaExceeded as error:
            raise _Failed(error.message) from None

    def _advance(self, row: FileImport, received: int, version: str | None) -> FileImport:
        with self._store.begin() as session:
            if not session.imports.advance(row, received=received, version=version):
                raise _Overtaken
        return replace(row, received=received, version=version)

    def _finish(self, file: File, row: FileImport) -> None:
        """Puts the pieces together, then tells the row: a crash in between fetches again, at most."""
        if not row.received:
            raise _Failed("The file is empty; it must hold at least one line.")
        try:
            self._blobs.put(file.blob_key, self._pieces(row))
        except BlobMissing:
            # A run before this one ended between deleting its pieces and saying so.
            self._finish(file, self._fetch(file, self._advance(row, 0, None)))
            return
        delete_folder(self._blobs, import_folder(file.account_id, file.id))
        try:
            with self._store.begin() as session:
                if not session.imports.delete(file.id):
                    raise _Overtaken
                current = session.files.get(file.account_id, file.id)
                if current is None:
                    raise _Overtaken
                self._files.arrived(session, current, row.received)
        except QuotaExceeded as error:
            self._blobs.delete(file.blob_key)
            raise _Failed(error.message) from None

    def _pieces(self, row: FileImport) -> Iterator[bytes]:
        at = 0
        while at < row.received:
            key = _piece(row, at)
            yield from self._blobs.read(key)
            at += self._blobs.size(key)

    def _fail(self, file: File, details: str) -> None:
        delete_folder(self._blobs, import_folder(file.account_id, file.id))
        with self._store.begin() as session:
            session.imports.delete(file.id)
            current = session.files.get(file.account_id, file.id)
            if current is None or current.status is not FileStatus.PENDING:
                return
            check_move(current.status, FileStatus.ERROR)
            text = f"fileImportFailed: {details}"
            session.files.save(replace(current, status=FileStatus.ERROR, status_details=text))

    def _leave(self, file: File) -> None:
        """A file deleted meanwhile leaves nothing."""
        with self._store.begin() as session:
            gone = session.files.kept(file.account_id, file.id) is None
        if gone:
            delete_folder(self._blobs, import_folder(file.account_id, file.id))
            self._blobs.delete(file.blob_key)


class _Source:
    """An answer's bytes, a piece at a time; what breaks it off is kept, so that the bytes before it are not lost."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.ended = False
        self.fault = ""

    def take(self, size: int) -> Iterator[bytes]:
        """At least `size` bytes unless the answer ends before, and less than one chunk more."""
        taken = 0
        while taken < size:
            try:
                chunk = next(self._chunks, None)
            except WebBroken as broken:
                self.fault, chunk = str(broken), None
            if chunk is None:
                self.ended = True
                return
            taken += len(chunk)
            yield chunk


def _resumable(version: str | None) -> str | None:
    """None when the server cannot tell one version of the file from the next: then it is read again from its start."""
    return None if version is None or version.startswith(_ONCE) else version


def _piece(row: FileImport, at: int) -> str:
    # Named after the version: pieces of another one can lie there still.
    version = hashlib.sha256((row.version or "").encode()).hexdigest()[:16]
    return f"{import_folder(row.account_id, row.file_id)}/{version}-{at:015d}"
