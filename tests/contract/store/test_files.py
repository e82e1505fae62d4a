"""FileTable: own files only, pages by time, saves and deletes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tailorbird.domain.files import File, FileStatus, Purpose
from tailorbird.infra.store import SqlStore
from tailorbird.service.ports import AlreadyThere

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def a_file(number: int, **fields: object) -> File:
    plain = File(
        id=f"file-{number:032x}",
        account_id="acct",
        filename="träining.jsonl",
        purpose=Purpose.FINE_TUNE,
        bytes=6_000_000_000,
        status=FileStatus.PENDING,
        created_at=NOON,
        blob_key=f"files/{number}",
    )
    return replace(plain, **fields)


def listed(store: SqlStore, **options: Any) -> tuple[list[int], bool]:
    usual: dict[str, Any] = {"purpose": None, "after": None, "limit": 100, "order": "desc"}
    with store.begin() as session:
        page = session.files.list("acct", **(usual | options))
    return [int(file.id.removeprefix("file-"), 16) for file in page.items], page.has_more


def add(store: SqlStore, *files: File) -> None:
    with store.begin() as session:
        for file in files:
            session.files.add(file)


def test_a_file_comes_back_as_it_was_saved(store: SqlStore) -> None:
    add(store, a_file(1))
    done = a_file(1, status=FileStatus.PROCESSED, kind="chat", examples=302, status_details="fine")
    with store.begin() as session:
        assert session.files.get("acct", done.id) == a_file(1)
        session.files.save(done)
    with store.begin() as session:
        assert session.files.get("acct", done.id) == done


def test_a_taken_id_is_refused_even_in_another_account(store: SqlStore) -> None:
    add(store, a_file(1))
    with store.begin() as session:
        for twin in (a_file(1, bytes=1), a_file(1, account_id="other")):
            with pytest.raises(AlreadyThere):
                session.files.add(twin)
        assert session.files.get("acct", a_file(1).id) == a_file(1)


def test_another_accounts_file_is_not_there(store: SqlStore) -> None:
    foreign = a_file(1, account_id="other")
    add(store, foreign)
    assert listed(store) == ([], False)
    with store.begin() as session:
        assert session.files.get("acct", foreign.id) is None
        assert not session.files.delete("acct", foreign.id)
        session.files.save(a_file(1, filename="mine now"))
        assert session.files.get("other", foreign.id) == foreign


def test_files_are_listed_by_time_in_either_order(store: SqlStore) -> None:
    # Added in another order than created.
    add(store, *(a_file(n, created_at=NOON + timedelta(seconds=n)) for n in (2, 1, 3)))
    assert listed(store, order="desc") == ([3, 2, 1], False)
    assert listed(store, order="asc") == ([1, 2, 3], False)


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_meet_without_gap_or_overlap_when_all_were_created_at_once(store: SqlStore, order: str) -> None:
    numbers = [5, 3, 9, 1, 7]
    add(store, *(a_file(n) for n in numbers))
    wanted = numbers if order == "asc" else numbers[::-1]
    seen: list[int] = []
    after, more = None, True
    while more:
        page, more = listed(store, after=after, limit=2, order=order)
        seen += page
        after = a_file(page[-1]).id
    assert seen == wanted


def test_a_page_says_whether_more_follows(store: SqlStore) -> None:
    add(store, *(a_file(n) for n in (1, 2, 3)))
    assert listed(store, limit=2)[1]
    assert not listed(store, limit=3)[1]
    assert not listed(store, limit=2, after=a_file(2).id)[1]


def test_only_files_of_the_purpose_are_listed(store: SqlStore) -> None:
    add(store, a_file(1), a_file(2, purpose=Purpose.FINE_TUNE_RESULTS), a_file(3))
    assert listed(store, purpose="fine-tune") == ([3, 1], False)
    assert listed(store, purpose="fine-tune", limit=1) == ([3], True)
    assert listed(store, purpose="fine-tune", after=a_file(3).id) == ([1], False)
    assert listed(store, purpose="fine-tune-results") == ([2], False)
    assert listed(store, purpose="assistants") == ([], False)


def test_nothing_comes_after_an_unknown_file(store: SqlStore) -> None:
    add(store, a_file(1), a_file(2, account_id="other"))
    assert listed(store, after="file-unknown") == ([], False)
    assert listed(store, after=a_file(2).id) == ([], False)


def test_a_deleted_file_is_gone_and_a_late_save_does_not_bring_it_back(store: SqlStore) -> None:
    add(store, a_file(1), a_file(2))
    with store.begin() as session:
        assert session.files.delete("acct", a_file(1).id)
        assert not session.files.delete("acct", a_file(1).id)
        session.files.save(a_file(1, status=FileStatus.PROCESSED))
    assert listed(store) == ([2], False)


def test_unfinished_files_of_every_account_are_found(store: SqlStore) -> None:
    waiting = [a_file(1), a_file(2, account_id="other", status=FileStatus.RUNNING)]
    add(store, *waiting, a_file(3, status=FileStatus.PROCESSED), a_file(4, status=FileStatus.ERROR))
    with store.begin() as session:
        assert session.files.unfinished() == waiting
        session.files.save(replace(waiting[0], status=FileStatus.ERROR))
        assert session.files.unfinished() == waiting[1:]
