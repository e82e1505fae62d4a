"""Files that arrive in parts: takes each as a stream, joins them in the order asked for, forgets the rest."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

from tailorbird.domain import ids
from tailorbird.domain.errors import FileTooLarge, IllegalState, InvalidRequest, NotFound
from tailorbird.domain.files import File, FileStatus, Purpose, check_filename, check_purpose
from tailorbird.domain.uploads import (
    LIFE_SECONDS,
    MAX_PART_BYTES,
    MAX_PARTS,
    Upload,
    UploadPart,
    UploadStatus,
    check_move,
    status_at,
)
from tailorbird.service.files import Files, delete_folder, in_words, too_large
from tailorbird.service.ports import BlobMissing, Blobs, Clock, Session, Store

MAX_MIME_TYPE = 255
_MD5_BYTES = 16
_SWEPT_AT_ONCE = 200
_GRACE = timedelta(minutes=10)
"""Parts stay so long after an upload has expired: it may be on its way to completion."""


class Uploads:
    """`max_bytes` is the largest upload (a fine-tuning file is bounded by the limit of files too), `max_part_bytes` its
    largest part, `life_seconds` the time for all of it."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        clock: Clock,
        new_hex: Callable[[], str],
        files: Files,
        max_bytes: int,
        *,
        max_part_bytes: int = MAX_PART_BYTES,
        life_seconds: float = LIFE_SECONDS,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._new_hex = new_hex
        self._files = files
        self._max_bytes = max_bytes
        self._max_part_bytes = max_part_bytes
        self._life = timedelta(seconds=life_seconds)

    def create(
        self, account_id: str, filename: str, purpose: str, size: int, mime_type: str, file_life: timedelta | None
    ) -> Upload:
        """Raises InvalidRequest, FileTooLarge and QuotaExceeded."""
        name = check_filename(filename, "filename")
        wanted = check_purpose(purpose)
        if size < 1:
            raise InvalidRequest("'bytes' must be at least 1, the size of the whole file.", param="bytes")
        limit = min(self._max_bytes, self._files.max_bytes) if wanted is Purpose.FINE_TUNE else self._max_bytes
        if size > limit:
            raise too_large(limit, "bytes")
        if not 1 <= len(mime_type) <= MAX_MIME_TYPE or not mime_type.isprintable():
            raise InvalidRequest("'mime_type' must be a media type such as 'text/jsonl'.", param="mime_type")
        self._files.check_room(account_id, wanted, size)
        now = self._clock.now()
        upload = Upload(
            id=ids.upload_id(self._new_hex()),
            account_id=account_id,
            filename=name,
            purpose=wanted,
            bytes=size,
            mime_type=mime_type,
            status=UploadStatus.PENDING,
            created_at=now,
            expires_at=now + self._life,
            file_seconds=None if file_life is None else int(file_life.total_seconds()),
        )
        with self._store.begin() as session:
            session.uploads.add(upload)
        return upload

    def get(self, account_id: str, upload_id: str) -> tuple[Upload, File | None]:
        """The upload, and its file while that exists. Raises NotFound."""
        with self._store.begin() as session:
            upload = self._at_now(session.uploads.get(account_id, upload_id), upload_id)
            file = None if upload.file_id is None else session.files.get(account_id, upload.file_id)
        return upload, file

    def add_part(self, account_id: str, upload_id: str, chunks: Iterable[bytes]) -> UploadPart:
        """Streams a part into a blob. Sending it again makes another part; what `complete` does not name is forgotten.

        Raises NotFound, IllegalState, InvalidRequest (no bytes), FileTooLarge; nothing is left behind then.
        """
        upload, _ = self.get(account_id, upload_id)
        _check_open(upload)
        part_id = ids.part_id(self._new_hex())
        key = f"{upload.folder}/{part_id}"
        size = self._blobs.put(key, self._counted(chunks, upload))
        stored = False
        try:
            with self._store.begin() as session:
                _check_open(self._at_now(session.uploads.hold(account_id, upload_id), upload_id))
                if session.uploads.count_parts(upload_id) >= MAX_PARTS:
                    raise InvalidRequest(f"The upload has {MAX_PARTS} parts, the most there may be; send larger ones.")
                part = UploadPart(part_id, upload_id, size, self._clock.now(), key)
                session.uploads.add_part(part)
            stored = True
        finally:
            if not stored:
                self._blobs.delete(key)
        return part

    def complete(
        self, account_id: str, upload_id: str, part_ids: Sequence[str], md5: str | None
    ) -> tuple[Upload, File]:
        """The parts as one file, pending, in this order. An upload completed before answers as it did then.

        Raises NotFound, IllegalState, QuotaExceeded and InvalidRequest (parts, size, md5); the upload stays open then.
        """
        wanted = None if md5 is None else _digest_of(md5)
        upload, done = self.get(account_id, upload_id)
        if upload.status is UploadStatus.COMPLETED:
            return _completed(upload, done)
        _check_open(upload)
        with self._store.begin() as session:
            chosen = _choose(upload, session.uploads.parts(upload_id), part_ids)
        file_id = ids.file_id(self._new_hex())
        key = f"{upload.folder}/{file_id}"
        digest = hashlib.md5(usedforsecurity=False)
        try:
            self._blobs.put(key, self._joined(chosen, digest))
        except BlobMissing:
            # Who was faster has completed or cancelled it.
            return _completed(*self.get(account_id, upload_id))
        mine = False
        try:
            if wanted is not None and digest.digest() != wanted:
                raise InvalidRequest(
                    f"'md5' does not match: the parts in this order have {digest.hexdigest()}.", param="md5"
                )
            with self._store.begin() as session:
                upload, file, mine = self._end(session, upload, file_id, key)
        finally:
            if not mine:
                self._blobs.delete(key)
        if mine:
            self._forget(upload, key)
        return _completed(upload, file)

    def cancel(self, account_id: str, upload_id: str) -> Upload:
        """Raises NotFound, and IllegalState for one that has ended otherwise; cancelling twice is cancelling once."""
        with self._store.begin() as session:
            upload = self._at_now(session.uploads.hold(account_id, upload_id), upload_id)
            if upload.status is UploadStatus.CANCELLED:
                return upload
            check_move(upload.status, UploadStatus.CANCELLED)
            upload = replace(upload, status=UploadStatus.CANCELLED)
            session.uploads.end(upload)
        self._forget(upload, None)
        return upload

    async def sweep(self) -> None:
        """Ends uploads whose time is up, and deletes what was kept for those that have ended."""
        await asyncio.to_thread(self._sweep)

    def _sweep(self) -> None:
        while True:
            with self._store.begin() as session:
                spent = session.uploads.spent(self._clock.now() - _GRACE, _SWEPT_AT_ONCE)
            for upload in spent:
                if upload.status is UploadStatus.PENDING:
                    with self._store.begin() as session:
                        ended = session.uploads.end(replace(upload, status=UploadStatus.EXPIRED))
                    if not ended:
                        continue
                with self._store.begin() as session:
                    file = None if upload.file_id is None else session.files.kept(upload.account_id, upload.file_id)
                self._forget(upload, None if file is None else file.blob_key)
            if len(spent) < _SWEPT_AT_ONCE:
                return

    def _forget(self, upload: Upload, but: str | None) -> None:
        delete_folder(self._blobs, upload.folder, but)
        with self._store.begin() as session:
            session.uploads.swept(upload.id)

    def _at_now(self, upload: Upload | None, upload_id: str) -> Upload:
        if upload is None:
            raise NotFound(f"There is no upload '{upload_id}'; start one with POST /uploads.", param="upload_id")
        return replace(upload, status=status_at(upload, self._clock.now()))

    def _end(self, session: Session, upload: Upload, file_id: str, key: str) -> tuple[Upload, File | None, bool]:
        """The upload as it ends here, or as another request has ended it meanwhile; the third value says which."""
        current = self._at_now(session.uploads.hold(upload.account_id, upload.id), upload.id)
        if current.status is UploadStatus.COMPLETED:
            return current, session.files.get(current.account_id, current.file_id or ""), False
        if current.status is UploadStatus.CANCELLED:
            check_move(current.status, UploadStatus.COMPLETED)
        now = self._clock.now()
        file = File(
            id=file_id,
            account_id=upload.account_id,
            filename=upload.filename,
            purpose=upload.purpose,
            bytes=upload.bytes,
            status=FileStatus.PENDING,
            created_at=now,
            blob_key=key,
            expires_at=None if upload.file_life is None else now + upload.file_life,
        )
        ended = replace(upload, status=UploadStatus.COMPLETED, file_id=file_id)
        if not session.uploads.end(ended):
            raise IllegalState("The upload has expired; start a new one.")
        self._files.admit(session, file)
        return ended, file, True

    def _joined(self, parts: Sequence[UploadPart], digest: hashlib._Hash) -> Iterator[bytes]:
        for part in parts:
            for chunk in self._blobs.read(part.blob_key):
                digest.update(chunk)
                yield chunk

    def _counted(self, chunks: Iterable[bytes], upload: Upload) -> Iterator[bytes]:
        size = 0
        for chunk in chunks:
            size += len(chunk)
            self.check_part(size)
            if size > upload.bytes:
                raise InvalidRequest(
                    f"The part is larger than the whole upload, whose 'bytes' is {upload.bytes}.", param="data"
                )
            if chunk:
                yield chunk
        if size == 0:
            raise InvalidRequest("The part is empty; it must hold at least one byte.", param="data")

    def check_part(self, size: int) -> None:
        """Raises FileTooLarge."""
        if size > self._max_part_bytes:
            raise FileTooLarge(
                f"The part is larger than {in_words(self._max_part_bytes)}, the largest that is taken; cut it smaller.",
                param="data",
            )


def _check_open(upload: Upload) -> None:
    if upload.status is not UploadStatus.PENDING:
        raise IllegalState(f"The upload is {upload.status}; start a new one.")


def _completed(upload: Upload, file: File | None) -> tuple[Upload, File]:
    if upload.status is not UploadStatus.COMPLETED:
        raise IllegalState(f"The upload is {upload.status}; start a new one.")
    if file is None:
        raise IllegalState("The upload was completed, and its file has been deleted since; start a new one.")
    return upload, file


def _choose(upload: Upload, parts: Sequence[UploadPart], part_ids: Sequence[str]) -> list[UploadPart]:
    """The parts in the order asked for, their sum checked. Raises InvalidRequest."""
    known = {name: part for part in parts for name in (part.id, ids.block_id(part.id))}
    for index, part_id in enumerate(part_ids):
        if part_id not in known:
            raise InvalidRequest(f"There is no part '{part_id}' in this upload.", param=f"part_ids[{index}]")
    chosen = [known[part_id] for part_id in part_ids]
    if len({part.id for part in chosen}) != len(chosen):
        raise InvalidRequest("'part_ids' names a part twice.", param="part_ids")
    size = sum(part.bytes for part in chosen)
    if size != upload.bytes:
        raise InvalidRequest(
            f"The parts hold {size} bytes together, but the upload's 'bytes' is {upload.bytes}; name all its parts.",
            param="part_ids",
        )
    return chosen


def _digest_of(text: str) -> bytes:
    """From hexadecimal or base64. Raises InvalidRequest."""
    for read in (bytes.fromhex, _from_base64):
        try:
            digest = read(text)
        except (ValueError, binascii.Error):
            continue
        if len(digest) == _MD5_BYTES:
            return digest
    raise InvalidRequest("'md5' is no MD5 checksum: send 32 hexadecimal digits, or base64 of 16 bytes.", param="md5")


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
