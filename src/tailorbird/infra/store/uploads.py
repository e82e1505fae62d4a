"""Multi-part uploads and their parts."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from tailorbird.domain.uploads import Upload, UploadPart, UploadStatus
from tailorbird.infra.store.rows import Rows, insert_new
from tailorbird.infra.tables.uploads import upload_parts, uploads
from tailorbird.service.ports import AlreadyThere

_UPLOADS = Rows(Upload, uploads)
_PARTS = Rows(UploadPart, upload_parts)


class SqlUploads:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, upload: Upload) -> None:
        if not insert_new(self._connection, uploads, {**_UPLOADS.values(upload), "swept": False}, ("id",)):
            raise AlreadyThere(upload.id)

    def get(self, account_id: str, upload_id: str) -> Upload | None:
        return _UPLOADS.one(self._connection, uploads.c.id == upload_id, uploads.c.account_id == account_id)

    def hold(self, account_id: str, upload_id: str) -> Upload | None:
        # An UPDATE of nothing: it makes SQLite's transaction a writing one, where FOR UPDATE would be left out.
        same = (uploads.c.id == upload_id, uploads.c.account_id == account_id)
        self._connection.execute(sa.update(uploads).where(*same).values(swept=uploads.c.swept))
        return _UPLOADS.one(self._connection, *same)

    def end(self, upload: Upload) -> bool:
        pending = sa.type_coerce(uploads.c.status, sa.Text) == UploadStatus.PENDING.value
        ended = sa.update(uploads).where(uploads.c.id == upload.id, pending)
        return self._connection.execute(ended.values(status=upload.status, file_id=upload.file_id)).rowcount > 0

    def add_part(self, part: UploadPart) -> None:
        if not insert_new(self._connection, upload_parts, _PARTS.values(part), ("id",)):
            raise AlreadyThere(part.id)

    def parts(self, upload_id: str) -> list[UploadPart]:
        return _PARTS.all(self._connection, upload_parts.c.upload_id == upload_id, order=[upload_parts.c.seq])

    def count_parts(self, upload_id: str) -> int:
        query = sa.select(sa.func.count()).select_from(upload_parts).where(upload_parts.c.upload_id == upload_id)
        return self._connection.execute(query).scalar_one()

    def spent(self, before: datetime, limit: int) -> list[Upload]:
        over = sa.or_(
            sa.type_coerce(uploads.c.status, sa.Text) != UploadStatus.PENDING.value, uploads.c.expires_at <= before
        )
        query = sa.select(*_UPLOADS.columns).where(uploads.c.swept.is_(sa.false()), over).order_by(uploads.c.expires_at)
        return [_UPLOADS.thing(row) for row in self._connection.execute(query.limit(limit)).mappings()]

    def swept(self, upload_id: str) -> None:
        self._connection.execute(sa.delete(upload_parts).where(upload_parts.c.upload_id == upload_id))
        self._connection.execute(sa.update(uploads).where(uploads.c.id == upload_id).values(swept=True))
