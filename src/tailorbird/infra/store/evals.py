"""Evaluations, their runs and what those found."""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa

from tailorbird.domain.evals import Eval, EvalRun, ItemStatus, OutputItem, RunStatus
from tailorbird.infra.store.rows import Rows, insert_new
from tailorbird.infra.tables.evals import eval_items, eval_runs, evals
from tailorbird.service.ports import Order, Page

_EVALS = Rows(Eval, evals)
_RUNS = Rows(EvalRun, eval_runs)
_ITEMS = Rows(OutputItem, eval_items)
_ENDED = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELED)


class SqlEvals:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, made: Eval) -> None:
        self._connection.execute(sa.insert(evals).values(_EVALS.values(made)))

    def get(self, account_id: str, eval_id: str) -> Eval | None:
        return _EVALS.one(self._connection, evals.c.id == eval_id, evals.c.account_id == account_id)

    def list(
        self,
        account_id: str,
        *,
        after: str | None,
        limit: int,
        order: Order,
        order_by: Literal["created_at", "updated_at"],
    ) -> Page[Eval]:
        return _EVALS.page(
            self._connection,
            evals.c.account_id == account_id,
            order=[evals.c[order_by], evals.c.seq],
            descending=order == "desc",
            last=None if after is None else evals.c.id == after,
            limit=limit,
        )

    def save(self, changed: Eval) -> None:
        self._connection.execute(sa.update(evals).where(evals.c.id == changed.id).values(_EVALS.values(changed)))

    def delete(self, account_id: str, eval_id: str) -> bool:
        same = (evals.c.id == eval_id, evals.c.account_id == account_id)
        return self._connection.execute(sa.delete(evals).where(*same)).rowcount > 0

    def add_run(self, run: EvalRun) -> None:
        self._connection.execute(sa.insert(eval_runs).values(_RUNS.values(run)))

    def run(self, account_id: str, run_id: str) -> EvalRun | None:
        return _RUNS.one(self._connection, eval_runs.c.id == run_id, eval_runs.c.account_id == account_id)

    def runs(
        self, eval_id: str, *, after: str | None, limit: int, order: Order, status: RunStatus | None
    ) -> Page[EvalRun]:
        return _RUNS.page(
            self._connection,
            eval_runs.c.eval_id == eval_id,
            sa.true() if status is None else eval_runs.c.status == status,
            order=[eval_runs.c.created_at, eval_runs.c.seq],
            descending=order == "desc",
            last=None if after is None else eval_runs.c.id == after,
            limit=limit,
        )

    def move_run(self, run: EvalRun) -> bool:
        open_still = eval_runs.c.status.not_in(_ENDED)
        change = {"status": run.status, "error_code": run.error_code, "error_message": run.error_message}
        moved = sa.update(eval_runs).where(eval_runs.c.id == run.id, open_still).values(change)
        return self._connection.execute(moved).rowcount > 0

    def count_run(self, run_id: str, totals: dict[str, Any]) -> bool:
        going = eval_runs.c.status == RunStatus.IN_PROGRESS
        counted = sa.update(eval_runs).where(eval_runs.c.id == run_id, going).values(totals=totals)
        return self._connection.execute(counted).rowcount > 0

    def delete_run(self, account_id: str, run_id: str) -> bool:
        same = (eval_runs.c.id == run_id, eval_runs.c.account_id == account_id)
        return self._connection.execute(sa.delete(eval_runs).where(*same)).rowcount > 0

    def unfinished_runs(self) -> list[EvalRun]:
        unfinished = sa.text("status IN ('queued', 'in_progress')")
        return _RUNS.all(self._connection, unfinished, order=[eval_runs.c.seq])

    def add_item(self, item: OutputItem) -> bool:
        return insert_new(self._connection, eval_items, _ITEMS.values(item), ("run_id", "number"))

    def item(self, run_id: str, item_id: str) -> OutputItem | None:
        return _ITEMS.one(self._connection, eval_items.c.id == item_id, eval_items.c.run_id == run_id)

    def items(
        self, run_id: str, *, after: str | None, limit: int, order: Order, status: ItemStatus | None
    ) -> Page[OutputItem]:
        return _ITEMS.page(
            self._connection,
            eval_items.c.run_id == run_id,
            sa.true() if status is None else eval_items.c.status == status,
            order=[eval_items.c.number],
            descending=order == "desc",
            last=None if after is None else eval_items.c.id == after,
            limit=limit,
        )

    def done_numbers(self, run_id: str) -> set[int]:
        query = sa.select(eval_items.c.number).where(eval_items.c.run_id == run_id)
        return set(self._connection.execute(query).scalars())
