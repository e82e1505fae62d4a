"""Takes uploads into blobs, judges what needs judging, hands bytes out again, deletes what has expired."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta

from tailorbird.domain import ids
from tailorbird.domain.access import Action
from tailorbird.domain.errors import FileTooLarge, IllegalState, InvalidRequest, NotFound, QuotaExceeded, Unavailable
from tailorbird.domain.files import (
    MAX_FILES,
    MAX_FILES_BYTES,
    File,
    FileStatus,
    Purpose,
    check_filename,
    check_move,
    check_purpose,
)
from tailorbird.service.audit import record, resource_in
from tailorbird.service.judging import JUDGED, judge
from tailorbird.service.ports import BlobMissing, Blobs, Clock, Order, Page, Session, Store

ENDED = frozenset({FileStatus.PROCESSED, FileStatus.ERROR})
_SWEPT_AT_ONCE = 200


class Files:
    """`new_hex` gives 32 fresh hex digits a call; `max_bytes` is the largest file that is taken.

    `max_files` and `max_files_bytes` are what one account's fine-tuning files may come to.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        clock: Clock,
        new_hex: Callable[[], str],
        max_bytes: int,
        *,
        max_files: int = MAX_FILES,
        max_files_bytes: int = MAX_FILES_BYTES,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._new_hex = new_hex
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._max_files_bytes = max_files_bytes

    @property
    def max_bytes(self) -> int:
        return self._max_bytes

    def upload(
        self,
        account_id: str,
        filename: str,
        purpose: str,
        chunks: Iterable[bytes],
        life: Callable[[], timedelta | None] = lambda: None,
    ) -> File:
        """Streams the bytes into a blob in constant memory; the row appears, pending, once they are complete.

        `life` is asked when the bytes are in, as a form may say it behind its file. Raises InvalidRequest (purpose,
        file name, no bytes), FileTooLarge and QuotaExceeded; nothing is left behind then, nor when `chunks` or `life`
        itself raises.
        """
        name = check_filename(filename)
        wanted = check_purpose(purpose)
        self.check_room(account_id, wanted)
        file_id = ids.file_id(self._new_hex())
        key = f"accounts/{account_id}/files/{file_id}"
        size = self._blobs.put(key, self._counted(chunks))
        stored = False
        try:
            now = self._clock.now()
            lasts = life()
            file = File(
                id=file_id,
                account_id=account_id,
                filename=name,
                purpose=wanted,
                bytes=size,
                status=FileStatus.PENDING,
                created_at=now,
                blob_key=key,
                expires_at=None if lasts is None else now + lasts,
            )
            with self._store.begin() as session:
                self.admit(session, file)
            stored = True
        finally:
            if not stored:
                self._blobs.delete(key)
        return file

    def check_room(self, account_id: str, purpose: Purpose, size: int = 0) -> None:
        """Raises QuotaExceeded when another file of `size` bytes would be too many; `admit` has the last word."""
        with self._store.begin() as session:
            self._check_quota(session, account_id, purpose, more=1, size=size)

    def admit(self, session: Session, file: File) -> None:
        """Adds the row, within the account's limits also when several come at once. Raises QuotaExceeded."""
        session.files.add(file)
        self._check_quota(session, file.account_id, file.purpose)

    def check_bytes(self, session: Session, file: File, size: int) -> None:
        """Raises QuotaExceeded when a file whose row is there grows to `size` and its account has no room for that."""
        self._check_quota(session, file.account_id, file.purpose, size=size - file.bytes)

    def arrived(self, session: Session, file: File, size: int) -> File:
        """Saves the size of a file whose row was there before its bytes. Raises QuotaExceeded."""
        whole = replace(file, bytes=size)
        session.files.save(whole)
        self._check_quota(session, file.account_id, file.purpose)
        return whole

    def _check_quota(
        self, session: Session, account_id: str, purpose: Purpose, *, more: int = 0, size: int = 0
    ) -> None:
        if purpose is not Purpose.FINE_TUNE:
            return
        count = session.files.count(account_id, purpose)
        if count.files + more > self._max_files:
            raise QuotaExceeded(
                f"This resource already has {self._max_files} fine-tuning files, the most it may have. "
                "Delete some that are no longer needed."
            )
        if count.bytes + size > self._max_files_bytes:
            raise QuotaExceeded(
                f"This resource's fine-tuning files would be larger than {in_words(self._max_files_bytes)} together. "
                "Delete some that are no longer needed."
            )

    def process(self, account_id: str, file_id: str) -> File:
        """Judges a pending file: processed, or error with every problem's line in `status_details`.

        Safe to run again and by two at once: both come to the same end, and an end is never changed. A file still being
        fetched is left as it is. Raises NotFound.
        """
        file = self._move(account_id, file_id, FileStatus.RUNNING)
        if file.status is not FileStatus.RUNNING:
            return file
        try:
            found = judge(file.purpose, self._blobs.read(file.blob_key))
        except BlobMissing:
            return self._move(
                account_id, file_id, FileStatus.ERROR, status_details="The file's bytes are gone; upload it again."
            )
        if found.details is not None:
            return self._move(account_id, file_id, FileStatus.ERROR, status_details=found.details)
        return self._move(account_id, file_id, FileStatus.PROCESSED, kind=found.kind, examples=found.examples)

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
            raise no_file(file_id)
        return file

    def delete(self, account_id: str, file_id: str) -> None:
        """Removes the row, then the bytes; allowed while a job uses it, as on Azure. Raises NotFound."""
        file = self.get(account_id, file_id)
        with self._store.begin() as session:
            gone = session.files.delete(account_id, file_id)
            fetched = session.imports.delete(file_id)
            if gone:
                self._record_deletion(session, file)
        if not gone:
            raise no_file(file_id)
        self._blobs.delete(file.blob_key)
        if fetched:
            delete_folder(self._blobs, import_folder(account_id, file_id))

    async def sweep(self) -> None:
        """Deletes files past their expiry, but for those a job that has not ended was made with."""
        await asyncio.to_thread(self._sweep)

    def _sweep(self) -> None:
        while True:
            with self._store.begin() as session:
                expired = session.files.expired(self._clock.now(), _SWEPT_AT_ONCE)
            for file in expired:
                # The row is not shown any more, so it may go last: a crash in between leaves nothing nobody knows of.
                delete_folder(self._blobs, import_folder(file.account_id, file.id))
                self._blobs.delete(file.blob_key)
                with self._store.begin() as session:
                    session.imports.delete(file.id)
                    if session.files.delete(file.account_id, file.id):
                        self._record_deletion(session, file, "expired")
            if len(expired) < _SWEPT_AT_ONCE:
                return

    def content(self, file: File, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The file's bytes from `start`, as they were uploaded. Raises IllegalState and Unavailable."""
        try:
            return self._blobs.read(file.blob_key, start, length)
        except BlobMissing as error:
            with self._store.begin() as session:
                fetched = session.imports.get(file.id) is not None
            if fetched:
                raise IllegalState(f"{file.id} is still being imported; wait until it is processed.") from error
            if file.status is FileStatus.ERROR:
                raise IllegalState(f"{file.id} has no content: {file.status_details}") from error
            raise Unavailable(f"The bytes of {file.id} cannot be read at the moment; try again.") from error

    def _record_deletion(self, session: Session, file: File, why: str = "") -> None:
        resource = resource_in(session, file.account_id, f"/files/{file.id}")
        record(session, self._clock.now(), Action.DELETE_FILE, resource, why)

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
                raise no_file(file_id)
            if file.status in ENDED:
                return file
            if status is FileStatus.RUNNING and session.imports.get(file_id) is not None:
                return file
            if status is FileStatus.RUNNING and file.purpose not in JUDGED:
                status = FileStatus.PROCESSED
                # There is nothing to judge, but the table knows no short cut.
                check_move(file.status, FileStatus.RUNNING)
                file = replace(file, status=FileStatus.RUNNING)
            check_move(file.status, status)
            file = replace(file, status=status, status_details=status_details, kind=kind, examples=examples)
            session.files.save(file)
            return file


def too_large(max_bytes: int, param: str = "file") -> FileTooLarge:
    return FileTooLarge(
        f"The file is larger than {in_words(max_bytes)}, the largest that is taken; split it.", param=param
    )


def in_words(size: int) -> str:
    return f"{size // 2**20} MB" if size >= 2**20 else f"{size} bytes"


def import_folder(account_id: str, file_id: str) -> str:
    """Where the pieces of a file that is being fetched are kept."""
    return f"accounts/{account_id}/imports/{file_id}"


def delete_folder(blobs: Blobs, folder: str, but: str | None = None) -> None:
    """Every blob below the folder, `but` one."""
    for key in blobs.list(folder):
        if key != but:
            blobs.delete(key)


def no_file(file_id: str) -> NotFound:
    return NotFound(f"There is no file '{file_id}'; it may have been deleted or have expired.", param="file_id")
