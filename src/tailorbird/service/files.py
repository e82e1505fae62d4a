"""Takes uploads into blobs, judges training files, hands bytes out again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from tailorbird.dataset.validate import Report, validate_stream
from tailorbird.domain import ids
from tailorbird.domain.errors import InvalidRequest, NotFound, PayloadTooLarge, Unavailable
from tailorbird.domain.files import File, FileStatus, Purpose, check_move
from tailorbird.service.ports import BlobMissing, Blobs, Clock, Order, Page, Store

MAX_FILENAME = 255
SHOWN_PROBLEMS = 20
"""A file's status details name so many problems and count the others."""
_UPLOADABLE = (Purpose.FINE_TUNE,)
_ENDED = frozenset({FileStatus.PROCESSED, FileStatus.ERROR})


class Files:
    """`new_hex` gives 32 fresh hex digits a call; `max_bytes` is the largest file that is taken."""

    def __init__(self, store: Store, blobs: Blobs, clock: Clock, new_hex: Callable[[], str], max_bytes: int) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._new_hex = new_hex
        self._max_bytes = max_bytes

    @property
    def max_bytes(self) -> int:
        return self._max_bytes

    def upload(self, account_id: str, filename: str, purpose: str, chunks: Iterable[bytes]) -> File:
        """Streams the bytes into a blob in constant memory; the row appears, pending, once they are complete.

        Raises InvalidRequest (purpose, file name, no bytes) and PayloadTooLarge; nothing is left behind then, nor when
        `chunks` itself raises.
        """
        name = _clean_filename(filename)
        wanted = _check_purpose(purpose)
        file_id = ids.file_id(self._new_hex())
        key = f"accounts/{account_id}/files/{file_id}"
        size = self._blobs.put(key, self._counted(chunks))
        file = File(
            id=file_id,
            account_id=account_id,
            filename=name,
            purpose=wanted,
            bytes=size,
            status=FileStatus.PENDING,
            created_at=self._clock.now(),
            blob_key=key,
        )
        stored = False
        try:
            with self._store.begin() as session:
                session.files.add(file)
            stored = True
        finally:
            if not stored:
                self._blobs.delete(key)
        return file

    def process(self, account_id: str, file_id: str) -> File:
        """Judges a pending file: processed, or error with every problem's line in `status_details`.

        Safe to run again and by two at once: both come to the same end, and an end is never changed. Raises NotFound.
        """
        file = self._move(account_id, file_id, FileStatus.RUNNING)
        if file.status in _ENDED:
            return file
        try:
            # One example is enough for a validation file; a job asks for ten in its training file.
            report = validate_stream(self._blobs.read(file.blob_key), min_examples=1)
        except BlobMissing:
            return self._move(
                account_id, file_id, FileStatus.ERROR, status_details="The file's bytes are gone; upload it again."
            )
        if not report.ok:
            return self._move(account_id, file_id, FileStatus.ERROR, status_details=_details(report))
        return self._move(account_id, file_id, FileStatus.PROCESSED, kind=report.kind, examples=report.examples)

    def resume_unfinished(self) -> None:
        """Judges what a server left behind when it stopped in between."""
        with self._store.begin() as session:
            unfinished = session.files.unfinished()
        for file in unfinished:
            try:
                self.process(file.account_id, file.id)
            except NotFound:
                continue

    def list(
        self,
        account_id: str,
        *,
        purpose: str | None = None,
        after: str | None = None,
        limit: int = 10_000,
        order: Order = "desc",
    ) -> Page[File]:
        with self._store.begin() as session:
            return session.files.list(account_id, purpose=purpose, after=after, limit=limit, order=order)

    def get(self, account_id: str, file_id: str) -> File:
        """Raises NotFound."""
        with self._store.begin() as session:
            file = session.files.get(account_id, file_id)
        if file is None:
            raise _no_file(file_id)
        return file

    def delete(self, account_id: str, file_id: str) -> None:
        """Removes the row, then the bytes; allowed while a job uses it, as on Azure. Raises NotFound."""
        file = self.get(account_id, file_id)
        with self._store.begin() as session:
            gone = session.files.delete(account_id, file_id)
        if not gone:
            raise _no_file(file_id)
        self._blobs.delete(file.blob_key)

    def content(
        self, account_id: str, file_id: str, start: int = 0, length: int | None = None
    ) -> tuple[File, Iterator[bytes]]:
        """The file and its bytes from `start`, as they were uploaded. Raises NotFound."""
        file = self.get(account_id, file_id)
        try:
            return file, self._blobs.read(file.blob_key, start, length)
        except BlobMissing as error:
            raise Unavailable(f"The bytes of {file_id} cannot be read at the moment; try again.") from error

    def ping(self) -> None:
        """Raises when the store cannot be reached."""
        self._store.ping()

    def _counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        size = 0
        for chunk in chunks:
            size += len(chunk)
            if size > self._max_bytes:
                raise too_large(self._max_bytes)
            if chunk:
                yield chunk
        if size == 0:
            raise InvalidRequest("The file is empty; it must hold at least one line.", param="file")

    def _move(
        self,
        account_id: str,
        file_id: str,
        status: FileStatus,
        *,
        status_details: str | None = None,
        kind: str | None = None,
        examples: int | None = None,
    ) -> File:
        """Saves the file in its new status; one that has ended meanwhile is left alone and answered as it is."""
        with self._store.begin() as session:
            file = session.files.get(account_id, file_id)
            if file is None:
                raise _no_file(file_id)
            if file.status in _ENDED:
                return file
            if status is FileStatus.RUNNING and file.purpose is not Purpose.FINE_TUNE:
                status = FileStatus.PROCESSED
                # Results are written by the service itself: nothing to judge, but the table knows no short cut.
                check_move(file.status, FileStatus.RUNNING)
                file = replace(file, status=FileStatus.RUNNING)
            check_move(file.status, status)
            file = replace(file, status=status, status_details=status_details, kind=kind, examples=examples)
            session.files.save(file)
            return file


def _check_purpose(purpose: str) -> Purpose:
    """Raises InvalidRequest naming those that can be uploaded."""
    for known in _UPLOADABLE:
        if purpose == known:
            return known
    allowed = ", ".join(f"'{known}'" for known in _UPLOADABLE)
    raise InvalidRequest(f"'{purpose}' is not a purpose files can be uploaded for; use {allowed}.", param="purpose")


def too_large(max_bytes: int) -> PayloadTooLarge:
    limit = f"{max_bytes // 2**20} MB" if max_bytes >= 2**20 else f"{max_bytes} bytes"
    return PayloadTooLarge(f"The file is larger than {limit}, the largest that is taken; split it.", param="file")


def _clean_filename(filename: str) -> str:
    # Some browsers and tools send the whole path.
    name = filename.replace("\\", "/").rsplit("/", 1)[-1].strip()
    if not name:
        raise InvalidRequest("The file has no name; give one in the part's 'filename'.", param="file")
    if len(name) > MAX_FILENAME or not name.isprintable():
        raise InvalidRequest(
            f"The file's name must have at most {MAX_FILENAME} characters, all of them printable.", param="file"
        )
    return name


def _details(report: Report) -> str:
    lines = [str(problem) for problem in report.problems[:SHOWN_PROBLEMS]]
    more = report.problem_count - len(lines)
    if more > 0:
        lines.append(f"… and {more} more problem(s).")
    return "\n".join(lines)


def _no_file(file_id: str) -> NotFound:
    return NotFound(f"There is no file '{file_id}'; it may have been deleted.", param="file_id")
