from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tailorbird.api.background import Background
from tailorbird.domain.errors import NotFound
from tailorbird.domain.files import FileImport


class Flaky:
    """Fails so often, then says it was done; also plays the services around itself."""

    def __init__(self, failures: list[Exception]) -> None:
        self.failures = failures
        self.calls: list[tuple[str, str]] = []
        self.done = threading.Event()
        self.services = cast(Any, SimpleNamespace(files=self, imports=self))

    def run(self, account_id: str, file_id: str) -> None:
        self.calls.append((account_id, file_id))
        if self.failures:
            raise self.failures.pop()
        self.done.set()

    process = run

    def unfinished(self) -> list[FileImport]:
        return [FileImport(f"file-{n}", "acc", "https://x/", 0, None) for n in range(2)]


def test_what_broke_off_for_our_own_reasons_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    flaky = Flaky([OSError("disk full"), OSError("disk full")])
    Background(retry_seconds=0.01).fetch(flaky.services, "acc", "file-1")
    assert flaky.done.wait(5)
    assert flaky.calls == [("acc", "file-1")] * 3
    assert "disk full" in caplog.text


def test_a_file_that_could_not_be_judged_is_judged_later() -> None:
    flaky = Flaky([OSError("disk full")])
    file = cast(Any, SimpleNamespace(account_id="acc", id="file-1"))
    asyncio.run(Background(retry_seconds=0.01).judge(flaky.services, file))
    assert flaky.done.wait(5)


def test_a_file_deleted_before_it_was_judged_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    flaky = Flaky([NotFound("gone")])
    file = cast(Any, SimpleNamespace(account_id="acc", id="file-1"))
    asyncio.run(Background(retry_seconds=0.01).judge(flaky.services, file))
    assert not flaky.done.wait(0.1)
    assert "broke off" not in caplog.text


def test_unfinished_imports_are_taken_up() -> None:
    flaky = Flaky([])
    Background().resume_imports(flaky.services)
    assert flaky.done.wait(5)
    until = threading.Event()
    for _ in range(100):
        if len(flaky.calls) == 2:
            break
        until.wait(0.02)
    assert sorted(flaky.calls) == [("acc", "file-0"), ("acc", "file-1")]
