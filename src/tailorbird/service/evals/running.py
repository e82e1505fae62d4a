"""Runs of evaluations at work: rows read, answers made, criteria judged, each row's outcome written once.

A run belongs to no process: what is written is done, and whoever takes it up goes on with the rows that have no item.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
from collections.abc import Iterator
from typing import Any

import jsonschema

from tailorbird.domain.errors import InvalidRequest, ServiceError
from tailorbird.domain.evals import Eval, EvalRun, ItemStatus, OutputItem, RunStatus, check_move
from tailorbird.domain.graders import Grade, JudgeUsage, LabelModel, ScoreModel, SingleGrader
from tailorbird.service.asking import Asker, Question, Reply
from tailorbird.service.evals.sources import Row, Source, read_source, rows_of_file
from tailorbird.service.graders import Graders, sample_of
from tailorbird.service.graders.reading import read_criterion
from tailorbird.service.graders.templates import TemplateError
from tailorbird.service.ports import BlobMissing, Blobs, Clock, Store

log = logging.getLogger(__name__)

_AT_ONCE = 4
"""Rows of one run worked on together; the engine batches them."""


class Gone(Exception):
    """The run was cancelled or deleted."""


class RunFailed(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class EvalRuns:
    def __init__(self, store: Store, blobs: Blobs, graders: Graders, asker: Asker, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._graders = graders
        self._asker = asker
        self._clock = clock
        self._writing = asyncio.Lock()

    async def resume_unfinished(self) -> None:
        """Goes on with what an earlier server process left; called once at start."""
        with self._store.begin() as tx:
            left = tx.evals.unfinished_runs()
        await asyncio.gather(*(self.execute(run) for run in left))

    async def execute(self, run: EvalRun) -> None:
        """Takes the run to its end. Raises nothing of the run's own: its failure is its status."""
        try:
            made = await asyncio.to_thread(self._begin, run)
            await self._work(made, run)
            await asyncio.to_thread(self._end, run, RunStatus.COMPLETED)
        except Gone:
            return
        except RunFailed as failure:
            await asyncio.to_thread(self._end, run, RunStatus.FAILED, failure)
        except InvalidRequest as fault:
            await asyncio.to_thread(self._end, run, RunStatus.FAILED, RunFailed("invalid_data", fault.message))

    async def _work(self, made: Eval, run: EvalRun) -> None:
        source = read_source(run.source)
        criteria = [read_criterion(raw, f"testing_criteria[{i}]") for i, raw in enumerate(made.graders)]
        done = await asyncio.to_thread(self._done, run)
        rows = enumerate(self._rows(run, source))
        working: set[asyncio.Task[None]] = set()
        try:
            while (step := await asyncio.to_thread(next, rows, None)) is not None:
                number, row = step
                if number in done:
                    continue
                working.add(asyncio.create_task(self._row(made, run, source, criteria, number, row)))
                if len(working) >= _AT_ONCE:
                    working = await _one_done(working)
            while working:
                working = await _one_done(working)
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)

    async def _row(
        self, made: Eval, run: EvalRun, source: Source, criteria: list[SingleGrader], number: int, row: Row
    ) -> None:
        usage: list[JudgeUsage] = []
        fault = _schema_fault(made, row)
        sample = dict(row.sample or {})
        if fault is None and source.prompting is not None:
            try:
                question = source.prompting.question(row.item)
                reply = await self._asker.ask(run.account_id, question)
                sample = _sample(question, reply)
                usage.append(JudgeUsage(reply.model, reply.prompt_tokens, reply.completion_tokens))
            except (TemplateError, ServiceError) as error:
                fault = error.message if isinstance(error, ServiceError) else str(error)
        elif "output_text" in sample:
            sample = sample_of(str(sample.pop("output_text")), **sample)
        grades = [
            Grade(0.0, False) if fault else await self._graders.grade(run.account_id, criterion, sample, row.item)
            for criterion in criteria
        ]
        usage += [used for grade in grades for used in grade.usage]
        results = [_result(c, g) for c, g in zip(criteria, grades, strict=True)] if fault is None else []
        item = OutputItem(
            id=f"outputitem_{hashlib.sha256(f'{run.id}/{number}'.encode()).hexdigest()[:32]}",
            run_id=run.id,
            eval_id=made.id,
            number=number,
            status=_status(fault, grades, results),
            created_at=self._clock.now(),
            item=row.item,
            sample={**sample, "error": None if fault is None else {"code": "row_failed", "message": fault}},
            results={"list": results},
        )
        async with self._writing:
            await asyncio.to_thread(self._write, run, item, usage)

    # --- the store, each in a thread ----------------------------------------------------------------------------------

    def _begin(self, run: EvalRun) -> Eval:
        with self._store.begin() as tx:
            made = tx.evals.get(run.account_id, run.eval_id)
            current = tx.evals.run(run.account_id, run.id)
            if made is None or current is None or current.status is RunStatus.CANCELED:
                raise Gone
            check_move(current.status, RunStatus.IN_PROGRESS)
            if not tx.evals.move_run(dataclasses.replace(current, status=RunStatus.IN_PROGRESS)):
                raise Gone
            if not current.totals:
                tx.evals.count_run(run.id, _no_totals(made))
        return made

    def _done(self, run: EvalRun) -> set[int]:
        with self._store.begin() as tx:
            return tx.evals.done_numbers(run.id)

    def _write(self, run: EvalRun, item: OutputItem, usage: list[JudgeUsage]) -> None:
        """The item and the run's counts with it, or neither. Raises Gone when the run has been ended or deleted."""
        with self._store.begin() as tx:
            current = tx.evals.run(run.account_id, run.id)
            if current is None or current.status is not RunStatus.IN_PROGRESS:
                raise Gone
            counted = _counted(current.totals, item, usage)
            # Ended between the look and now: the item goes with the transaction.
            if tx.evals.add_item(item) and not tx.evals.count_run(run.id, counted):
                raise Gone

    def _end(self, run: EvalRun, status: RunStatus, failure: RunFailed | None = None) -> None:
        with self._store.begin() as tx:
            current = tx.evals.run(run.account_id, run.id)
            if current is None:
                return
            code, message = (failure.code, failure.message) if failure else (None, None)
            tx.evals.move_run(dataclasses.replace(current, status=status, error_code=code, error_message=message))
        log.info("evaluation run ended", extra={"run": run.id, "status": status})

    def _rows(self, run: EvalRun, source: Source) -> Iterator[Row]:
        if source.file_id is None:
            yield from source.rows
            return
        with self._store.begin() as tx:
            file = tx.files.get(run.account_id, source.file_id)
        try:
            if file is None:
                raise BlobMissing(source.file_id)
            chunks = self._blobs.read(file.blob_key)
        except BlobMissing as missing:
            raise RunFailed(
                "file_missing", f"The file {source.file_id} was deleted before the run read it."
            ) from missing
        yield from rows_of_file(chunks, source.file_id)


async def _one_done(working: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Waits for at least one and raises what it raised."""
    done, left = await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    return left


def _schema_fault(made: Eval, row: Row) -> str | None:
    validator: Any = jsonschema.Draft202012Validator(made.config["schema"]["properties"]["item"])
    fault = next(iter(validator.iter_errors(row.item)), None)
    if fault is None:
        return None
    where = ".".join(["item", *(str(part) for part in fault.absolute_path)])
    return f"The row does not follow the item schema: {where}: {fault.message}"


def _sample(question: Question, reply: Reply) -> dict[str, Any]:
    answer: dict[str, Any] = {"role": "assistant", "content": reply.text}
    more: dict[str, Any] = {"tool_calls": reply.tool_calls} if reply.tool_calls else {}
    return sample_of(
        reply.text,
        output_tools=reply.tool_calls,
        input=list(question.messages),
        output=[{**answer, **more}],
        finish_reason=reply.finish_reason,
        model=reply.model,
        usage={
            "total_tokens": reply.prompt_tokens + reply.completion_tokens,
            "completion_tokens": reply.completion_tokens,
            "prompt_tokens": reply.prompt_tokens,
            "cached_tokens": 0,
        },
        temperature=question.temperature,
        top_p=question.top_p,
        seed=question.seed,
        max_completion_tokens=question.max_tokens,
    )


def _result(criterion: SingleGrader, grade: Grade) -> dict[str, Any]:
    """A grader without a threshold passes when it gives anything: a label or a check passes or fails by itself."""
    passed = grade.score > 0 if grade.passed is None else grade.passed
    result: dict[str, Any] = {"name": criterion.name, "score": grade.score, "passed": passed and not grade.errors.any}
    if isinstance(criterion, ScoreModel | LabelModel):
        result["sample"] = grade.sample
    if grade.errors.any:
        result["errors"] = {k: v for k, v in dataclasses.asdict(grade.errors).items() if v}
    return result


def _status(fault: str | None, grades: list[Grade], results: list[dict[str, Any]]) -> ItemStatus:
    if fault is not None:
        return ItemStatus.ERROR
    if all(result["passed"] for result in results):
        return ItemStatus.PASS
    judged_as_failing = any(not g.errors.any and not r["passed"] for g, r in zip(grades, results, strict=True))
    return ItemStatus.FAIL if judged_as_failing else ItemStatus.ERROR


def _no_totals(made: Eval) -> dict[str, Any]:
    return {
        "result_counts": {"total": 0, "errored": 0, "failed": 0, "passed": 0},
        "per_model_usage": {},
        "per_testing_criteria_results": {str(raw["name"]): {"passed": 0, "failed": 0} for raw in made.graders},
    }


_COUNTED_AS = {ItemStatus.PASS: "passed", ItemStatus.FAIL: "failed", ItemStatus.ERROR: "errored"}


def _counted(totals: dict[str, Any], item: OutputItem, usage: list[JudgeUsage]) -> dict[str, Any]:
    """The totals with one more item."""
    counts, models, criteria = (
        dict(totals[name]) for name in ("result_counts", "per_model_usage", "per_testing_criteria_results")
    )
    counts["total"] += 1
    counts[_COUNTED_AS[item.status]] += 1
    for result in item.verdicts:
        known = criteria[result["name"]]
        word = "passed" if result["passed"] else "failed"
        criteria[result["name"]] = {**known, word: known[word] + 1}
    for used in usage:
        known = models.get(used.model, {"invocation_count": 0, "prompt_tokens": 0, "completion_tokens": 0})
        models[used.model] = {
            "invocation_count": known["invocation_count"] + 1,
            "prompt_tokens": known["prompt_tokens"] + used.prompt_tokens,
            "completion_tokens": known["completion_tokens"] + used.completion_tokens,
        }
    return {"result_counts": counts, "per_model_usage": models, "per_testing_criteria_results": criteria}
