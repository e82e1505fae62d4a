"""No question the service asks makes SQLite read a whole table."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from tailorbird.domain.jobs import JobStatus
from tailorbird.infra.leases import SqlLeases
from tailorbird.infra.schema import make_engine
from tailorbird.infra.store import SqlSession, SqlStore

QUESTIONS: dict[str, Callable[[SqlSession], object]] = {
    "an_account_by_key": lambda s: s.accounts.by_key("k"),
    "an_account_by_name": lambda s: s.accounts.by_name("s", "g", "n"),
    "a_page_of_files": lambda s: s.files.list("a", purpose=None, after="f", limit=2, order="desc"),
    "a_page_of_files_of_a_purpose": lambda s: s.files.list("a", purpose="p", after="f", limit=2, order="asc"),
    "unfinished_files": lambda s: s.files.unfinished(),
    "files_of_a_purpose_counted": lambda s: s.files.count("a", "p"),
    "expired_files": lambda s: s.files.expired(datetime.now(UTC), 10),
    "an_import": lambda s: s.imports.get("f"),
    "an_upload": lambda s: s.uploads.hold("a", "u"),
    "parts_of_an_upload": lambda s: (s.uploads.parts("u"), s.uploads.count_parts("u")),
    "spent_uploads": lambda s: s.uploads.spent(datetime.now(UTC), 10),
    "a_page_of_jobs": lambda s: s.jobs.list("a", after="j", limit=2),
    "a_page_of_jobs_with_metadata": lambda s: s.jobs.list("a", after=None, limit=2, metadata={"k": "v", "l": "w"}),
    "active_jobs": lambda s: s.jobs.active_count("a"),
    "jobs_in_a_state": lambda s: s.jobs.count("a", (JobStatus.QUEUED,)),
    "all_jobs_of_an_account": lambda s: s.jobs.count("a"),
    "waiting_jobs": lambda s: s.jobs.waiting(100),
    "a_wish_to_pause": lambda s: s.jobs.request_pause("j"),
    "an_accounts_setting": lambda s: s.account_settings.get("a", "n"),
    "a_page_of_events": lambda s: s.jobs.events("j", after="e", limit=2),
    "a_page_of_checkpoints": lambda s: s.jobs.checkpoints("j", after="c", limit=2),
    "a_checkpoint_by_any_name": lambda s: s.jobs.find_checkpoint("a", "c"),
    "a_model_by_any_name": lambda s: s.models.find("a", "m"),
    "models": lambda s: s.models.list("a"),
    "a_deployment": lambda s: s.deployments.get("a", "d"),
    "the_deployment_of_a_checkpoint": lambda s: s.deployments.of_checkpoint("c"),
    "unfinished_deployments": lambda s: s.deployments.unfinished(),
    "deleting_a_job": lambda s: s.jobs.delete("a", "j"),
}


class Plans:
    """Collects how SQLite would answer every statement of an engine."""

    def __init__(self, engine: sa.Engine) -> None:
        self.steps: list[str] = []
        event.listen(engine, "after_cursor_execute", self._explain)

    def _explain(self, connection: sa.Connection, _cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        driver: Any = connection.connection.dbapi_connection
        self.steps += [step[3] for step in driver.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]

    def scans(self) -> list[str]:
        """A partial index holds only what is asked for; reading all of it is fine."""
        return [step for step in self.steps if step.startswith("SCAN") and not step.endswith(PARTIAL)]


PARTIAL = ("jobs_queue", "jobs_held", "files_unfinished", "deployments_unfinished", "uploads_unswept")


@pytest.fixture
def sqlite(migrated_sqlite: Path, tmp_path: Path) -> sa.Engine:
    return make_engine(f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path)}")


@pytest.mark.parametrize("name", QUESTIONS)
def test_an_index_answers(sqlite: sa.Engine, name: str) -> None:
    plans = Plans(sqlite)
    with SqlStore(sqlite).begin() as session:
        QUESTIONS[name](session)
    sqlite.dispose()
    assert plans.steps
    assert plans.scans() == []
    # Sorting what an index found in another order means reading all of it, however short the page.
    assert not name.startswith("a_page") or "USE TEMP B-TREE FOR ORDER BY" not in plans.steps


def test_a_claim_reads_only_jobs_that_have_not_ended(sqlite: sa.Engine, clock) -> None:
    plans = Plans(sqlite)
    SqlLeases(sqlite).claim("one", clock.now(), 10, 9)
    sqlite.dispose()
    assert "SCAN jobs USING INDEX jobs_queue" in plans.steps
    assert plans.scans() == []
