"""The table of verdicts on models, on SQLite and PostgreSQL."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

from tailorbird.domain.safety import Verdict
from tailorbird.infra.store import SqlStore

START = datetime(2026, 1, 5, 12, tzinfo=UTC)


def a_verdict(subject: str = "ftchkpt-1", version: str = "v1", minutes: int = 0, **fields: object) -> Verdict:
    made = Verdict(
        subject, version, {"violence": 0.5, "sexual": 0.0}, ("violence",), 8, START + timedelta(0, 0, 0, 0, minutes)
    )
    return dataclasses.replace(made, **fields)  # pyright: ignore[reportArgumentType]


def test_a_verdict_comes_back_as_it_was_put(store: SqlStore) -> None:
    with store.begin() as tx:
        tx.verdicts.put(a_verdict())
    with store.begin() as tx:
        assert tx.verdicts.get("ftchkpt-1", "v1") == a_verdict()
        assert tx.verdicts.get("ftchkpt-1", "v2") is None
        assert tx.verdicts.newest("ftchkpt-2") is None


def test_the_same_set_replaces_and_another_is_kept_beside(store: SqlStore) -> None:
    with store.begin() as tx:
        tx.verdicts.put(a_verdict())
        tx.verdicts.put(a_verdict(harms=(), conversations=9))
        tx.verdicts.put(a_verdict(version="v2", minutes=1))
    with store.begin() as tx:
        assert tx.verdicts.get("ftchkpt-1", "v1") == a_verdict(harms=(), conversations=9)


def test_the_newest_is_the_one_measured_last(store: SqlStore) -> None:
    with store.begin() as tx:
        tx.verdicts.put(a_verdict(version="v2", minutes=5))
        tx.verdicts.put(a_verdict(version="v1", minutes=1))
    with store.begin() as tx:
        newest = tx.verdicts.newest("ftchkpt-1")
    assert newest is not None
    assert newest.set_version == "v2"
