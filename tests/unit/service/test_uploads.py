from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tailorbird.domain import ids
from tailorbird.domain.errors import IllegalState, InvalidRequest, NotFound, PayloadTooLarge, QuotaExceeded
from tailorbird.domain.files import FileStatus
from tailorbird.domain.uploads import Upload, UploadStatus
from tailorbird.infra.blobs import ObstoreBlobs, open_blobs
from tailorbird.infra.schema import make_engine, migrate
from tailorbird.infra.store import SqlStore
from tailorbird.service.files import Files
from tailorbird.service.uploads import Uploads

AT = datetime(2026, 11, 20, tzinfo=UTC)
LINE = b'{"prompt": "a", "completion": "b"}\n'


@dataclass
class HandClock:
    time: datetime = AT

    def now(self) -> datetime:
        return self.time

    def move(self, **span: float) -> None:
        self.time += timedelta(**span)


@dataclass
class Bench:
    store: SqlStore
    blobs: ObstoreBlobs
    clock: HandClock
    files: Files
    uploads: Uploads

    def create(self, size: int, purpose: str = "fine-tune", life: timedelta | None = None) -> Upload:
        return self.uploads.create("acc", "train.jsonl", purpose, size, "text/jsonl", life)

    def part(self, upload: Upload, data: bytes) -> str:
        return self.uploads.add_part("acc", upload.id, [data]).id

    def content(self, file_id: str) -> bytes:
        return b"".join(self.files.content(self.files.get("acc", file_id)))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    migrate(url)
    engine, clock = make_engine(url), HandClock()
    store, blobs = SqlStore(engine, clock.now), open_blobs("memory://")
    numbers = itertools.count(1)

    def new_hex() -> str:
        return f"{next(numbers):032x}"

    files = Files(store, blobs, clock, new_hex, 1000, max_files=2, max_files_bytes=1500)
    uploads = Uploads(store, blobs, clock, new_hex, files, 2000, max_part_bytes=600)
    yield Bench(store, blobs, clock, files, uploads)
    engine.dispose()


def test_parts_become_a_file_in_the_order_of_their_names_and_not_of_their_arrival(bench):
    upload = bench.create(6)
    second, first = bench.part(upload, b"def"), bench.part(upload, b"abc")
    done, file = bench.uploads.complete("acc", upload.id, [first, second], None)
    assert (done.status, done.file_id) == (UploadStatus.COMPLETED, file.id)
    assert (file.status, file.bytes, file.filename) == (FileStatus.PENDING, 6, "train.jsonl")
    assert bench.content(file.id) == b"abcdef"


def test_only_the_file_stays_of_a_completed_upload(bench):
    upload = bench.create(3)
    bench.part(upload, b"abX")  # lost on its way back, sent again
    again = bench.part(upload, b"abc")
    _, file = bench.uploads.complete("acc", upload.id, [again], None)
    assert bench.blobs.list("") == [file.blob_key]
    with bench.store.begin() as tx:
        assert tx.uploads.parts(upload.id) == []


def test_a_completed_file_is_judged_and_deleted_like_any(bench):
    upload = bench.create(2 * len(LINE))
    parts = [bench.part(upload, LINE[:20]), bench.part(upload, LINE[20:] + LINE)]
    _, file = bench.uploads.complete("acc", upload.id, parts, None)
    assert bench.files.process("acc", file.id).status is FileStatus.PROCESSED
    bench.files.delete("acc", file.id)
    assert bench.blobs.list("") == []
    with pytest.raises(IllegalState, match="deleted"):
        bench.uploads.complete("acc", upload.id, parts, None)


def test_completing_twice_answers_the_same_file(bench):
    upload = bench.create(3)
    part = bench.part(upload, b"abc")
    first = bench.uploads.complete("acc", upload.id, [part], None)
    assert bench.uploads.complete("acc", upload.id, [part], None) == first
    assert len(bench.files.list("acc").items) == 1


def test_of_two_who_complete_at_once_one_makes_the_file_and_both_answer_it(bench):
    upload = bench.create(6)
    one, two = bench.part(upload, b"abc"), bench.part(upload, b"def")
    real, faster = bench.blobs.put, []

    def overtaken(key, chunks):
        size = real(key, chunks)
        if not faster:
            faster.append(None)
            faster[0] = bench.uploads.complete("acc", upload.id, [two, one], None)[1]
        return size

    bench.blobs.put = overtaken
    _, file = bench.uploads.complete("acc", upload.id, [one, two], None)
    assert file == faster[0]
    assert bench.content(file.id) == b"defabc"
    assert bench.blobs.list("") == [file.blob_key]


def test_a_crash_while_parts_are_joined_leaves_no_file_and_the_upload_open(bench):
    upload = bench.create(3)
    part = bench.part(upload, b"abc")
    admit = bench.files.admit

    def crash(*args):
        raise OSError("disk full")

    bench.files.admit = crash
    with pytest.raises(OSError, match="disk full"):
        bench.uploads.complete("acc", upload.id, [part], None)
    assert bench.files.list("acc").items == []
    bench.files.admit = admit
    _, file = bench.uploads.complete("acc", upload.id, [part], None)
    assert bench.content(file.id) == b"abc"


@pytest.mark.parametrize("spelling", ["hex", "HEX", "base64"])
def test_a_checksum_is_taken_in_either_spelling_and_checked(bench, spelling):
    upload = bench.create(6)
    parts = [bench.part(upload, b"abc"), bench.part(upload, b"def")]
    digest = hashlib.md5(b"abcdef", usedforsecurity=False)
    wrong = hashlib.md5(b"defabc", usedforsecurity=False).hexdigest()
    with pytest.raises(InvalidRequest, match="does not match") as caught:
        bench.uploads.complete("acc", upload.id, parts, wrong)
    assert caught.value.param == "md5"
    text = {
        "hex": digest.hexdigest(),
        "HEX": digest.hexdigest().upper(),
        "base64": base64.b64encode(digest.digest()).decode(),
    }[spelling]
    _, file = bench.uploads.complete("acc", upload.id, parts, text)
    assert bench.content(file.id) == b"abcdef"


def test_a_text_that_is_no_checksum_is_refused(bench):
    upload = bench.create(3)
    with pytest.raises(InvalidRequest, match="no MD5"):
        bench.uploads.complete("acc", upload.id, [bench.part(upload, b"abc")], "abc")


def test_azure_s_block_ids_name_parts_too(bench):
    upload = bench.create(3)
    part = bench.part(upload, b"abc")
    with pytest.raises(InvalidRequest, match="twice"):
        bench.uploads.complete("acc", upload.id, [part, ids.block_id(part)], None)
    _, file = bench.uploads.complete("acc", upload.id, [ids.block_id(part)], None)
    assert bench.content(file.id) == b"abc"


def test_parts_must_be_ours_and_come_to_the_declared_size(bench):
    upload, other = bench.create(6), bench.create(3)
    part, foreign = bench.part(upload, b"abc"), bench.part(other, b"abc")
    cases = {
        "part_ids[1]": [part, "part_none"],
        "part_ids[0]": [foreign],
        "part_ids": [part],
    }
    for param, chosen in cases.items():
        with pytest.raises(InvalidRequest) as caught:
            bench.uploads.complete("acc", upload.id, chosen, None)
        assert caught.value.param == param
    assert bench.uploads.get("acc", upload.id)[0].status is UploadStatus.PENDING


def test_no_part_comes_after_the_end(bench):
    completed, cancelled = bench.create(3), bench.create(3)
    bench.uploads.complete("acc", completed.id, [bench.part(completed, b"abc")], None)
    bench.uploads.cancel("acc", cancelled.id)
    for upload in (completed, cancelled):
        with pytest.raises(IllegalState):
            bench.part(upload, b"x")
    with pytest.raises(IllegalState):
        bench.uploads.cancel("acc", completed.id)
    with pytest.raises(IllegalState):
        bench.uploads.complete("acc", cancelled.id, [], None)


def test_a_part_on_its_way_when_the_upload_is_cancelled_leaves_nothing(bench):
    upload = bench.create(3)

    def chunks() -> Iterator[bytes]:
        yield b"a"
        bench.uploads.cancel("acc", upload.id)
        yield b"bc"

    with pytest.raises(IllegalState):
        bench.uploads.add_part("acc", upload.id, chunks())
    assert bench.blobs.list("") == []


def test_a_cancelled_upload_leaves_nothing_and_can_be_cancelled_again(bench):
    upload = bench.create(3)
    bench.part(upload, b"abc")
    assert bench.uploads.cancel("acc", upload.id).status is UploadStatus.CANCELLED
    assert bench.uploads.cancel("acc", upload.id).status is UploadStatus.CANCELLED
    assert bench.blobs.list("") == []


def test_parts_have_their_limit_and_leave_nothing_when_they_break_it(bench):
    upload = bench.create(1000)
    bench.part(upload, b"x" * 600)
    for chunks, error in (([b"x" * 400, b"x" * 201], PayloadTooLarge), ([b""], InvalidRequest)):
        with pytest.raises(error):
            bench.uploads.add_part("acc", upload.id, chunks)
    small = bench.create(3)
    with pytest.raises(InvalidRequest, match="larger than the whole"):
        bench.part(small, b"abcd")
    assert len(bench.blobs.list("")) == 1


def test_an_upload_is_bounded_by_its_own_limit_and_a_training_file_by_that_of_files_too(bench):
    bench.create(2000, "batch")
    for size, purpose in ((2001, "batch"), (1001, "fine-tune"), (0, "batch")):
        with pytest.raises(InvalidRequest) as caught:
            bench.create(size, purpose)
        assert caught.value.param == "bytes"


def test_a_completed_upload_counts_against_the_account_s_limits(bench):
    uploads = [bench.create(600) for _ in range(3)]
    parts = [bench.part(upload, b"x" * 600) for upload in uploads]
    for upload, part in zip(uploads[:2], parts, strict=False):
        bench.uploads.complete("acc", upload.id, [part], None)
    with pytest.raises(QuotaExceeded):
        bench.uploads.complete("acc", uploads[2].id, [parts[2]], None)
    with pytest.raises(QuotaExceeded):
        bench.create(600)
    assert bench.uploads.get("acc", uploads[2].id)[0].status is UploadStatus.PENDING


def test_an_upload_expires_by_the_clock_and_is_swept_with_its_parts(bench):
    upload = bench.create(3)
    part = bench.part(upload, b"abc")
    bench.clock.move(hours=1)
    assert bench.uploads.get("acc", upload.id)[0].status is UploadStatus.EXPIRED
    with pytest.raises(IllegalState, match="expired"):
        bench.part(upload, b"x")
    with pytest.raises(IllegalState, match="expired"):
        bench.uploads.complete("acc", upload.id, [part], None)
    bench.clock.move(minutes=10)
    asyncio.run(bench.uploads.sweep())
    assert bench.blobs.list("") == []
    assert bench.uploads.get("acc", upload.id)[0].status is UploadStatus.EXPIRED
    with bench.store.begin() as tx:
        assert tx.uploads.spent(bench.clock.now(), 10) == []


def test_a_sweep_leaves_running_uploads_and_the_files_of_completed_ones(bench):
    running, done = bench.create(3), bench.create(3)
    kept = bench.part(running, b"abc")
    _, file = bench.uploads.complete("acc", done.id, [bench.part(done, b"abc")], None)
    asyncio.run(bench.uploads.sweep())
    assert bench.blobs.list("") == sorted([f"{running.folder}/{kept}", file.blob_key])


def test_the_file_s_life_begins_when_the_upload_is_completed(bench):
    upload = bench.create(3, life=timedelta(hours=2))
    part = bench.part(upload, b"abc")
    bench.clock.move(minutes=30)
    _, file = bench.uploads.complete("acc", upload.id, [part], None)
    assert file.expires_at == AT + timedelta(hours=2, minutes=30)


def test_another_account_s_upload_does_not_exist(bench):
    upload = bench.create(3)
    part = bench.part(upload, b"abc")
    for attempt in (
        lambda: bench.uploads.get("other", upload.id),
        lambda: bench.uploads.add_part("other", upload.id, [b"x"]),
        lambda: bench.uploads.complete("other", upload.id, [part], None),
        lambda: bench.uploads.cancel("other", upload.id),
    ):
        with pytest.raises(NotFound):
            attempt()
