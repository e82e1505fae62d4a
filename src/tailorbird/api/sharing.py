"""Routes that give a checkpoint to other accounts: Foundry's copy, OpenAI's permissions."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from tailorbird.api.after import go_on
from tailorbird.api.auth import allow, who_asks
from tailorbird.api.bodies import Body, listing, read_body
from tailorbird.api.context import Given, Paging, Spoken, no_path, only_query, paging
from tailorbird.api.dialects import DIALECTS, OPENAI, Family
from tailorbird.api.openapi import only_on
from tailorbird.api.shapes import CopiesObject, Deleted, ListOf, PermissionObject
from tailorbird.domain.access import Account, Action, Principal
from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.sharing import CheckpointPermission
from tailorbird.service.sharing import CopiesOfCheckpoint

router = APIRouter(tags=["checkpoints"])

COPY = "/fine_tuning/jobs/{job_id}/checkpoints/{checkpoint}/copy"
PERMISSIONS = "/fine_tuning/checkpoints/{checkpoint:path}/permissions"
PREVIEW_HEADER = "aoai-copy-ft-checkpoints"
_HEADER = {"name": PREVIEW_HEADER, "in": "header", "required": True, "schema": {"const": "preview"}}
_ON_AZURE = only_on(*(one for one in DIALECTS if one.family is Family.AZURE)) | {"parameters": [_HEADER]}

Reader = Annotated[Account, Depends(allow(Action.READ_JOB))]
Writer = Annotated[Account, Depends(allow(Action.WRITE_JOB))]
Who = Annotated[Principal, Depends(who_asks)]


class CopyBody(Body):
    destinationResourceId: str  # noqa: N815, Azure's name
    region: str


class GrantBody(Body):
    project_ids: list[str]


def _preview(request: Request, dialect: Spoken) -> None:
    if dialect.family is Family.OPENAI:
        raise no_path(request, dialect)
    if request.headers.get(PREVIEW_HEADER, "").lower() != "preview":
        raise InvalidRequest(
            f"Copying checkpoints is a preview: send the header '{PREVIEW_HEADER}: preview'.", param=PREVIEW_HEADER
        )


def _openai_only(request: Request, dialect: Spoken) -> None:
    if dialect.family is not Family.OPENAI:
        raise no_path(request, dialect)


@router.post(
    COPY, dependencies=[Depends(only_query()), Depends(_preview)], response_model=CopiesObject, openapi_extra=_ON_AZURE
)
async def copy(
    job_id: str,
    checkpoint: str,
    who: Who,
    account: Writer,
    body: Annotated[CopyBody, Depends(read_body(CopyBody))],
    services: Given,
) -> Response:
    begun = await asyncio.to_thread(
        services.sharing.begin_copy,
        who,
        account,
        job_id,
        checkpoint,
        body.destinationResourceId,
        body.region,
    )
    go_on(asyncio.to_thread(services.sharing.finish_copy, begun), "a copy of a checkpoint")
    return JSONResponse(_copies(await asyncio.to_thread(services.sharing.copies_of, account, job_id, checkpoint)))


@router.get(
    COPY, dependencies=[Depends(only_query()), Depends(_preview)], response_model=CopiesObject, openapi_extra=_ON_AZURE
)
def copies(job_id: str, checkpoint: str, account: Reader, services: Given) -> Response:
    return JSONResponse(_copies(services.sharing.copies_of(account, job_id, checkpoint)))


@router.post(
    PERMISSIONS,
    dependencies=[Depends(_openai_only), Depends(only_query())],
    response_model=ListOf[PermissionObject],
    openapi_extra=only_on(OPENAI),
)
def grant(
    checkpoint: str,
    who: Who,
    account: Writer,
    body: Annotated[GrantBody, Depends(read_body(GrantBody))],
    services: Given,
) -> Response:
    granted = services.sharing.grant(who, account, checkpoint, body.project_ids)
    return JSONResponse(listing([_permission(item) for item in granted], has_more=False))


@router.get(
    PERMISSIONS,
    dependencies=[Depends(_openai_only), Depends(only_query("after", "limit", "order", "project_id"))],
    response_model=ListOf[PermissionObject],
    openapi_extra=only_on(OPENAI),
)
def permissions(
    checkpoint: str,
    who: Who,
    account: Reader,
    services: Given,
    page: Annotated[Paging, Depends(paging(10))],
    order: Annotated[Literal["ascending", "descending"], Query()] = "descending",
    project_id: Annotated[str | None, Query()] = None,
) -> Response:
    found = services.sharing.permissions(
        who,
        account,
        checkpoint,
        project_id=project_id,
        after=page.after,
        limit=page.limit,
        order="asc" if order == "ascending" else "desc",
    )
    return JSONResponse(listing([_permission(item) for item in found.items], found.has_more))


@router.delete(
    PERMISSIONS + "/{permission_id}",
    dependencies=[Depends(_openai_only), Depends(only_query())],
    response_model=Deleted,
    openapi_extra=only_on(OPENAI),
)
def revoke(checkpoint: str, permission_id: str, who: Who, account: Writer, services: Given) -> Response:
    services.sharing.revoke(who, account, checkpoint, permission_id)
    return JSONResponse({"id": permission_id, "object": "checkpoint.permission", "deleted": True})


def _copies(found: CopiesOfCheckpoint) -> dict[str, Any]:
    return {
        "checkpointedModelName": found.checkpoint.name,
        "fineTuningJobId": found.checkpoint.job_id,
        "copiedAccountDetails": [
            {"destinationResourceId": item.destination, "region": item.region, "status": item.status.value}
            | ({} if item.failure is None else {"error": {"code": "copyFailed", "message": item.failure}})
            for item in found.copies
        ],
    }


def _permission(item: CheckpointPermission) -> dict[str, Any]:
    return {
        "id": item.id,
        "object": "checkpoint.permission",
        "created_at": int(item.created_at.timestamp()),
        "project_id": item.project_id,
    }
