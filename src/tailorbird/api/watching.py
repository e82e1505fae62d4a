"""Routes for watching a job, below our own prefix: its progress and curves, what its checkpoints may, its lineage."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response

from tailorbird.api.auth import allow
from tailorbird.api.bodies import listing
from tailorbird.api.context import Given, Paging, Spoken, only_query, paging
from tailorbird.api.dialects import Dialect
from tailorbird.api.jobs import PATH as JOBS
from tailorbird.api.jobs import render_checkpoint
from tailorbird.domain import ids
from tailorbird.domain.access import Account, Action
from tailorbird.service.watching import Expense, Lineage, Progress

router = APIRouter(tags=["fine-tuning"])

Reader = Annotated[Account, Depends(allow(Action.READ_JOB))]


@router.get(JOBS + "/{job_id}/progress", dependencies=[Depends(only_query("after", "limit"))])
def show_progress(
    job_id: str, account: Reader, services: Given, dialect: Spoken, page: Annotated[Paging, Depends(paging(100))]
) -> Response:
    """One answer for a page that stays open: asked again with its own `after` it has only what is new."""
    found = services.jobs.watching.progress(account.id, job_id, after=page.after, limit=page.limit)
    return JSONResponse(_progress(found, dialect))


@router.get(JOBS + "/{job_id}/checkpoints", dependencies=[Depends(only_query("after", "limit"))])
def list_rated_checkpoints(
    job_id: str, account: Reader, services: Given, dialect: Spoken, page: Annotated[Paging, Depends(paging(100))]
) -> Response:
    """The vendors' checkpoints, and of each whether it can be deployed and whether it is the model itself."""
    after = ids.as_checkpoint_id(page.after) if page.after else None
    found = services.jobs.checkpoints(account.id, job_id, after=after, limit=page.limit)
    rows = [
        {**render_checkpoint(one, dialect), "deployable": one.deployable, "final": one.final, "at_pause": one.at_pause}
        for one in found.items
    ]
    return JSONResponse(listing(rows, found.has_more))


@router.get(JOBS + "/{job_id}/lineage", dependencies=[Depends(only_query())])
def show_lineage(job_id: str, account: Reader, services: Given, dialect: Spoken) -> Response:
    """What the job continued from, and what continued from it."""
    return JSONResponse(_lineage(services.jobs.watching.lineage(account.id, job_id), dialect))


def _progress(found: Progress, dialect: Dialect) -> dict[str, Any]:
    job = found.job
    return {
        "id": job.id,
        "object": "fine_tuning.job.progress",
        "status": dialect.words.job_status[job.status],
        "stage": job.stage.value,
        "queue_position": found.place,
        "step": job.trained_steps,
        "total_steps": found.total_steps,
        "examples": job.examples,
        "epoch_tokens": job.epoch_tokens,
        "created_at": _seconds(job.created_at),
        "started_at": _seconds(job.started_at),
        "paused_at": _seconds(job.paused_at),
        "finished_at": _seconds(job.finished_at),
        "estimated_finish": None if job.ended else _seconds(job.estimated_finish),
        "running_seconds": round(found.running.total_seconds(), 1),
        "cost": None if found.expense is None else _expense(found.expense),
        "last_event": found.last_event,
        "points": found.points,
        "after": found.after,
        "has_more": found.has_more,
    }


def _expense(expense: Expense) -> dict[str, Any]:
    return {
        "billed": expense.billed,
        "quantity": str(expense.quantity),
        "unit": expense.unit,
        "amount": str(expense.amount),
        "currency": expense.currency,
    }


def _lineage(found: Lineage, dialect: Dialect) -> dict[str, Any]:
    source = found.source
    began = None
    if source is not None:
        began = {
            "job": source.job_id,
            "checkpoint": source.id,
            "model": dialect.model_name(source.name, source.openai_name),
            "step_number": source.step,
        }
    return {
        "object": "fine_tuning.job.lineage",
        "continued_from": began,
        "continued_by": [
            {
                "job": job.id,
                "status": dialect.words.job_status[job.status],
                "created_at": _seconds(job.created_at),
                "fine_tuned_model": dialect.model_name(job.fine_tuned_model, job.fine_tuned_model_openai),
            }
            for job in found.continued
        ],
    }


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
