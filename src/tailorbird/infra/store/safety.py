"""Verdicts on models."""

from __future__ import annotations

import sqlalchemy as sa

from tailorbird.domain.safety import Verdict
from tailorbird.infra.store.rows import Rows, insert_or_replace
from tailorbird.infra.tables.safety import verdicts

_VERDICTS = Rows(Verdict, verdicts)


class SqlVerdicts:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def put(self, verdict: Verdict) -> None:
        insert_or_replace(self._connection, verdicts, _VERDICTS.values(verdict), ("subject", "set_version"))

    def get(self, subject: str, set_version: str) -> Verdict | None:
        c = verdicts.c
        return _VERDICTS.one(self._connection, c.subject == subject, c.set_version == set_version)

    def newest(self, subject: str) -> Verdict | None:
        c = verdicts.c
        order = [c.measured_at.desc(), c.seq.desc()]
        return next(iter(_VERDICTS.all(self._connection, c.subject == subject, order=order)), None)
