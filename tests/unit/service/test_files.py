from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tailorbird.domain.errors import InvalidRequest, NotFound, PayloadTooLarge, QuotaExceeded, Unavailable
from tailorbird.domain.files import File, FileStatus, Purpose
from tailorbird.domain.jobs import Hyperparameters, Job, JobStatus, Stage
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
        ("a", "assistants_output", GOOD, "purpose"),
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
        files.content(file)


def test_a_file_deleted_while_it_is_judged_does_not_come_back(files, monkeypatch):
    file = files.upload("acc", "a", "fine-tune", [GOOD])
    from tailorbird.service import judging as module

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
    assert b"".join(files.content(file, 3, 4)) == b"3456"


def test_a_deleted_file_is_gone_row_and_bytes(files, blobs):
    file = files.upload("acc", "a", "fine-tune", [GOOD])
    files.delete("acc", file.id)
    assert blobs.list("accounts") == []
    for attempt in (files.get, files.delete, files.process):
        with pytest.raises(NotFound):
            attempt("acc", file.id)


def test_files_of_another_account_are_not_found(files):
    file = files.upload("acc", "a", "fine-tune", [GOOD])
    with pytest.raises(NotFound):
        files.get("other", file.id)


class HandClock:
    def __init__(self) -> None:
        self.time = AT

    def now(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def expiring(tmp_path: Path, blobs: ObstoreBlobs, clock: HandClock) -> Iterator[tuple[Files, SqlStore]]:
    url = f"sqlite:///{tmp_path / 'expiring.db'}"
    migrate(url)
    engine = make_engine(url)
    store, counter = SqlStore(engine, clock.now), itertools.count(1)
    yield Files(store, blobs, clock, lambda: f"{next(counter):032x}", 100, max_files=3, max_files_bytes=150), store
    engine.dispose()


def job_on(file: File, validation: File | None = None) -> Job:
    return Job(
        id="ftjob-1",
        account_id="acc",
        status=JobStatus.QUEUED,
        stage=Stage.VALIDATE,
        model="gpt-4o-mini",
        base="weaver",
        training_file=file.id,
        validation_file=None if validation is None else validation.id,
        seed=1,
        asked=Hyperparameters(),
        created_at=AT,
        estimated_finish=AT,
    )


def test_an_expired_file_is_gone_at_once_and_swept_later(expiring, blobs, clock):
    files, _ = expiring
    file = files.upload("acc", "a", "batch", [GOOD], lambda: timedelta(hours=1))
    stays = files.upload("acc", "b", "batch", [GOOD])
    assert file.expires_at == AT + timedelta(hours=1)
    clock.time = file.expires_at
    with pytest.raises(NotFound, match="expired"):
        files.get("acc", file.id)
    assert [found.id for found in files.list("acc").items] == [stays.id]
    assert len(blobs.list("")) == 2
    asyncio.run(files.sweep())
    assert blobs.list("") == [stays.blob_key]


def test_a_file_a_job_was_made_with_is_swept_when_the_job_has_ended(expiring, blobs, clock):
    files, store = expiring
    life = timedelta(hours=1)
    train, valid = (files.upload("acc", name, "fine-tune", [GOOD], lambda: life) for name in "ab")
    job = job_on(train, valid)
    with store.begin() as tx:
        tx.jobs.add(job)
    clock.time += timedelta(hours=2)
    asyncio.run(files.sweep())
    assert len(blobs.list("")) == 2
    with pytest.raises(NotFound):
        files.get("acc", train.id)
    with store.begin() as tx:
        assert tx.files.kept("acc", train.id) == train, "the job may finish with it"
        tx.jobs.save(replace(job, status=JobStatus.FAILED), owner=None)
    asyncio.run(files.sweep())
    assert blobs.list("") == []


def test_an_account_has_at_most_so_many_fine_tuning_files_and_others_do_not_count(expiring, clock):
    files, _ = expiring
    for _ in range(3):
        files.upload("acc", "a", "fine-tune", [GOOD], lambda: timedelta(hours=1))
    sent: list[int] = []

    def chunks() -> Iterator[bytes]:
        sent.append(1)
        yield GOOD

    with pytest.raises(QuotaExceeded, match="already has 3 fine-tuning files"):
        files.upload("acc", "a", "fine-tune", chunks())
    assert sent == [], "refused before the file is sent"
    files.upload("acc", "a", "batch", [GOOD])
    files.upload("other", "a", "fine-tune", [GOOD])
    clock.time += timedelta(hours=1)
    files.upload("acc", "a", "fine-tune", [GOOD])


def test_an_account_s_fine_tuning_files_have_a_size_together(expiring, blobs):
    files, _ = expiring
    files.upload("acc", "a", "fine-tune", [b"x" * 100])
    with pytest.raises(QuotaExceeded, match="larger than 150 bytes together"):
        files.upload("acc", "b", "fine-tune", [b"x" * 51])
    assert len(blobs.list("")) == 1
    files.upload("acc", "b", "fine-tune", [b"x" * 50])


def test_a_life_that_is_refused_behind_the_file_leaves_nothing(files, blobs):
    def life() -> timedelta:
        raise InvalidRequest("no", param="expires_after")

    with pytest.raises(InvalidRequest):
        files.upload("acc", "a", "batch", [GOOD], life)
    assert blobs.list("") == []


@pytest.mark.parametrize("purpose", ["assistants", "batch", "vision", "user_data"])
def test_what_nobody_trains_on_is_processed_whatever_it_holds(files, purpose):
    file = files.upload("acc", "a.bin", purpose, [b"\x00\xff"])
    assert files.process("acc", file.id).status is FileStatus.PROCESSED


def test_an_evals_file_may_hold_any_objects_one_a_line(files):
    good = files.upload("acc", "a", "evals", [b'\xef\xbb\xbf{"item": {"q": 1}}\n', b'{"x": []}'])
    done = files.process("acc", good.id)
    assert (done.status, done.examples, done.kind) == (FileStatus.PROCESSED, 2, None)
    for data, text in ((b'{"a": 1}\n[1]\n', "Line 2"), (b"{\n", "Line 1"), (b"\xff\n", "UTF-8"), (b"\n", "no lines")):
        bad = files.process("acc", files.upload("acc", "a", "evals", [data]).id)
        assert bad.status is FileStatus.ERROR
        assert text in bad.status_details
