"""The table of evaluations, on SQLite and PostgreSQL."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

from tailorbird.domain.evals import Eval, EvalRun, ItemStatus, OutputItem, RunStatus
from tailorbird.infra.store import SqlStore

START = datetime(2026, 1, 5, 12, tzinfo=UTC)


def an_eval(number: int, account: str = "a", changed: int = 0) -> Eval:
    at = START + timedelta(seconds=number)
    return Eval(
        id=f"eval_{account}{number}",
        account_id=account,
        name=f"no. {number}",
        created_at=at,
        updated_at=at + timedelta(minutes=changed),
        config={"type": "custom", "schema": {"é": None}},
        criteria={"list": [{"type": "string_check"}]},
        metadata={"k": "v"},
    )


def a_run(number: int, of: str = "eval_a1", status: RunStatus = RunStatus.QUEUED, account: str = "a") -> EvalRun:
    return EvalRun(
        id=f"evalrun_{number}",
        eval_id=of,
        account_id=account,
        name="run",
        model="m",
        status=status,
        created_at=START + timedelta(seconds=number),
        source={"type": "jsonl"},
        totals={"passed": 0},
    )


def an_item(number: int, status: ItemStatus = ItemStatus.PASS, run: str = "evalrun_1") -> OutputItem:
    return OutputItem(
        id=f"outputitem_{run}_{number}",
        run_id=run,
        eval_id="eval_a1",
        number=number,
        status=status,
        created_at=START,
        item={"q": "?"},
        sample={"output_text": "!"},
        results={"list": [{"name": "n", "score": 1.0}]},
    )


def test_an_eval_comes_back_as_it_went_in_and_only_to_its_account(store: SqlStore) -> None:
    with store.begin() as tx:
        tx.evals.add(an_eval(1))
    with store.begin() as tx:
        assert tx.evals.get("a", "eval_a1") == an_eval(1)
        assert tx.evals.get("b", "eval_a1") is None
        assert tx.evals.get("a", "eval_a1") is not None
        assert not tx.evals.delete("b", "eval_a1")


def test_evals_are_paged_in_either_order_by_either_time(store: SqlStore) -> None:
    with store.begin() as tx:
        for number, changed in ((1, 30), (2, 20), (3, 10)):
            tx.evals.add(an_eval(number, changed=changed))
        tx.evals.add(an_eval(1, "b"))
        first = tx.evals.list("a", after=None, limit=2, order="asc", order_by="created_at")
        assert ([e.id for e in first.items], first.has_more) == (["eval_a1", "eval_a2"], True)
        rest = tx.evals.list("a", after="eval_a2", limit=2, order="asc", order_by="created_at")
        assert ([e.id for e in rest.items], rest.has_more) == (["eval_a3"], False)
        changed_first = tx.evals.list("a", after=None, limit=9, order="desc", order_by="updated_at")
        assert [e.id for e in changed_first.items] == ["eval_a1", "eval_a2", "eval_a3"]


def test_a_changed_eval_is_kept(store: SqlStore) -> None:
    with store.begin() as tx:
        tx.evals.add(an_eval(1))
        tx.evals.save(dataclasses.replace(an_eval(1), name="new", metadata={}))
    with store.begin() as tx:
        kept = tx.evals.get("a", "eval_a1")
    assert kept is not None
    assert (kept.name, kept.metadata) == ("new", {})


def test_an_ended_run_is_never_written_again(store: SqlStore) -> None:
    with store.begin() as tx:
        tx.evals.add(an_eval(1))
        tx.evals.add_run(a_run(1))
        assert not tx.evals.count_run("evalrun_1", {"passed": 1})
        assert tx.evals.move_run(dataclasses.replace(a_run(1), status=RunStatus.IN_PROGRESS))
        assert tx.evals.count_run("evalrun_1", {"passed": 2})
        assert tx.evals.move_run(dataclasses.replace(a_run(1), status=RunStatus.CANCELED))
        assert not tx.evals.move_run(dataclasses.replace(a_run(1), status=RunStatus.COMPLETED))
        assert not tx.evals.count_run("evalrun_1", {"passed": 3})
        kept = tx.evals.run("a", "evalrun_1")
        assert kept is not None
        assert (kept.status, kept.totals) == (RunStatus.CANCELED, {"passed": 2})
        assert tx.evals.run("b", "evalrun_1") is None


def test_runs_are_filtered_by_status_and_the_unfinished_are_found(store: SqlStore) -> None:
    with store.begin() as tx:
        tx.evals.add(an_eval(1))
        tx.evals.add(an_eval(2, "b"))
        for number, status in enumerate(RunStatus, 1):
            tx.evals.add_run(a_run(number, status=status))
        tx.evals.add_run(a_run(9, "eval_b2", account="b"))
        page = tx.evals.runs("eval_a1", after=None, limit=9, order="asc", status=RunStatus.FAILED)
        assert [run.status for run in page.items] == [RunStatus.FAILED]
        newest = tx.evals.runs("eval_a1", after=None, limit=2, order="desc", status=None)
        assert ([run.id for run in newest.items], newest.has_more) == (["evalrun_5", "evalrun_4"], True)
        assert [run.id for run in tx.evals.unfinished_runs()] == ["evalrun_1", "evalrun_2", "evalrun_9"]


def test_an_item_is_written_once_for_each_row(store: SqlStore) -> None:
    with store.begin() as tx:
        tx.evals.add(an_eval(1))
        tx.evals.add_run(a_run(1))
        assert tx.evals.add_item(an_item(0))
        assert not tx.evals.add_item(dataclasses.replace(an_item(0), id="another", status=ItemStatus.FAIL))
        assert tx.evals.add_item(an_item(1, ItemStatus.FAIL))
        assert tx.evals.done_numbers("evalrun_1") == {0, 1}
        assert tx.evals.item("evalrun_1", "outputitem_evalrun_1_0") == an_item(0)
        assert tx.evals.item("evalrun_2", "outputitem_evalrun_1_0") is None
        failed = tx.evals.items("evalrun_1", after=None, limit=5, order="asc", status=ItemStatus.FAIL)
        assert [item.number for item in failed.items] == [1]
        second = tx.evals.items("evalrun_1", after="outputitem_evalrun_1_0", limit=5, order="asc", status=None)
        assert [item.number for item in second.items] == [1]


def test_deleting_takes_runs_and_items_along(store: SqlStore) -> None:
    with store.begin() as tx:
        tx.evals.add(an_eval(1))
        tx.evals.add_run(a_run(1))
        tx.evals.add_run(a_run(2))
        tx.evals.add_item(an_item(0))
        assert tx.evals.delete_run("a", "evalrun_2")
        assert not tx.evals.delete_run("b", "evalrun_1")
        assert tx.evals.delete("a", "eval_a1")
    with store.begin() as tx:
        assert tx.evals.run("a", "evalrun_1") is None
        assert tx.evals.done_numbers("evalrun_1") == set()
