"""Stored chat completions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import sqlalchemy as sa

from tailorbird.domain.completions import StoredCompletion
from tailorbird.infra.store.rows import Rows, insert_new
from tailorbird.infra.tables.completions import completion_metadata, completions
from tailorbird.service.ports import AlreadyThere, Order, Page

_COMPLETIONS = Rows(StoredCompletion, completions)


class SqlCompletions:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, completion: StoredCompletion) -> None:
        if not insert_new(self._connection, completions, _COMPLETIONS.values(completion), ("id",)):
            raise AlreadyThere(completion.id)
        self._add_pairs(completion.id, completion.metadata)

    def get(self, account_id: str, completion_id: str) -> StoredCompletion | None:
        return _COMPLETIONS.one(self._connection, *_own(account_id, completion_id))

    def list(
        self,
        account_id: str,
        *,
        model: str | None,
        metadata: Mapping[str, str],
        after: str | None,
        limit: int,
        order: Order,
    ) -> Page[StoredCompletion]:
        c, pairs = completions.c, completion_metadata.c
        carried = [
            c.id.in_(sa.select(pairs.completion_id).where(pairs.pair_key == pair)) for pair in _pair_keys(metadata)
        ]
        named = sa.true() if model is None else sa.or_(c.model == model, c.deployment == model)
        return _COMPLETIONS.page(
            self._connection,
            c.account_id == account_id,
            named,
            *carried,
            order=[c.created_at, c.seq],
            descending=order == "desc",
            last=None if after is None else c.id == after,
            limit=limit,
        )

    def set_metadata(self, account_id: str, completion_id: str, metadata: Mapping[str, str]) -> bool:
        change = sa.update(completions).where(*_own(account_id, completion_id)).values(metadata=dict(metadata))
        if self._connection.execute(change).rowcount == 0:
            return False
        old = completion_metadata.c.completion_id == completion_id
        self._connection.execute(sa.delete(completion_metadata).where(old))
        self._add_pairs(completion_id, metadata)
        return True

    def delete(self, account_id: str, completion_id: str) -> bool:
        # Its metadata goes with the row it points at (ON DELETE CASCADE).
        return self._connection.execute(sa.delete(completions).where(*_own(account_id, completion_id))).rowcount > 0

    def _add_pairs(self, completion_id: str, metadata: Mapping[str, str]) -> None:
        rows = [{"pair_key": pair, "completion_id": completion_id} for pair in _pair_keys(metadata)]
        if rows:
            self._connection.execute(sa.insert(completion_metadata), rows)


def _own(account_id: str, completion_id: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return completions.c.id == completion_id, completions.c.account_id == account_id


def _pair_keys(metadata: Mapping[str, str]) -> list[str]:
    return sorted(hashlib.sha256(json.dumps(pair).encode()).hexdigest() for pair in metadata.items())
