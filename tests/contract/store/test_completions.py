"""CompletionTable: stored chat completions by account, in order, by what they carry."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tailorbird.domain.completions import StoredCompletion
from tailorbird.infra.store import SqlStore
from tailorbird.service.ports import AlreadyThere, Page, Session

ONE = StoredCompletion(
    id="chatcmpl-1",
    account_id="acct",
    created_at=datetime(2026, 1, 5, 12, tzinfo=UTC),
    model="gpt-4o-mini-2024-07-18",
    deployment="dep",
    request={"messages": [{"role": "user", "content": "Grüße \u0000"}], "temperature": 0.5},
    answer={"choices": [{"text": "ok"}], "usage": {}},
    metadata={"team": "a", "long": "x" * 512},
)
ALL: dict[str, Any] = {"model": None, "metadata": {}, "after": None, "limit": 10, "order": "asc"}


def listed(session: Session, **wanted: Any) -> Page[StoredCompletion]:
    asked: dict[str, Any] = {**ALL, **wanted}
    return session.completions.list("acct", **asked)


def test_a_completion_is_read_back_by_its_account_only(store: SqlStore) -> None:
    with store.begin() as session:
        session.completions.add(ONE)
    with store.begin() as session:
        assert session.completions.get("acct", ONE.id) == ONE
        assert session.completions.get("other", ONE.id) is None
        assert session.completions.list("other", **ALL).items == []


def test_an_id_is_taken_once(store: SqlStore) -> None:
    with store.begin() as session:
        session.completions.add(ONE)
        with pytest.raises(AlreadyThere):
            session.completions.add(replace(ONE, account_id="other"))


def test_lists_go_by_time_then_by_adding_in_pages(store: SqlStore) -> None:
    later, same, first = (
        replace(ONE, id=name, created_at=ONE.created_at + timedelta(seconds=age))
        for name, age in (("b", 1), ("a", 1), ("c", 0))
    )
    with store.begin() as session:
        for completion in (later, same, first):
            session.completions.add(completion)
        everything = listed(session)
        assert [c.id for c in everything.items] == ["c", "b", "a"]
        assert not everything.has_more
        page = listed(session, limit=2, order="desc")
        assert ([c.id for c in page.items], page.has_more) == (["a", "b"], True)
        rest = listed(session, after="b", order="desc")
        assert [c.id for c in rest.items] == ["c"]
        assert listed(session, after="unknown").items == []


def test_lists_are_filtered_by_model_deployment_and_all_pairs(store: SqlStore) -> None:
    other = replace(ONE, id="chatcmpl-2", model="gpt-4-0613", deployment=None, metadata={"team": "a", "n": "2"})
    with store.begin() as session:
        session.completions.add(ONE)
        session.completions.add(other)

        def found(**wanted: Any) -> list[str]:
            return [c.id for c in listed(session, **wanted).items]

        assert found(model="gpt-4-0613") == found(metadata={"n": "2"}) == ["chatcmpl-2"]
        assert found(model="dep") == found(metadata={"team": "a", "long": "x" * 512}) == ["chatcmpl-1"]
        assert found(metadata={"team": "a"}) == ["chatcmpl-1", "chatcmpl-2"]
        assert found(metadata={"team": "b"}) == found(model="gpt-4") == []


def test_metadata_is_replaced_as_a_whole_by_its_owner(store: SqlStore) -> None:
    with store.begin() as session:
        session.completions.add(ONE)
        assert not session.completions.set_metadata("other", ONE.id, {})
        assert session.completions.set_metadata("acct", ONE.id, {"new": "1"})
        assert session.completions.get("acct", ONE.id) == replace(ONE, metadata={"new": "1"})
        assert listed(session, metadata={"team": "a"}).items == []
        assert len(listed(session, metadata={"new": "1"}).items) == 1


def test_a_completion_is_deleted_once_by_its_owner_with_its_metadata(store: SqlStore) -> None:
    with store.begin() as session:
        session.completions.add(ONE)
        assert not session.completions.delete("other", ONE.id)
        assert session.completions.delete("acct", ONE.id)
        assert not session.completions.delete("acct", ONE.id)
        session.completions.add(ONE)
        assert listed(session, metadata={"team": "a"}).items == [ONE]
