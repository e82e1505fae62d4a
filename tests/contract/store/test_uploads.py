"""UploadTable: own uploads only, ended once, parts in order, swept once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tailorbird.domain.files import Purpose
from tailorbird.domain.uploads import Upload, UploadPart, UploadStatus
from tailorbird.infra.store import SqlStore
from tailorbird.service.ports import AlreadyThere

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def an_upload(number: int, **fields: object) -> Upload:
    plain = Upload(
        id=f"upload_{number}",
        account_id="acct",
        filename="träining.jsonl",
        purpose=Purpose.BATCH,
        bytes=6_000_000_000,
        mime_type="text/jsonl",
        status=UploadStatus.PENDING,
        created_at=NOON,
        expires_at=NOON + HOUR,
        file_seconds=3600,
    )
    return replace(plain, **fields)


def a_part(number: int, upload: int = 1) -> UploadPart:
    return UploadPart(f"part_{number}", f"upload_{upload}", 5_000_000_000, NOON, f"k/{number}")


def add(store: SqlStore, *uploads: Upload) -> None:
    with store.begin() as session:
        for upload in uploads:
            session.uploads.add(upload)


def test_an_upload_comes_back_as_it_was_added_to_its_own_account_only(store: SqlStore) -> None:
    add(store, an_upload(1))
    with store.begin() as session:
        for find in (session.uploads.get, session.uploads.hold):
            assert find("acct", "upload_1") == an_upload(1)
            assert find("other", "upload_1") is None
        with pytest.raises(AlreadyThere):
            session.uploads.add(an_upload(1, account_id="other"))


def test_an_upload_ends_once(store: SqlStore) -> None:
    add(store, an_upload(1))
    done = an_upload(1, status=UploadStatus.COMPLETED, file_id="file-1")
    with store.begin() as session:
        assert session.uploads.end(done)
        assert not session.uploads.end(an_upload(1, status=UploadStatus.CANCELLED))
        assert session.uploads.get("acct", "upload_1") == done


def test_parts_come_in_the_order_they_were_added(store: SqlStore) -> None:
    add(store, an_upload(1), an_upload(2))
    with store.begin() as session:
        for part in (a_part(2), a_part(1), a_part(3, upload=2)):
            session.uploads.add_part(part)
        with pytest.raises(AlreadyThere):
            session.uploads.add_part(a_part(1, upload=2))
        assert session.uploads.parts("upload_1") == [a_part(2), a_part(1)]
        assert session.uploads.count_parts("upload_1") == 2


def test_what_has_ended_or_run_out_of_time_is_swept_once(store: SqlStore) -> None:
    add(
        store,
        an_upload(1, status=UploadStatus.CANCELLED),
        an_upload(2, expires_at=NOON),
        an_upload(3, account_id="other", status=UploadStatus.COMPLETED, file_id="file-3"),
        an_upload(4),
    )
    with store.begin() as session:
        session.uploads.add_part(a_part(1))
        session.uploads.add_part(a_part(4, upload=4))
        assert {upload.id for upload in session.uploads.spent(NOON, 10)} == {"upload_1", "upload_2", "upload_3"}
        assert len(session.uploads.spent(NOON, 1)) == 1
        session.uploads.swept("upload_1")
        assert {upload.id for upload in session.uploads.spent(NOON, 10)} == {"upload_2", "upload_3"}
        assert session.uploads.parts("upload_1") == []
        assert session.uploads.parts("upload_4") == [a_part(4, upload=4)]
        assert session.uploads.get("acct", "upload_1") is not None
