from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tailorbird.domain.errors import InvalidRequest, NotFound, PayloadTooLarge, Unavailable
from tailorbird.domain.files import File, FileStatus, Purpose
from tailorbird.infra.blobs import ObstoreBlobs, open_blobs
from tailorbird.infra.schema import make_engine, migrate
from tailorbird.infra.store import SqlStore
from tailorbird.service.files import Files

AT = datetime(2026, 11, 20, tzinfo=UTC)
GOOD = b'{"prompt": "a", "completion": "b"}\n'


class StoppedClock:
    def now(self) -> datetime:
        return AT


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    migrate(url)
    engine = make_engine(url)
    yield SqlStore(engine)
    engine.dispose()


@pytest.fixture
def blobs() -> ObstoreBlobs:
    return open_blobs("memory://")


@pytest.fixture
def files(store: SqlStore, blobs: ObstoreBlobs) -> Files:
    counter = itertools.count(1)
    return Files(store, blobs, StoppedClock(), lambda: f"{next(counter):032x}", max_bytes=100)


def test_an_upload_is_a_pending_row_and_a_blob(files, blobs):
    file = files.upload("acc", "dir/train.jsonl", "fine-tune", [GOOD, b"", GOOD])
    assert (file.id, file.filename, file.bytes) == (f"file-{1:032x}", "train.jsonl", 2 * len(GOOD))
    assert (file.status, file.created_at) == (FileStatus.PENDING, AT)
    assert files.get("acc", file.id) == file
    assert b"".join(blobs.read(f"accounts/acc/files/{file.id}")) == GOOD * 2


def test_a_file_of_exactly_the_limit_is_taken_and_one_byte_more_leaves_nothing(files, blobs):
    files.upload("acc", "a", "fine-tune", [b"x" * 100])
    with pytest.raises(PayloadTooLarge, match="100 bytes"):
        files.upload("acc", "b", "fine-tune", [b"x" * 60, b"x" * 41])
    assert len(blobs.list("accounts")) == 1
    assert len(files.list("acc").items) == 1


def test_a_source_that_breaks_off_leaves_nothing(files, blobs):
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        files.upload("acc", "a", "fine-tune", broken())
    assert blobs.list("accounts") == []
    assert files.list("acc").items == []


def test_a_row_that_cannot_be_written_takes_its_blob_along(files, store, blobs, monkeypatch):
    def full() -> None:
        raise OSError("disk full")

    monkeypatch.setattr(store, "begin", full)
    with pytest.raises(OSError, match="disk full"):
        files.upload("acc", "a", "fine-tune", [GOOD])
    assert blobs.list("accounts") == []


@pytest.mark.parametrize(
    ("name", "purpose", "data", "param"),
    [
        ("a", "assistants", GOOD, "purpose"),
        ("a", "fine-tune-results", GOOD, "purpose"),
        ("a", "", GOOD, "purpose"),
        ("", "fine-tune", GOOD, "file"),
        ("dir/", "fine-tune", GOOD, "file"),
        ("a\nb", "fine-tune", GOOD, "file"),
        ("x" * 256, "fine-tune", GOOD, "file"),
        ("a", "fine-tune", b"", "file"),
    ],
)
def test_bad_uploads_are_refused_by_field(files, blobs, name, purpose, data, param):
    with pytest.raises(InvalidRequest) as caught:
        files.upload("acc", name, purpose, [data])
    assert caught.value.param == param
    assert blobs.list("accounts") == []


def test_a_good_file_is_processed_with_kind_and_count(files):
    file = files.process("acc", files.upload("acc", "a", "fine-tune", [GOOD]).id)
    assert (file.status, file.kind, file.examples) == (FileStatus.PROCESSED, "completion", 1)
    assert files.process("acc", file.id) == file, "a second run changes nothing"


def test_a_bad_file_says_why(files):
    file = files.process("acc", files.upload("acc", "a", "fine-tune", [GOOD, b"{}\n"]).id)
    assert file.status is FileStatus.ERROR
    assert file.status_details is not None
    assert file.status_details.startswith("Line 2")


def test_a_file_whose_bytes_are_gone_ends_in_error(files, blobs):
    file = files.upload("acc", "a", "fine-tune", [GOOD])
    blobs.delete(file.blob_key)
    assert files.process("acc", file.id).status is FileStatus.ERROR
    with pytest.raises(Unavailable):
        files.content("acc", file.id)


def test_a_file_deleted_while_it_is_judged_does_not_come_back(files, monkeypatch):
    file = files.upload("acc", "a", "fine-tune", [GOOD])
    from tailorbird.service import files as module

    judge = module.validate_stream

    def delete_meanwhile(*args, **options):
        files.delete("acc", file.id)
        return judge(*args, **options)

    monkeypatch.setattr(module, "validate_stream", delete_meanwhile)
    with pytest.raises(NotFound):
        files.process("acc", file.id)
    assert files.list("acc").items == []


def test_a_restarted_server_finishes_pending_and_running_files_of_all_accounts(files, store, blobs):
    pending = files.upload("acc1", "a", "fine-tune", [GOOD])
    blobs.put("k", [GOOD])
    running = File("file-r", "acc2", "r", Purpose.FINE_TUNE, 1, FileStatus.RUNNING, AT, "k")
    with store.begin() as tx:
        tx.files.add(running)
    files.resume_unfinished()
    assert files.get("acc1", pending.id).status is FileStatus.PROCESSED
    assert files.get("acc2", "file-r").status is FileStatus.PROCESSED


def test_results_are_not_judged_as_training_data(files, store, blobs):
    blobs.put("k", [b"step,train_loss\n"])
    results = File("file-r", "acc", "results.csv", Purpose.FINE_TUNE_RESULTS, 1, FileStatus.PENDING, AT, "k")
    with store.begin() as tx:
        tx.files.add(results)
    assert files.process("acc", "file-r").status is FileStatus.PROCESSED


def test_content_can_be_read_from_the_middle(files):
    file = files.upload("acc", "a", "fine-tune", [b"0123456789"])
    found, chunks = files.content("acc", file.id, 3, 4)
    assert (found.id, b"".join(chunks)) == (file.id, b"3456")


def test_a_deleted_file_is_gone_row_and_bytes(files, blobs):
    file = files.upload("acc", "a", "fine-tune", [GOOD])
    files.delete("acc", file.id)
    assert blobs.list("accounts") == []
    for attempt in (files.get, files.delete, files.content, files.process):
        with pytest.raises(NotFound):
            attempt("acc", file.id)


def test_files_of_another_account_are_not_found(files):
    file = files.upload("acc", "a", "fine-tune", [GOOD])
    with pytest.raises(NotFound):
        files.get("other", file.id)
