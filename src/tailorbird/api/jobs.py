"""Routes of fine-tuning jobs: create, list, get, pause, resume, cancel, delete, events, checkpoints."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from tailorbird.api.auth import allow
from tailorbird.api.bodies import listing, read_body
from tailorbird.api.bodies.jobs import CreateJobBody
from tailorbird.api.context import Given, Paging, Spoken, location, metadata_pairs, no_path, only_query, paging
from tailorbird.api.dialects import DIALECTS, Dialect, Family
from tailorbird.api.openapi import CREATES, only_on
from tailorbird.api.shapes import CheckpointObject, EventObject, JobObject, ListOf
from tailorbird.domain import ids
from tailorbird.domain.access import Account, Action
from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.jobs import Checkpoint, EventKind, Hyperparameters, Job, JobEvent, Method, WandbIntegration
from tailorbird.service.intake import NewJob

router = APIRouter(tags=["fine-tuning"])

PATH = "/fine_tuning/jobs"

Reader = Annotated[Account, Depends(allow(Action.READ_JOB))]
Writer = Annotated[Account, Depends(allow(Action.WRITE_JOB))]
Deleter = Annotated[Account, Depends(allow(Action.DELETE_JOB))]
Canceller = Annotated[Account, Depends(allow(Action.CANCEL_JOB))]


# --- routes -----------------------------------------------------------------------------------------------------------


@router.post(PATH, dependencies=[Depends(only_query())], response_model=JobObject, openapi_extra=CREATES)
def create_job(
    request: Request,
    account: Writer,
    body: Annotated[CreateJobBody, Depends(read_body(CreateJobBody))],
    services: Given,
    dialect: Spoken,
) -> Response:
    job = services.jobs.create(account.id, new_job(body, dialect))
    headers = location(request, dialect, f"{PATH}/{job.id}")
    return JSONResponse(render(job, account, dialect), dialect.created, headers)


@router.get(PATH, dependencies=[Depends(only_query("after", "limit", "metadata"))], response_model=ListOf[JobObject])
def list_jobs(
    request: Request, account: Reader, services: Given, dialect: Spoken, page: Annotated[Paging, Depends(paging(20))]
) -> Response:
    found = services.jobs.list(account.id, after=page.after, limit=page.limit, metadata=_metadata_filter(request))
    return JSONResponse(listing([render(job, account, dialect) for job in found.items], found.has_more))


@router.get(PATH + "/{job_id}", dependencies=[Depends(only_query())], response_model=JobObject)
def get_job(job_id: str, account: Reader, services: Given, dialect: Spoken) -> Response:
    return JSONResponse(render(services.jobs.get(account.id, job_id), account, dialect))


@router.post(PATH + "/{job_id}/cancel", dependencies=[Depends(only_query())], response_model=JobObject)
def cancel_job(job_id: str, account: Canceller, services: Given, dialect: Spoken) -> Response:
    return JSONResponse(render(services.jobs.cancel(account.id, job_id), account, dialect))


@router.post(PATH + "/{job_id}/pause", dependencies=[Depends(only_query())], response_model=JobObject)
def pause_job(job_id: str, account: Canceller, services: Given, dialect: Spoken) -> Response:
    return JSONResponse(render(services.jobs.pause(account.id, job_id), account, dialect))


@router.post(PATH + "/{job_id}/resume", dependencies=[Depends(only_query())], response_model=JobObject)
def resume_job(job_id: str, account: Writer, services: Given, dialect: Spoken) -> Response:
    return JSONResponse(render(services.jobs.resume(account.id, job_id), account, dialect))


@router.delete(
    PATH + "/{job_id}",
    dependencies=[Depends(only_query())],
    status_code=204,
    openapi_extra=only_on(*(one for one in DIALECTS if one.deletes_jobs)),
)
def delete_job(request: Request, job_id: str, account: Deleter, services: Given, dialect: Spoken) -> Response:
    if not dialect.deletes_jobs:
        raise no_path(request, dialect)
    services.jobs.delete(account.id, job_id)
    return Response(status_code=204)


# The documentation's curl lines send POST to the two lists below.
@router.post(
    PATH + "/{job_id}/events",
    dependencies=[Depends(only_query("after", "limit"))],
    include_in_schema=False,
    response_model=ListOf[EventObject],
)
@router.get(
    PATH + "/{job_id}/events", dependencies=[Depends(only_query("after", "limit"))], response_model=ListOf[EventObject]
)
def list_events(
    job_id: str, account: Reader, services: Given, dialect: Spoken, page: Annotated[Paging, Depends(paging(20))]
) -> Response:
    found = services.jobs.events(account.id, job_id, after=page.after, limit=page.limit)
    return JSONResponse(listing([render_event(event, dialect) for event in found.items], found.has_more))


@router.post(
    PATH + "/{job_id}/checkpoints",
    dependencies=[Depends(only_query("after", "limit"))],
    include_in_schema=False,
    response_model=ListOf[CheckpointObject],
)
@router.get(
    PATH + "/{job_id}/checkpoints",
    dependencies=[Depends(only_query("after", "limit"))],
    response_model=ListOf[CheckpointObject],
)
def list_checkpoints(
    job_id: str, account: Reader, services: Given, dialect: Spoken, page: Annotated[Paging, Depends(paging(10))]
) -> Response:
    after = ids.as_checkpoint_id(page.after) if page.after else None
    found = services.jobs.checkpoints(account.id, job_id, after=after, limit=page.limit)
    return JSONResponse(listing([render_checkpoint(item, dialect) for item in found.items], found.has_more))


# --- in ---------------------------------------------------------------------------------------------------------------


def new_job(body: CreateJobBody, dialect: Dialect) -> NewJob:
    return NewJob(
        model=body.model,
        training_file=body.training_file,
        validation_file=body.validation_file,
        asked=body.asked(),
        seed=body.seed,
        suffix=body.suffix,
        method=body.chosen_method(),
        method_sent=body.method is not None,
        integrations=tuple(one.value() for one in body.integrations or ()),
        # OpenAI's surface does not know the field; scripts that send it everywhere go on working there.
        training_type=None if dialect.family is Family.OPENAI else body.training_type,
        metadata=body.metadata or {},
    )


def _metadata_filter(request: Request) -> dict[str, str] | None:
    """`metadata[key]=value`, as OpenAI's list has it; `metadata=null` asks for all. Raises InvalidRequest."""
    if request.query_params.get("metadata", "null") not in ("null", ""):
        raise InvalidRequest(
            "Filter with 'metadata[key]=value', or leave 'metadata' out for all jobs.", param="metadata"
        )
    return metadata_pairs(request) or None


# --- out --------------------------------------------------------------------------------------------------------------


def render(job: Job, account: Account, dialect: Dialect) -> dict[str, Any]:
    values = job.resolved or job.asked
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
        # An object for preference training too, where OpenAI sends null: its SDK's strict mode wants one.
        "hyperparameters": _hyperparameters(values, Method.SUPERVISED, dialect),
        "seed": job.seed,
        "trained_tokens": job.trained_tokens,
        "result_files": [job.result_file] if job.result_file else [] if openai else None,
        "error": None
        if job.error is None
        else {"code": job.error.code, "message": job.error.message, "param": job.error.param},
        "metadata": job.metadata or None,
    }
    method = {
        "type": job.method.value,
        job.method.value: {"hyperparameters": _hyperparameters(values, job.method, dialect)},
    }
    integrations = [_integration(one, dialect) for one in job.integrations]
    if openai:
        body |= {
            "organization_id": account.organization_id,
            "user_provided_suffix": job.suffix,
            "estimated_finish": None if job.ended else _seconds(job.estimated_finish),
            "integrations": integrations,
            "method": method,
            "usage_metrics": None,
            "shared_with_openai": None,
        }
    else:
        body |= {
            "suffix": job.suffix,
            "estimated_finish": _seconds(job.estimated_finish),
            "method": method if job.method_sent else None,
            "integrations": integrations or None,
            "trainingType": job.training_type,
        }
    return dialect.trim(body)


def _integration(value: WandbIntegration, dialect: Dialect) -> dict[str, Any]:
    tags = list(value.tags)
    target = {"project": value.project, "name": value.name, "entity": value.entity, "tags": tags or None}
    return {"type": "wandb", "wandb": dialect.trim(target)}


def _hyperparameters(values: Hyperparameters, method: Method, dialect: Dialect) -> dict[str, Any]:
    chosen = {
        "batch_size": values.batch_size,
        "learning_rate_multiplier": values.learning_rate_multiplier,
        "n_epochs": values.n_epochs,
    }
    if method is Method.DPO:
        chosen["beta"] = values.beta
    shown = {name: dialect.words.auto if value is None else value for name, value in chosen.items()}
    # Azure's documentation alone has the one, and the other is ours: each is shown where it was asked for.
    if method is Method.DPO and values.l2_multiplier is not None:
        shown["l2_multiplier"] = values.l2_multiplier
    if values.early_stop_patience is not None:
        shown["early_stop_patience"] = values.early_stop_patience
    return shown


def render_event(event: JobEvent, dialect: Dialect) -> dict[str, Any]:
    metrics = event.kind is EventKind.METRICS
    # OpenAI adds total_steps to the numbers.
    hidden = {"job", "before"} if dialect.family is Family.OPENAI else {"job", "before", "total_steps"}
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
        "id": dialect.model_name(checkpoint.id, ids.openai_checkpoint_id(checkpoint.id)),
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
