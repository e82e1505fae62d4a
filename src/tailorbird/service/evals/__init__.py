"""Evaluations: made, listed, changed, deleted; their runs started, cancelled and read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import jsonschema

from tailorbird.domain.errors import IllegalState, InvalidRequest, NotFound
from tailorbird.domain.evals import Eval, EvalRun, ItemStatus, OutputItem, RunStatus
from tailorbird.domain.files import FileStatus
from tailorbird.service.evals.sources import Source, read_source
from tailorbird.service.graders import Graders
from tailorbird.service.graders.fields import Fields
from tailorbird.service.graders.reading import read_criterion
from tailorbird.service.ports import Clock, Order, Page, Session, Store

MAX_CRITERIA = 20
_SAMPLE_SCHEMA = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "output_text": {"type": "string"},
        "output_json": {},
        "output_tools": {"type": "array", "items": {"type": "object"}},
        "finish_reason": {"type": "string"},
    },
    "required": ["output_text"],
}


@dataclass(frozen=True, slots=True)
class NewEval:
    """What a caller asks for, as it came."""

    data_source_config: object
    testing_criteria: object
    name: str | None = None
    metadata: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class NewRun:
    data_source: dict[str, Any]
    name: str | None = None
    metadata: dict[str, str] = field(default_factory=dict[str, str])


class Evals:
    def __init__(self, store: Store, graders: Graders, clock: Clock, new_hex: Callable[[], str]) -> None:
        self._store = store
        self._graders = graders
        self._clock = clock
        self._new_hex = new_hex

    def create(self, account_id: str, new: NewEval) -> Eval:
        """Raises InvalidRequest naming the field."""
        now = self._clock.now()
        made = Eval(
            id=f"eval_{self._new_hex()}",
            account_id=account_id,
            name=new.name or f"eval {now:%Y-%m-%d %H:%M}",
            created_at=now,
            updated_at=now,
            config=_config(new.data_source_config),
            criteria={"list": self._criteria(new.testing_criteria)},
            metadata=new.metadata,
        )
        with self._store.begin() as tx:
            tx.evals.add(made)
        return made

    def get(self, account_id: str, eval_id: str) -> Eval:
        """Raises NotFound."""
        with self._store.begin() as tx:
            return _eval(tx, account_id, eval_id)

    def list(
        self,
        account_id: str,
        *,
        after: str | None,
        limit: int,
        order: Order,
        order_by: Literal["created_at", "updated_at"],
    ) -> Page[Eval]:
        with self._store.begin() as tx:
            return tx.evals.list(account_id, after=after, limit=limit, order=order, order_by=order_by)

    def update(self, account_id: str, eval_id: str, name: str | None, metadata: dict[str, str] | None) -> Eval:
        """None leaves what is there. Raises NotFound."""
        with self._store.begin() as tx:
            known = _eval(tx, account_id, eval_id)
            changed = dataclasses.replace(
                known,
                name=known.name if name is None else name,
                metadata=known.metadata if metadata is None else metadata,
                updated_at=self._clock.now(),
            )
            tx.evals.save(changed)
        return changed

    def delete(self, account_id: str, eval_id: str) -> None:
        """With runs and items; a run in progress finds itself gone. Raises NotFound."""
        with self._store.begin() as tx:
            if not tx.evals.delete(account_id, eval_id):
                raise _no_eval(eval_id)

    # --- runs ---------------------------------------------------------------------------------------------------------

    def start(self, account_id: str, eval_id: str, new: NewRun) -> EvalRun:
        """A queued run; whoever calls this has it run. Raises NotFound, InvalidRequest naming the field."""
        source = read_source(new.data_source)
        now = self._clock.now()
        with self._store.begin() as tx:
            _eval(tx, account_id, eval_id)
            _check_file(tx, account_id, source)
            run = EvalRun(
                id=f"evalrun_{self._new_hex()}",
                eval_id=eval_id,
                account_id=account_id,
                name=new.name or f"run {now:%Y-%m-%d %H:%M}",
                model=source.prompting.model if source.prompting else "",
                status=RunStatus.QUEUED,
                created_at=now,
                source=new.data_source,
                metadata=new.metadata,
            )
            tx.evals.add_run(run)
        return run

    def run(self, account_id: str, eval_id: str, run_id: str) -> EvalRun:
        """Raises NotFound."""
        with self._store.begin() as tx:
            return _run(tx, account_id, eval_id, run_id)

    def runs(
        self,
        account_id: str,
        eval_id: str,
        *,
        after: str | None,
        limit: int,
        order: Order,
        status: RunStatus | None,
    ) -> Page[EvalRun]:
        with self._store.begin() as tx:
            _eval(tx, account_id, eval_id)
            return tx.evals.runs(eval_id, after=after, limit=limit, order=order, status=status)

    def cancel(self, account_id: str, eval_id: str, run_id: str) -> EvalRun:
        """Cancelling a cancelled run is fine. Raises NotFound, IllegalState when it has ended otherwise."""
        with self._store.begin() as tx:
            run = _run(tx, account_id, eval_id, run_id)
            if run.status is RunStatus.CANCELED:
                return run
            cancelled = dataclasses.replace(run, status=RunStatus.CANCELED)
            if not tx.evals.move_run(cancelled):
                raise IllegalState(f"The run {run_id} has already {run.status} and cannot be cancelled.")
        return cancelled

    def delete_run(self, account_id: str, eval_id: str, run_id: str) -> None:
        """Raises NotFound."""
        with self._store.begin() as tx:
            _run(tx, account_id, eval_id, run_id)
            tx.evals.delete_run(account_id, run_id)

    def items(
        self,
        account_id: str,
        eval_id: str,
        run_id: str,
        *,
        after: str | None,
        limit: int,
        order: Order,
        status: ItemStatus | None,
    ) -> Page[OutputItem]:
        with self._store.begin() as tx:
            _run(tx, account_id, eval_id, run_id)
            return tx.evals.items(run_id, after=after, limit=limit, order=order, status=status)

    def item(self, account_id: str, eval_id: str, run_id: str, item_id: str) -> OutputItem:
        """Raises NotFound."""
        with self._store.begin() as tx:
            _run(tx, account_id, eval_id, run_id)
            found = tx.evals.item(run_id, item_id)
        if found is None:
            raise NotFound(f"The output item {item_id!r} does not exist in the run {run_id}.", param="output_item_id")
        return found

    def _criteria(self, raw: object) -> list[dict[str, Any]]:
        fields = Fields({"testing_criteria": raw}, "")
        if not isinstance(raw, list):
            raise InvalidRequest("'testing_criteria' is not valid: use a list of graders.", param="testing_criteria")
        given = fields.objects("testing_criteria")
        if not 1 <= len(given) <= MAX_CRITERIA:
            raise InvalidRequest(
                f"'testing_criteria' is not valid: use 1 to {MAX_CRITERIA} graders.", param="testing_criteria"
            )
        names: set[str] = set()
        for number, raw_criterion in enumerate(given):
            where = f"testing_criteria[{number}]"
            criterion = read_criterion(raw_criterion, where)
            self._graders.check(criterion)
            if criterion.name in names:
                raise InvalidRequest(
                    f"'{where}.name' is not valid: {criterion.name!r} is taken; results are counted by name.",
                    param=f"{where}.name",
                )
            names.add(criterion.name)
        return given


def _config(raw: object) -> dict[str, Any]:
    """The data source as it is answered: the item's schema wrapped with the sample's."""
    fields = Fields(raw, "data_source_config")
    kind = fields.choice("type", ("custom", "logs", "stored_completions"))
    if kind != "custom":
        raise fields.fault("type", f"{kind!r} is not supported; use custom with the schema of your rows")
    item = fields.object("item_schema")
    with_sample = fields.take("include_sample_schema")
    if with_sample not in (None, True, False):
        raise fields.fault("include_sample_schema", "use true or false")
    fields.finish()
    try:
        jsonschema.Draft202012Validator.check_schema(item)
    except jsonschema.SchemaError as error:
        raise fields.fault("item_schema", f"it is no JSON schema: {error.message}") from error
    properties: dict[str, Any] = {"item": item}
    if with_sample:
        properties["sample"] = _SAMPLE_SCHEMA
    return {
        "type": "custom",
        "schema": {"type": "object", "properties": properties, "required": list(properties)},
    }


def _check_file(tx: Session, account_id: str, source: Source) -> None:
    if source.file_id is None:
        return
    file = tx.files.get(account_id, source.file_id)
    if file is None:
        reason = "does not exist in this resource. Upload it first, with the purpose 'evals'."
    elif file.status is FileStatus.ERROR:
        reason = f"is not usable: {file.status_details}"
    elif file.status is not FileStatus.PROCESSED:
        reason = f"is still {file.status}. Start the run when it is processed."
    else:
        return
    raise InvalidRequest(f"The file {source.file_id!r} {reason}", param="data_source.source.id")


def _eval(tx: Session, account_id: str, eval_id: str) -> Eval:
    found = tx.evals.get(account_id, eval_id)
    if found is None:
        raise _no_eval(eval_id)
    return found


def _no_eval(eval_id: str) -> NotFound:
    return NotFound(f"The evaluation {eval_id!r} does not exist in this resource.", param="eval_id")


def _run(tx: Session, account_id: str, eval_id: str, run_id: str) -> EvalRun:
    found = tx.evals.run(account_id, run_id)
    if found is None or found.eval_id != eval_id:
        raise NotFound(f"The run {run_id!r} does not exist in the evaluation {eval_id}.", param="run_id")
    return found
