"""The table of evaluations, their runs and what those found."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from tailorbird.domain.evals import Eval, EvalRun, ItemStatus, OutputItem, RunStatus
from tailorbird.service.ports.outcomes import Order, Page


class EvalTable(Protocol):
    def add(self, made: Eval) -> None: ...

    def get(self, account_id: str, eval_id: str) -> Eval | None: ...

    def list(
        self,
        account_id: str,
        *,
        after: str | None,
        limit: int,
        order: Order,
        order_by: Literal["created_at", "updated_at"],
    ) -> Page[Eval]: ...

    def save(self, changed: Eval) -> None: ...

    def delete(self, account_id: str, eval_id: str) -> bool:
        """With its runs and their items."""
        ...

    def add_run(self, run: EvalRun) -> None: ...

    def run(self, account_id: str, run_id: str) -> EvalRun | None: ...

    def runs(
        self, eval_id: str, *, after: str | None, limit: int, order: Order, status: RunStatus | None
    ) -> Page[EvalRun]: ...

    def move_run(self, run: EvalRun) -> bool:
        """Writes its status and error, unless it has ended in the meantime; says whether it did."""
        ...

    def count_run(self, run_id: str, totals: dict[str, Any]) -> bool:
        """Writes its totals while it is in progress; says whether it did."""
        ...

    def delete_run(self, account_id: str, run_id: str) -> bool: ...

    def unfinished_runs(self) -> list[EvalRun]:
        """Runs of every account still queued or in progress; a restarted server goes on with them."""
        ...

    def add_item(self, item: OutputItem) -> bool:
        """Writes it unless the run has an item of this number; says whether it was new."""
        ...

    def item(self, run_id: str, item_id: str) -> OutputItem | None: ...

    def items(
        self, run_id: str, *, after: str | None, limit: int, order: Order, status: ItemStatus | None
    ) -> Page[OutputItem]: ...

    def done_numbers(self, run_id: str) -> set[int]:
        """The rows of a run that have their item."""
        ...
