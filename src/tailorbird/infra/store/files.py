"""Uploaded files, and where those still being fetched come from."""

from __future__ import annotations

import builtins
from datetime import datetime

import sqlalchemy as sa

from tailorbird.domain.files import File, FileImport
from tailorbird.infra.store.rows import Rows, insert_new
from tailorbird.infra.tables.access import accounts
from tailorbird.infra.tables.files import file_imports, files
from tailorbird.infra.tables.jobs import jobs
from tailorbird.service.ports import AlreadyThere, FileCount, Order, Page

_FILES = Rows(File, files)
_IMPORTS = Rows(FileImport, file_imports)


class SqlFiles:
    """`now` tells which files are past their expiry."""

    def __init__(self, connection: sa.Connection, now: datetime) -> None:
        self._connection = connection
        self._alive = sa.or_(files.c.expires_at.is_(None), files.c.expires_at > now)

    def add(self, file: File) -> None:
        if not insert_new(self._connection, files, _FILES.values(file), ("id",)):
            raise AlreadyThere(file.id)

    def get(self, account_id: str, file_id: str) -> File | None:
        return _FILES.one(self._connection, files.c.id == file_id, files.c.account_id == account_id, self._alive)

    def kept(self, account_id: str, file_id: str) -> File | None:
        return _FILES.one(self._connection, files.c.id == file_id, files.c.account_id == account_id)

    def list(self, account_id: str, *, purpose: str | None, after: str | None, limit: int, order: Order) -> Page[File]:
        """Files of one moment come in the order they were added; `after` must be in the same list."""
        conditions = [files.c.account_id == account_id, self._alive]
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
        fetched = files.c.id.not_in(sa.select(file_imports.c.file_id))
        return _FILES.all(self._connection, waiting, fetched, order=[files.c.seq])

    def count(self, account_id: str, purpose: str) -> FileCount:
        # SQLite has one writer at a time anyway; PostgreSQL's wait for each other at the account's row.
        self._connection.execute(sa.select(accounts.c.id).where(accounts.c.id == account_id).with_for_update())
        row = self._connection.execute(
            sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(files.c.bytes), 0)).where(
                files.c.account_id == account_id,
                sa.type_coerce(files.c.purpose, sa.Text) == purpose,
                self._alive,
            )
        ).one()
        return FileCount(int(row[0]), int(row[1]))

    def expired(self, now: datetime, limit: int) -> builtins.list[File]:
        used = sa.exists().where(
            jobs.c.account_id == files.c.account_id,
            jobs.c.ended.is_(sa.false()),
            sa.or_(jobs.c.training_file == files.c.id, jobs.c.validation_file == files.c.id),
        )
        query = sa.select(*_FILES.columns).where(files.c.expires_at <= now, ~used).order_by(files.c.expires_at)
        return [_FILES.thing(row) for row in self._connection.execute(query.limit(limit)).mappings()]


class SqlImports:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, row: FileImport) -> None:
        self._connection.execute(sa.insert(file_imports).values(_IMPORTS.values(row)))

    def get(self, file_id: str) -> FileImport | None:
        return _IMPORTS.one(self._connection, file_imports.c.file_id == file_id)

    def unfinished(self) -> builtins.list[FileImport]:
        return _IMPORTS.all(self._connection, order=[file_imports.c.seq])

    def advance(self, row: FileImport, *, received: int, version: str | None) -> bool:
        here = (
            file_imports.c.file_id == row.file_id,
            file_imports.c.received == row.received,
            file_imports.c.version.is_not_distinct_from(row.version),
        )
        moved = sa.update(file_imports).where(*here).values(received=received, version=version)
        return self._connection.execute(moved).rowcount > 0

    def delete(self, file_id: str) -> bool:
        gone = sa.delete(file_imports).where(file_imports.c.file_id == file_id)
        return self._connection.execute(gone).rowcount > 0
