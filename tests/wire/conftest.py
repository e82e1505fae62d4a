"""One running service for the whole session, and the runs of the vendors' clients against it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from client_runs import Judge, Runs
from shared_service import Served, prepare
from troubled_job import Troubled, troubled_job

# All calls but those of a job that is trained, which has runs of its own.
SECTIONS = (
    "files", "uploads", "models", "jobs", "story", "chat", "structured", "completions", "embeddings", "stored",
    "graders", "permissions", "evals",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder talks to a live server."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.wire)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    one = prepare(tmp_path_factory.mktemp("wire") / "data")
    yield one
    one.installation.stop()


@pytest.fixture(scope="session")
def troubled(served: Served) -> Iterator[Troubled]:
    with troubled_job(served) as told:
        yield told


@pytest.fixture(scope="session")
def runs(served: Served, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Begun together, so that one run's waiting is another's working time."""
    made = Runs(served, SECTIONS, tmp_path_factory.mktemp("runs"))
    asked = [getattr(item, "callspec", None) for item in request.session.items]
    judges = [way.params.get("judge") for way in asked if way is not None]
    made.begin([judge for judge in judges if isinstance(judge, Judge)])
    yield made
    made.close()
