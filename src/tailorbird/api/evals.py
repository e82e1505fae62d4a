"""Routes of evaluations, their runs and output items."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, Response

from tailorbird.api.after import go_on
from tailorbird.api.auth import allow
from tailorbird.api.bodies import listing, read_body
from tailorbird.api.bodies.evals import CreateEvalBody, CreateRunBody, UpdateEvalBody
from tailorbird.api.context import Given, Paging, Spoken, only_query, paging
from tailorbird.api.dialects import Dialect
from tailorbird.api.shapes import DeletedEval, DeletedRun, EvalObject, EvalRunObject, ListOf, OutputItemObject
from tailorbird.domain.access import Account, Action
from tailorbird.domain.evals import Eval, EvalRun, ItemStatus, OutputItem, RunStatus
from tailorbird.service.evals import NewEval, NewRun

router = APIRouter(tags=["evals"])

PATH = "/evals"
ONE = PATH + "/{eval_id}"
RUNS = ONE + "/runs"
RUN = RUNS + "/{run_id}"
ITEMS = RUN + "/output_items"

Reader = Annotated[Account, Depends(allow(Action.READ_EVAL))]
Writer = Annotated[Account, Depends(allow(Action.WRITE_EVAL))]
Deleter = Annotated[Account, Depends(allow(Action.DELETE_EVAL))]
Order = Annotated[Literal["asc", "desc"], Query()]
Paged = Annotated[Paging, Depends(paging(20))]
_page_query = Depends(only_query("after", "limit", "order", "status"))


@router.post(PATH, dependencies=[Depends(only_query())], response_model=EvalObject, status_code=201)
def create(
    body: Annotated[CreateEvalBody, Depends(read_body(CreateEvalBody))],
    account: Writer,
    services: Given,
) -> Response:
    new = NewEval(body.data_source_config, body.testing_criteria, body.name, body.metadata or {})
    return JSONResponse(_eval(services.evals.create(account.id, new)), 201)


@router.get(
    PATH, dependencies=[Depends(only_query("after", "limit", "order", "order_by"))], response_model=ListOf[EvalObject]
)
def list_evals(
    account: Reader,
    services: Given,
    page: Paged,
    order: Order = "asc",
    order_by: Annotated[Literal["created_at", "updated_at"], Query()] = "created_at",
) -> Response:
    found = services.evals.list(account.id, after=page.after, limit=page.limit, order=order, order_by=order_by)
    return JSONResponse(listing([_eval(item) for item in found.items], found.has_more))


@router.get(ONE, dependencies=[Depends(only_query())], response_model=EvalObject)
def retrieve(eval_id: str, account: Reader, services: Given) -> Response:
    return JSONResponse(_eval(services.evals.get(account.id, eval_id)))


@router.post(ONE, dependencies=[Depends(only_query())], response_model=EvalObject)
def update(
    eval_id: str,
    body: Annotated[UpdateEvalBody, Depends(read_body(UpdateEvalBody))],
    account: Writer,
    services: Given,
) -> Response:
    return JSONResponse(_eval(services.evals.update(account.id, eval_id, body.name, body.metadata)))


@router.delete(ONE, dependencies=[Depends(only_query())], response_model=DeletedEval)
def delete(eval_id: str, account: Deleter, services: Given) -> Response:
    services.evals.delete(account.id, eval_id)
    return JSONResponse({"object": "eval.deleted", "deleted": True, "eval_id": eval_id})


# --- runs -------------------------------------------------------------------------------------------------------------


@router.post(RUNS, dependencies=[Depends(only_query())], response_model=EvalRunObject, status_code=201)
async def create_run(
    eval_id: str,
    body: Annotated[CreateRunBody, Depends(read_body(CreateRunBody))],
    account: Writer,
    services: Given,
    dialect: Spoken,
) -> Response:
    new = NewRun(body.data_source, body.name, body.metadata or {})
    run = await asyncio.to_thread(services.evals.start, account.id, eval_id, new)
    go_on(services.eval_runs.execute(run), "a run of an evaluation")
    return JSONResponse(_run(run, _report_url(services, dialect, run)), 201)


@router.get(RUNS, dependencies=[_page_query], response_model=ListOf[EvalRunObject])
def list_runs(
    eval_id: str,
    account: Reader,
    services: Given,
    dialect: Spoken,
    page: Paged,
    order: Order = "asc",
    status: Annotated[RunStatus | None, Query()] = None,
) -> Response:
    found = services.evals.runs(account.id, eval_id, after=page.after, limit=page.limit, order=order, status=status)
    return JSONResponse(
        listing([_run(run, _report_url(services, dialect, run)) for run in found.items], found.has_more)
    )


@router.get(RUN, dependencies=[Depends(only_query())], response_model=EvalRunObject)
def retrieve_run(eval_id: str, run_id: str, account: Reader, services: Given, dialect: Spoken) -> Response:
    run = services.evals.run(account.id, eval_id, run_id)
    return JSONResponse(_run(run, _report_url(services, dialect, run)))


# The specifications and SDKs up to 2.x send POST to the run itself, later ones to /cancel.
@router.post(RUN, dependencies=[Depends(only_query())], response_model=EvalRunObject)
@router.post(RUN + "/cancel", dependencies=[Depends(only_query())], response_model=EvalRunObject)
def cancel_run(eval_id: str, run_id: str, account: Writer, services: Given, dialect: Spoken) -> Response:
    run = services.evals.cancel(account.id, eval_id, run_id)
    return JSONResponse(_run(run, _report_url(services, dialect, run)))


@router.delete(RUN, dependencies=[Depends(only_query())], response_model=DeletedRun)
def delete_run(eval_id: str, run_id: str, account: Deleter, services: Given) -> Response:
    services.evals.delete_run(account.id, eval_id, run_id)
    return JSONResponse({"object": "eval.run.deleted", "deleted": True, "run_id": run_id})


@router.get(ITEMS, dependencies=[_page_query], response_model=ListOf[OutputItemObject])
def list_items(
    eval_id: str,
    run_id: str,
    account: Reader,
    services: Given,
    page: Paged,
    order: Order = "asc",
    status: Annotated[Literal["pass", "fail"] | None, Query()] = None,
) -> Response:
    wanted = None if status is None else ItemStatus(status)
    found = services.evals.items(
        account.id, eval_id, run_id, after=page.after, limit=page.limit, order=order, status=wanted
    )
    return JSONResponse(listing([_item(item) for item in found.items], found.has_more))


@router.get(ITEMS + "/{item_id}", dependencies=[Depends(only_query())], response_model=OutputItemObject)
def retrieve_item(eval_id: str, run_id: str, item_id: str, account: Reader, services: Given) -> Response:
    return JSONResponse(_item(services.evals.item(account.id, eval_id, run_id, item_id)))


# --- out --------------------------------------------------------------------------------------------------------------


def _report_url(services: Given, dialect: Dialect, run: EvalRun) -> str:
    return f"{services.addresses.data_plane}{dialect.prefix}{PATH}/{run.eval_id}/runs/{run.id}"


def _eval(made: Eval) -> dict[str, Any]:
    return {
        "id": made.id,
        "object": "eval",
        "name": made.name,
        "created_at": int(made.created_at.timestamp()),
        "data_source_config": made.config,
        "testing_criteria": made.graders,
        "metadata": made.metadata,
    }


def _run(run: EvalRun, report_url: str) -> dict[str, Any]:
    totals = run.totals
    return {
        "id": run.id,
        "object": "eval.run",
        "eval_id": run.eval_id,
        "name": run.name,
        "status": run.status.value,
        "model": run.model,
        "created_at": int(run.created_at.timestamp()),
        "report_url": report_url,
        "data_source": run.source,
        "result_counts": totals.get("result_counts", {"total": 0, "errored": 0, "failed": 0, "passed": 0}),
        "per_model_usage": [
            {
                "model_name": model,
                **used,
                "cached_tokens": 0,
                "total_tokens": used["prompt_tokens"] + used["completion_tokens"],
            }
            for model, used in totals.get("per_model_usage", {}).items()
        ],
        "per_testing_criteria_results": [
            {"testing_criteria": name, **counts}
            for name, counts in totals.get("per_testing_criteria_results", {}).items()
        ],
        "error": None if run.error_code is None else {"code": run.error_code, "message": run.error_message},
        "metadata": run.metadata,
    }


def _item(item: OutputItem) -> dict[str, Any]:
    return {
        "id": item.id,
        "object": "eval.run.output_item",
        "created_at": int(item.created_at.timestamp()),
        "eval_id": item.eval_id,
        "run_id": item.run_id,
        "status": item.status.value,
        "datasource_item_id": item.number,
        "datasource_item": item.item,
        "results": item.verdicts,
        "sample": item.sample,
    }
