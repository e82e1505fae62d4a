"""Routes of fine-tuning jobs: create, list, get, cancel, delete, events, checkpoints."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from tailorbird.api.auth import allow
from tailorbird.api.bodies import CreateJobBody, listing, read_body
from tailorbird.api.context import Given, Paging, Spoken, no_path, only_query, paging
from tailorbird.api.dialects import Dialect, Family
from tailorbird.domain.access import Account, Action
from tailorbird.domain.jobs import Checkpoint, EventKind, Hyperparameters, Job, JobEvent
from tailorbird.service.jobs import NewJob

router = APIRouter(tags=["fine-tuning"])

PATH = "/fine_tuning/jobs"

Reader = Annotated[Account, Depends(allow(Action.READ_JOB))]
Writer = Annotated[Account, Depends(allow(Action.WRITE_JOB))]
Canceller = Annotated[Account, Depends(allow(Action.CANCEL_JOB))]


# --- routes -----------------------------------------------------------------------------------------------------------


@router.post(PATH, dependencies=[Depends(only_query())])
def create_job(
    account: Writer,
    body: Annotated[CreateJobBody, Depends(read_body(CreateJobBody))],
    services: Given,
    dialect: Spoken,
) -> Response:
    job = services.jobs.create(account.id, _new_job(body, dialect))
    headers = (
        {"Location": f"{services.addresses.data_plane}{dialect.prefix}{PATH}/{job.id}"} if dialect.location else {}
    )
    return JSONResponse(render(job, account, dialect), dialect.created, headers)


@router.get(PATH, dependencies=[Depends(only_query("after", "limit", "metadata"))])
def list_jobs(
    request: Request, account: Reader, services: Given, dialect: Spoken, page: Annotated[Paging, Depends(paging(20))]
) -> Response:
    found = services.jobs.list(account.id, after=page.after, limit=page.limit, metadata=_metadata_filter(request))
    return JSONResponse(listing([render(job, account, dialect) for job in found.items], found.has_more))


@router.get(PATH + "/{job_id}", dependencies=[Depends(only_query())])
def get_job(job_id: str, account: Reader, services: Given, dialect: Spoken) -> Response:
    return JSONResponse(render(services.jobs.get(account.id, job_id), account, dialect))


@router.post(PATH + "/{job_id}/cancel", dependencies=[Depends(only_query())])
def cancel_job(job_id: str, account: Canceller, services: Given, dialect: Spoken) -> Response:
    return JSONResponse(render(services.jobs.cancel(account.id, job_id), account, dialect))


@router.delete(PATH + "/{job_id}", dependencies=[Depends(only_query())])
def delete_job(request: Request, job_id: str, account: Writer, services: Given, dialect: Spoken) -> Response:
    if not dialect.deletes_jobs:
        raise no_path(request, dialect)
    services.jobs.delete(account.id, job_id)
    return Response(status_code=204)


# The documentation's curl lines send POST to the two lists below.
@router.post(PATH + "/{job_id}/events", dependencies=[Depends(only_query("after", "limit"))], include_in_schema=False)
@router.get(PATH + "/{job_id}/events", dependencies=[Depends(only_query("after", "limit"))])
def list_events(
    job_id: str, account: Reader, services: Given, dialect: Spoken, page: Annotated[Paging, Depends(paging(20))]
) -> Response:
    found = services.jobs.events(account.id, job_id, after=page.after, limit=page.limit)
    return JSONResponse(listing([render_event(event, dialect) for event in found.items], found.has_more))


@router.post(
    PATH + "/{job_id}/checkpoints", dependencies=[Depends(only_query("after", "limit"))], include_in_schema=False
)
@router.get(PATH + "/{job_id}/checkpoints", dependencies=[Depends(only_query("after", "limit"))])
def list_checkpoints(
    job_id: str, account: Reader, services: Given, dialect: Spoken, page: Annotated[Paging, Depends(paging(10))]
) -> Response:
    found = services.jobs.checkpoints(account.id, job_id, after=page.after, limit=page.limit)
    return JSONResponse(listing([render_checkpoint(item, dialect) for item in found.items], found.has_more))


# --- in ---------------------------------------------------------------------------------------------------------------


def _new_job(body: CreateJobBody, dialect: Dialect) -> NewJob:
    return NewJob(
        model=body.model,
        training_file=body.training_file,
        validation_file=body.validation_file,
        asked=body.asked(),
        seed=body.seed,
        suffix=body.suffix,
        method_sent=body.method is not None,
        # OpenAI's surface does not know the field; scripts that send it everywhere go on working there.
        training_type=None if dialect.family is Family.OPENAI else body.training_type,
        metadata=body.metadata or {},
    )


def _metadata_filter(request: Request) -> dict[str, str] | None:
    """`metadata[key]=value`, as OpenAI's list has it; `metadata=null` asks for all."""
    pairs = {
        name.removeprefix("metadata[").removesuffix("]"): value
        for name, value in request.query_params.items()
        if name.startswith("metadata[")
    }
    return pairs or None


# --- out --------------------------------------------------------------------------------------------------------------


def render(job: Job, account: Account, dialect: Dialect) -> dict[str, Any]:
    hyperparameters = _hyperparameters(job.resolved or job.asked, dialect)
    openai = dialect.family is Family.OPENAI
    body: dict[str, Any] = {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": _seconds(job.created_at),
        "finished_at": _seconds(job.finished_at),
        "model": job.model,
        "fine_tuned_model": dialect.model_name(job.fine_tuned_model, job.fine_tuned_model_openai),
        "status": dialect.words.job_status[job.status],
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "hyperparameters": hyperparameters,
        "seed": job.seed,
        "trained_tokens": job.trained_tokens,
        "result_files": [job.result_file] if job.result_file else [] if openai else None,
        "error": None
        if job.error is None
        else {"code": job.error.code, "message": job.error.message, "param": job.error.param},
        "metadata": job.metadata or None,
    }
    method = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
    if openai:
        body |= {
            "organization_id": f"org-{account.id}",
            "user_provided_suffix": job.suffix,
            "estimated_finish": None if job.ended else _seconds(job.estimated_finish),
            "integrations": [],
            "method": method,
        }
    else:
        body |= {
            "suffix": job.suffix,
            "estimated_finish": _seconds(job.estimated_finish),
            "method": method if job.method_sent else None,
            "trainingType": job.training_type,
        }
    return dialect.trim(body)


def _hyperparameters(values: Hyperparameters, dialect: Dialect) -> dict[str, Any]:
    chosen = {
        "batch_size": values.batch_size,
        "learning_rate_multiplier": values.learning_rate_multiplier,
        "n_epochs": values.n_epochs,
    }
    return {name: dialect.words.auto if value is None else value for name, value in chosen.items()}


def render_event(event: JobEvent, dialect: Dialect) -> dict[str, Any]:
    metrics = event.kind is EventKind.METRICS
    # OpenAI adds total_steps to the numbers.
    hidden = {"job"} if dialect.family is Family.OPENAI else {"job", "total_steps"}
    return dialect.trim(
        {
            "id": event.id,
            "object": "fine_tuning.job.event",
            "created_at": _seconds(event.created_at),
            "level": dialect.words.level[event.level],
            "message": dialect.event_text(event),
            "type": "metrics" if metrics else "message",
            "data": {key: value for key, value in event.data.items() if key not in hidden} if metrics else None,
        }
    )


def render_checkpoint(checkpoint: Checkpoint, dialect: Dialect) -> dict[str, Any]:
    return {
        "id": checkpoint.id,
        "object": "fine_tuning.job.checkpoint",
        "created_at": _seconds(checkpoint.created_at),
        "fine_tuned_model_checkpoint": dialect.model_name(checkpoint.name, checkpoint.openai_name),
        "step_number": checkpoint.step,
        "fine_tuning_job_id": checkpoint.job_id,
        # A number that was not computed has no key.
        "metrics": checkpoint.metrics,
    }


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
