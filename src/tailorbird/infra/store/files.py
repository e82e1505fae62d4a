"""Uploaded files."""

from __future__ import annotations

import builtins

import sqlalchemy as sa

from tailorbird.domain.files import File
from tailorbird.infra.schema import files
from tailorbird.infra.store.rows import Rows, insert_new
from tailorbird.service.ports import AlreadyThere, Order, Page

_FILES = Rows(File, files)


class SqlFiles:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, file: File) -> None:
        if not insert_new(self._connection, files, _FILES.values(file), ("id",)):
            raise AlreadyThere(file.id)

    def get(self, account_id: str, file_id: str) -> File | None:
        return _FILES.one(self._connection, files.c.id == file_id, files.c.account_id == account_id)

    def list(self, account_id: str, *, purpose: str | None, after: str | None, limit: int, order: Order) -> Page[File]:
        """Files of one moment come in the order they were added; `after` must be in the same list."""
        conditions = [files.c.account_id == account_id]
        if purpose is not None:
            # Compared as text: a purpose nobody knows yields nothing.
            conditions.append(sa.type_coerce(files.c.purpose, sa.Text) == purpose)
        return _FILES.page(
            self._connection,
            *conditions,
            order=[files.c.created_at, files.c.seq],
            descending=order == "desc",
            last=None if after is None else files.c.id == after,
            limit=limit,
        )

    def save(self, file: File) -> None:
        """A file deleted meanwhile stays deleted."""
        same = (files.c.id == file.id, files.c.account_id == file.account_id)
        self._connection.execute(sa.update(files).where(*same).values(_FILES.values(file)))

    def delete(self, account_id: str, file_id: str) -> bool:
        same = (files.c.id == file_id, files.c.account_id == account_id)
        return self._connection.execute(sa.delete(files).where(*same)).rowcount > 0

    def unfinished(self) -> builtins.list[File]:
        """Oldest first."""
        waiting = sa.text("status IN ('pending', 'running')")
        return _FILES.all(self._connection, waiting, order=[files.c.seq])
