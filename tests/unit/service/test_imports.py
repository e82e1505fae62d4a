from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tailorbird.domain.errors import InvalidRequest, NotFound, QuotaExceeded
from tailorbird.domain.files import FileStatus
from tailorbird.infra.blobs import ObstoreBlobs, open_blobs
from tailorbird.infra.schema import make_engine, migrate
from tailorbird.infra.store import SqlStore
from tailorbird.service.files import Files
from tailorbird.service.imports import MAX_ATTEMPTS, Imports
from tailorbird.service.ports import Fetched, WebBroken, WebRefused

AT = datetime(2026, 11, 20, tzinfo=UTC)
LINE = b'{"prompt": "a", "completion": "b"}\n'
DATA = LINE * 40
URL = "https://data.example.com/train.jsonl?sig=SECRET"


class StoppedClock:
    def now(self) -> datetime:
        return AT


class Killed(BaseException):
    """The process is gone."""


@dataclass
class ScriptedWeb:
    """Serves `data` in chunks of 100; a connection ends as the next of `breaks` says: after so many bytes, or how."""

    data: bytes = DATA
    version: str | None = '"v1"'
    total: bool = True
    breaks: list[int | BaseException] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)

    def check(self, url: str) -> None:
        if not url.startswith("https://"):
            raise WebRefused("The URL must begin with https://.")

    @contextmanager
    def open(self, url: str, start: int, version: str | None) -> Generator[Fetched]:
        assert url == URL
        self.asked.append(start)
        end = self.breaks.pop(0) if self.breaks else None
        if isinstance(end, BaseException):
            raise end
        begin = start if version is not None and version == self.version else 0
        yield Fetched(begin, len(self.data) if self.total else None, self.version, self._chunks(begin, end))

    def _chunks(self, begin: int, length: int | None) -> Iterator[bytes]:
        whole = self.data[begin:]
        part = whole if length is None else whole[:length]
        for at in range(0, len(part), 100):
            yield part[at : at + 100]
        if length is not None:
            raise WebBroken("The connection to data.example.com broke off.")


@dataclass
class Bench:
    store: SqlStore
    blobs: ObstoreBlobs
    web: ScriptedWeb
    files: Files
    imports: Imports
    pauses: list[float]

    def start(self, life: timedelta | None = None) -> str:
        return self.imports.create("acc", "train.jsonl", "fine-tune", URL, life).id

    def run(self, file_id: str) -> FileStatus:
        self.imports.run("acc", file_id)
        return self.files.get("acc", file_id).status


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    migrate(url)
    engine = make_engine(url)
    store, blobs, web, pauses = (
        SqlStore(engine, StoppedClock().now),
        open_blobs("memory://"),
        ScriptedWeb(),
        list[float](),
    )
    numbers = itertools.count(1)

    def new_hex() -> str:
        return f"{next(numbers):032x}"

    files = Files(store, blobs, StoppedClock(), new_hex, 5000, max_files=2, max_files_bytes=6000)
    imports = Imports(store, blobs, StoppedClock(), new_hex, files, web, pause=pauses.append, piece_bytes=300)
    yield Bench(store, blobs, web, files, imports, pauses)
    engine.dispose()


def content(bench: Bench, file_id: str) -> bytes:
    return b"".join(bench.files.content(bench.files.get("acc", file_id)))


def test_the_file_is_there_at_once_and_its_bytes_later(bench):
    file = bench.imports.create("acc", "dir/a.jsonl", "fine-tune", URL, timedelta(hours=1))
    assert (file.status, file.bytes, file.filename) == (FileStatus.PENDING, 0, "a.jsonl")
    assert file.expires_at == AT + timedelta(hours=1)
    assert bench.web.asked == []
    assert bench.run(file.id) is FileStatus.PROCESSED
    assert content(bench, file.id) == DATA
    assert bench.files.get("acc", file.id).bytes == len(DATA)


def test_nothing_but_the_file_stays_and_the_url_is_erased(bench):
    file_id = bench.start()
    bench.run(file_id)
    assert bench.blobs.list("") == [f"accounts/acc/files/{file_id}"]
    assert bench.imports.unfinished() == []


def test_a_broken_connection_costs_no_byte_that_had_arrived(bench):
    bench.web.breaks = [450, 0, 700]
    file_id = bench.start()
    assert bench.run(file_id) is FileStatus.PROCESSED
    assert bench.web.asked == [0, 450, 450, 1150]
    assert content(bench, file_id) == DATA


def test_a_file_that_changes_underway_is_fetched_anew_and_never_mixed(bench):
    bench.web.breaks = [450]
    file_id = bench.start()
    other = b'{"prompt": "x", "completion": "y"}\n' * 30
    real = bench.web.open

    def changing(url: str, start: int, version: str | None):
        if start:
            bench.web.data, bench.web.version = other, '"v2"'
        return real(url, start, version)

    bench.web.open = changing
    assert bench.run(file_id) is FileStatus.PROCESSED
    assert content(bench, file_id) == other


def test_a_server_without_versions_is_read_again_from_the_start(bench):
    bench.web.version, bench.web.breaks = None, [450]
    file_id = bench.start()
    assert bench.run(file_id) is FileStatus.PROCESSED
    assert content(bench, file_id) == DATA


def test_a_killed_server_goes_on_from_the_last_piece(bench):
    file_id = bench.start()
    real, pieces = bench.blobs.put, []

    def dying(key, chunks):
        pieces.append(key)
        if len(pieces) == 3:
            raise Killed
        return real(key, chunks)

    bench.blobs.put = dying
    with pytest.raises(Killed):
        bench.imports.run("acc", file_id)
    del bench.blobs.put
    (left,) = bench.imports.unfinished()
    assert (left.file_id, left.received) == (file_id, 600)
    assert bench.files.get("acc", file_id).status is FileStatus.PENDING
    bench.files.resume_unfinished()
    assert bench.files.get("acc", file_id).status is FileStatus.PENDING, "what has not arrived cannot be judged"
    assert bench.run(file_id) is FileStatus.PROCESSED
    assert bench.web.asked == [0, 600]
    assert content(bench, file_id) == DATA


def test_a_server_killed_between_deleting_pieces_and_saying_so_fetches_again(bench):
    file_id = bench.start()
    arrived = bench.files.arrived

    def dying(*args):
        raise Killed

    bench.files.arrived = dying
    with pytest.raises(Killed):
        bench.imports.run("acc", file_id)
    bench.files.arrived = arrived
    assert bench.run(file_id) is FileStatus.PROCESSED
    assert content(bench, file_id) == DATA


def test_attempts_are_bounded_and_further_apart_each_time(bench):
    bench.web.breaks = [WebBroken("data.example.com answered 503.")] * 50
    file_id = bench.start()
    assert bench.run(file_id) is FileStatus.ERROR
    assert len(bench.web.asked) == MAX_ATTEMPTS
    assert bench.pauses == [0.5, 1.0, 2.0, 4.0, 8.0]
    details = bench.files.get("acc", file_id).status_details
    assert details.startswith("fileImportFailed: data.example.com answered 503.")
    assert "SECRET" not in details
    assert bench.blobs.list("") == []
    assert bench.imports.unfinished() == [], "the URL is erased"


def test_a_refusal_ends_the_import_at_once(bench):
    bench.web.breaks = [WebRefused("data.example.com answered 404.")]
    file_id = bench.start()
    assert bench.run(file_id) is FileStatus.ERROR
    assert bench.pauses == []


@pytest.mark.parametrize("declared", [True, False])
def test_a_file_above_the_limit_is_refused_before_or_while_it_is_read(bench, declared):
    bench.web.data, bench.web.total = LINE * 150, declared
    file_id = bench.start()
    assert bench.run(file_id) is FileStatus.ERROR
    assert "larger than 5000 bytes" in bench.files.get("acc", file_id).status_details
    assert bench.blobs.list("") == []


def test_an_import_counts_against_the_account_s_limits(bench):
    bench.files.upload("acc", "a", "fine-tune", [b"x" * 4900])
    file_id = bench.start()
    with pytest.raises(QuotaExceeded, match="already has 2"):
        bench.start()
    assert bench.run(file_id) is FileStatus.ERROR
    assert "6000 bytes together" in bench.files.get("acc", file_id).status_details
    assert len(bench.blobs.list("")) == 1


def test_an_empty_file_is_an_error(bench):
    bench.web.data = b""
    assert bench.run(bench.start()) is FileStatus.ERROR


def test_a_bad_file_is_judged_as_an_uploaded_one(bench):
    bench.web.data = b"{}\n"
    file_id = bench.start()
    assert bench.run(file_id) is FileStatus.ERROR
    assert bench.files.get("acc", file_id).status_details.startswith("Line 1")


def test_a_file_deleted_underway_leaves_nothing(bench):
    file_id = bench.start()
    real = bench.web.open

    def deleting(url: str, start: int, version: str | None):
        bench.files.delete("acc", file_id)
        return real(url, start, version)

    bench.web.open = deleting
    bench.imports.run("acc", file_id)
    with pytest.raises(NotFound):
        bench.files.get("acc", file_id)
    assert bench.blobs.list("") == []
    assert bench.imports.unfinished() == []


@pytest.mark.parametrize(
    ("name", "purpose", "url", "param"),
    [
        ("", "fine-tune", URL, "filename"),
        ("a", "fine-tune-results", URL, "purpose"),
        ("a", "fine-tune", "http://x/?sig=SECRET", "content_url"),
    ],
)
def test_bad_imports_are_refused_by_field_without_showing_the_url(bench, name, purpose, url, param):
    with pytest.raises(InvalidRequest) as caught:
        bench.imports.create("acc", name, purpose, url, None)
    assert caught.value.param == param
    assert "SECRET" not in caught.value.message
