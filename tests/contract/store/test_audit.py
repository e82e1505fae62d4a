"""The audit trail on SQLite and PostgreSQL: found by everything it is asked by, never changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from tailorbird.domain.audit import Entry, Outcome, Wanted
from tailorbird.infra.store import SqlStore
from tailorbird.service.ports import Page

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
GROUP = "/subscriptions/S/resourceGroups/G"
ENTRY = Entry(AT, "a/keys/action", f"{GROUP}/x", Outcome.SUCCEEDED, "id-1", "Anna", "r1", "10.0.0.1", "why")

Add = Callable[..., None]
Find = Callable[..., Page[Entry]]


@pytest.fixture
def add(store: SqlStore) -> Add:
    def write(**changes: Any) -> None:
        with store.begin() as tx:
            tx.audit.add(dataclasses.replace(ENTRY, **changes))

    return write


@pytest.fixture
def find(store: SqlStore) -> Find:
    def read(
        scopes: tuple[str, ...] = ("/",), before: int | None = None, limit: int = 10, **wanted: Any
    ) -> Page[Entry]:
        with store.begin() as tx:
            return tx.audit.list(Wanted(scopes, **wanted), before=before, limit=limit)

    return read


def test_an_entry_comes_back_as_it_was_written_with_its_number(add: Add, find: Find) -> None:
    add()
    [found] = find().items
    assert dataclasses.replace(found, number=0) == ENTRY
    assert found.number > 0


def test_pages_go_from_the_newest_to_the_oldest(add: Add, find: Find) -> None:
    for number in range(5):
        add(request_id=f"r{number}")
    first = find(limit=2)
    second = find(before=first.items[-1].number, limit=2)
    last = find(before=second.items[-1].number, limit=2)
    assert [e.request_id for page in (first, second, last) for e in page.items] == ["r4", "r3", "r2", "r1", "r0"]
    assert [page.has_more for page in (first, second, last)] == [True, True, False]


@pytest.mark.parametrize(
    ("scopes", "found"),
    [
        (
            ("/",),
            {"/tailorbird/logins/x", "/subscriptions/S/resourceGroups/G/x", "/subscriptions/S/resourceGroups/G2/x"},
        ),
        (("/SUBSCRIPTIONS/s/resourcegroups/g/",), {"/subscriptions/S/resourceGroups/G/x"}),
        (("/subscriptions/S", "/tailorbird"), {"/tailorbird/logins/x", f"{GROUP}/x", f"{GROUP}2/x"}),
        (("/subscriptions/_",), set[str]()),
        ((), set[str]()),
    ],
)
def test_a_scope_holds_what_lies_below_it_in_any_case(
    add: Add, find: Find, scopes: tuple[str, ...], found: set[str]
) -> None:
    for resource in (f"{GROUP}/x", f"{GROUP}2/x", "/tailorbird/logins/x"):
        add(resource=resource)
    assert {entry.resource for entry in find(scopes).items} == found


@pytest.mark.parametrize(
    "wanted",
    [
        {"principal": "id-2"},
        {"principal": "bERT"},
        {"action": "A/Roles/write"},
        {"action": "a/ro*"},
        {"outcome": Outcome.DENIED},
        {"request_id": "r2"},
        {"since": AT + timedelta(seconds=1)},
    ],
    ids=str,
)
def test_each_filter_finds_its_own(add: Add, find: Find, wanted: dict[str, Any]) -> None:
    add()
    other = {"principal_id": "id-2", "principal_name": "Bert", "action": "a/roles/write", "outcome": Outcome.DENIED}
    add(**other, request_id="r2", at=AT + timedelta(seconds=1))
    assert [entry.request_id for entry in find(**wanted).items] == ["r2"]


def test_until_leaves_out_its_own_moment(add: Add, find: Find) -> None:
    add()
    add(at=AT + timedelta(seconds=1), request_id="r2")
    assert [entry.request_id for entry in find(until=AT + timedelta(seconds=1)).items] == ["r1"]


def test_a_nul_somebody_typed_is_kept_as_a_replacement(add: Add, find: Find) -> None:
    add(principal_name="an\x00na")
    assert find().items[0].principal_name == "an\N{REPLACEMENT CHARACTER}na"


def test_what_is_rolled_back_was_never_written(store: SqlStore, find: Find) -> None:
    def fail() -> None:
        with store.begin() as tx:
            tx.audit.add(ENTRY)
            raise RuntimeError("the work failed after its entry")

    with pytest.raises(RuntimeError):
        fail()
    assert find().items == []


@pytest.mark.parametrize(
    "statement", ["UPDATE audit SET principal_name = 'nobody'", "DELETE FROM audit", "DELETE FROM audit WHERE seq > 0"]
)
def test_the_database_refuses_to_change_or_delete(add: Add, find: Find, engine: sa.Engine, statement: str) -> None:
    add()
    with pytest.raises(exc.DBAPIError, match="the audit trail only grows"), engine.begin() as connection:
        connection.exec_driver_sql(statement)
    assert len(find().items) == 1


def test_postgresql_refuses_to_truncate(add: Add, find: Find, engine: sa.Engine) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no TRUNCATE")
    add()
    with pytest.raises(exc.DBAPIError, match="the audit trail only grows"), engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE audit")
    assert len(find().items) == 1


def test_a_purged_account_leaves_its_trail(add: Add, find: Find, store: SqlStore) -> None:
    add()
    with store.begin() as tx:
        tx.accounts.purge("account-1")
    assert len(find().items) == 1
