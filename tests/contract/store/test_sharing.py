"""The table of checkpoints' copies and permissions, on SQLite and PostgreSQL."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

from tailorbird.domain.sharing import CheckpointCopy, CheckpointPermission, CopyStatus
from tailorbird.infra.store import SqlStore

START = datetime(2026, 1, 5, 12, tzinfo=UTC)


def a_copy(number: int, checkpoint: str = "ftchkpt-1", status: CopyStatus = CopyStatus.IN_PROGRESS) -> CheckpointCopy:
    return CheckpointCopy(
        id=f"ftcopy-{number}",
        job_id="ftjob-1",
        checkpoint_id=checkpoint,
        account_id="a",
        destination="/subscriptions/s/…",
        destination_id="b",
        region="westeurope",
        status=status,
        created_at=START,
    )


def a_permission(number: int, project: str = "b") -> CheckpointPermission:
    return CheckpointPermission(
        id=f"cp_{number}",
        account_id="a",
        checkpoint_id="ftchkpt-1",
        project_id=project,
        copied_model="m.ft-1",
        created_at=START + timedelta(seconds=number),
    )


def test_copies_are_replaced_by_id_and_listed_by_checkpoint(store: SqlStore) -> None:
    with store.begin() as tx:
        tx.sharing.put_copy(a_copy(1))
        tx.sharing.put_copy(a_copy(2))
        tx.sharing.put_copy(a_copy(3, "ftchkpt-2"))
        tx.sharing.put_copy(dataclasses.replace(a_copy(1), status=CopyStatus.FAILED, failure="gone"))
    with store.begin() as tx:
        assert [c.id for c in tx.sharing.copies("a", "ftchkpt-1")] == ["ftcopy-1", "ftcopy-2"]
        assert tx.sharing.copies("b", "ftchkpt-1") == []
        assert tx.sharing.copy("ftcopy-1") == dataclasses.replace(a_copy(1), status=CopyStatus.FAILED, failure="gone")
        assert [c.id for c in tx.sharing.unfinished_copies()] == ["ftcopy-2", "ftcopy-3"]


def test_permissions_are_paged_filtered_and_deleted_by_their_account(store: SqlStore) -> None:
    with store.begin() as tx:
        for number, project in ((1, "b"), (2, "c"), (3, "b")):
            tx.sharing.add_permission(a_permission(number, project))
        page = tx.sharing.permissions("a", "ftchkpt-1", project_id=None, after=None, limit=2, order="desc")
        assert ([p.id for p in page.items], page.has_more) == (["cp_3", "cp_2"], True)
        rest = tx.sharing.permissions("a", "ftchkpt-1", project_id=None, after="cp_2", limit=2, order="desc")
        assert ([p.id for p in rest.items], rest.has_more) == (["cp_1"], False)
        of_b = tx.sharing.permissions("a", "ftchkpt-1", project_id="b", after=None, limit=9, order="asc")
        assert [p.id for p in of_b.items] == ["cp_1", "cp_3"]
        assert tx.sharing.permission("b", "cp_1") is None
        assert not tx.sharing.delete_permission("b", "cp_1")
        assert tx.sharing.delete_permission("a", "cp_1")
        assert tx.sharing.permission("a", "cp_1") is None
