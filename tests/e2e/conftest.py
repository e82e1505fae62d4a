"""A real `tailorbird up` on a temporary folder, with nothing replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from installation import Installation, small_rows, wait_for


@pytest.fixture
def until() -> Callable[..., None]:
    return wait_for


@pytest.fixture
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Installation]]:
    """Makes installations; what still runs at the end is killed."""
    made: list[Installation] = []

    def make(**settings: str) -> Installation:
        made.append(Installation(tmp_path_factory.mktemp("up") / "data", **settings))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and one.process.poll() is None:
            one.kill()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation for all tests of a module."""
    one = Installation(tmp_path_factory.mktemp("up") / "data")
    one.start()
    yield one
    if one.process is not None and one.process.poll() is None:
        one.kill()


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first forty rows of the example data."""
    path = tmp_path_factory.mktemp("data") / "train.jsonl"
    path.write_bytes(small_rows(40))
    return path
