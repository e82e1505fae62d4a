"""FileTable: own files only, pages by time, saves and deletes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tailorbird.domain.access import Account
from tailorbird.domain.files import File, FileImport, FileStatus, Purpose
from tailorbird.domain.jobs import JobStatus
from tailorbird.infra.store import SqlStore
from tailorbird.service.ports import AlreadyThere, FileCount

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


HOUR = timedelta(hours=1)


def test_a_file_past_its_expiry_is_not_there_but_kept(store: SqlStore, clock: Any) -> None:
    add(store, a_file(1, expires_at=clock.now() + HOUR), a_file(2))
    assert listed(store) == ([2, 1], False)
    clock.pass_seconds(3600)
    assert listed(store) == ([2], False)
    with store.begin() as session:
        assert session.files.get("acct", a_file(1).id) is None
        assert session.files.kept("acct", a_file(1).id) is not None
        assert session.files.kept("other", a_file(1).id) is None


def test_files_of_a_purpose_are_counted_with_their_bytes(store: SqlStore, clock: Any) -> None:
    add(
        store,
        a_file(1),
        a_file(2, bytes=5),
        a_file(3, purpose=Purpose.BATCH),
        a_file(4, account_id="other"),
        a_file(5, expires_at=clock.now()),
    )
    with store.begin() as session:
        assert session.files.count("acct", "fine-tune") == FileCount(2, 6_000_000_005)
        assert session.files.count("acct", "vision") == FileCount(0, 0)


def test_two_who_add_and_count_at_once_see_each_other(store: SqlStore) -> None:
    with store.begin() as session:
        session.accounts.add(Account("acct", "sub", "rg", "a", "local", "OpenAI", "k1", "k2", NOON))
    seen: list[int] = []
    counted, may_end = threading.Event(), threading.Event()

    def second() -> None:
        counted.wait(5)
        with store.begin() as session:
            session.files.add(a_file(2))
            seen.append(session.files.count("acct", "fine-tune").files)

    thread = threading.Thread(target=second)
    thread.start()
    with store.begin() as session:
        session.files.add(a_file(1))
        seen.append(session.files.count("acct", "fine-tune").files)
        counted.set()
        may_end.wait(0.1)
    thread.join(10)
    assert seen == [1, 2]


def test_expired_files_of_every_account_are_found_unless_an_unended_job_uses_them(
    store: SqlStore, clock: Any, a_job: Callable[..., Any]
) -> None:
    now = clock.now()
    add(
        store,
        a_file(1, expires_at=now),
        a_file(2, expires_at=now - HOUR, account_id="other"),
        a_file(3, expires_at=now + HOUR),
        a_file(4),
        a_file(5, expires_at=now - HOUR),
        a_file(6, expires_at=now - HOUR),
        a_file(7, expires_at=now - HOUR, account_id="other"),
    )
    job = a_job(training_file=a_file(5).id, validation_file=a_file(6).id)
    with store.begin() as session:
        session.jobs.add(job)
        # Another account's file of the same id cannot be, but a job that names one must not hold it.
        session.jobs.add(a_job(2, training_file=a_file(7).id))
        assert {file.id for file in session.files.expired(now, 10)} == {a_file(n).id for n in (1, 2, 7)}
        assert len(session.files.expired(now, 2)) == 2
        session.jobs.save(replace(job, status=JobStatus.FAILED), owner=None)
        assert {file.id for file in session.files.expired(now, 10)} == {a_file(n).id for n in (1, 2, 5, 6, 7)}


def an_import(number: int) -> FileImport:
    return FileImport(a_file(number).id, "acct", "https://example.com/a?sig=s", 0, None)


def test_an_import_moves_on_only_from_where_it_stands(store: SqlStore) -> None:
    row = an_import(1)
    with store.begin() as session:
        session.imports.add(row)
        session.imports.add(an_import(2))
        assert session.imports.get(row.file_id) == row
        assert session.imports.advance(row, received=0, version='"v"')
        assert not session.imports.advance(row, received=10, version='"v"'), "another was faster"
        row = replace(row, version='"v"')
        assert session.imports.advance(row, received=10, version='"v"')
        assert session.imports.unfinished() == [replace(row, received=10), an_import(2)]
        assert session.imports.delete(row.file_id)
        assert not session.imports.delete(row.file_id)
        assert not session.imports.advance(replace(row, received=10), received=11, version='"v"')


def test_a_file_that_is_still_fetched_is_not_unfinished_work_for_a_judge(store: SqlStore) -> None:
    add(store, a_file(1), a_file(2))
    with store.begin() as session:
        session.imports.add(an_import(1))
        assert session.files.unfinished() == [a_file(2)]
