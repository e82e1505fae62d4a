"""Routes of multi-part uploads: create, get, parts, complete, cancel."""

from __future__ import annotations

import re
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from starlette.background import BackgroundTask

from tailorbird.api.auth import allow
from tailorbird.api.bodies import read_body
from tailorbird.api.bodies.files import CompleteBody, UploadBody
from tailorbird.api.context import Given, Services, Spoken, location, only_query
from tailorbird.api.dialects import Dialect, Family
from tailorbird.api.files import Reader, Work
from tailorbird.api.files import render as render_file
from tailorbird.api.multipart import open_form
from tailorbird.api.openapi import form
from tailorbird.api.shapes import UploadObject, UploadPartObject
from tailorbird.api.streamed import ENVELOPE_BYTES, declared_length, read_streamed
from tailorbird.domain import ids
from tailorbird.domain.access import Account, Action
from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.files import File
from tailorbird.domain.uploads import Upload, UploadPart

router = APIRouter(tags=["uploads"])

PATH = "/uploads"
_ONE = PATH + "/{upload_id}"
_PARTS_PATH = re.compile(r".*/uploads/[^/]+/parts")

Writer = Annotated[Account, Depends(allow(Action.WRITE_UPLOAD))]


def is_part(path: str) -> bool:
    """Whether the path takes parts, whose bodies are streamed."""
    return _PARTS_PATH.fullmatch(path) is not None


def render(upload: Upload, file: File | None, dialect: Dialect) -> dict[str, Any]:
    return dialect.trim(
        {
            "id": upload.id,
            "object": "upload",
            "bytes": upload.bytes,
            "created_at": int(upload.created_at.timestamp()),
            "filename": upload.filename,
            "purpose": upload.purpose.value,
            "status": upload.status.value,
            "expires_at": int(upload.expires_at.timestamp()),
            "file": None if file is None else render_file(file, dialect),
        }
    )


def render_part(part: UploadPart, dialect: Dialect) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": part.id,
        "object": "upload.part",
        "created_at": int(part.created_at.timestamp()),
        "upload_id": part.upload_id,
    }
    return body | {"azure_block_id": ids.block_id(part.id)} if dialect.family is Family.AZURE else body


@router.post(PATH, dependencies=[Depends(only_query())], response_model=UploadObject)
def create_upload(
    request: Request,
    body: Annotated[UploadBody, Depends(read_body(UploadBody))],
    account: Writer,
    services: Given,
    dialect: Spoken,
) -> Response:
    life = body.expires_after.life() if body.expires_after else None
    made = services.uploads.create(account.id, body.filename, body.purpose, body.bytes, body.mime_type, life)
    return JSONResponse(render(made, None, dialect), 200, location(request, dialect, f"{PATH}/{made.id}"))


@router.get(_ONE, dependencies=[Depends(only_query())], response_model=UploadObject)
def get_upload(upload_id: str, account: Reader, services: Given, dialect: Spoken) -> Response:
    return JSONResponse(render(*services.uploads.get(account.id, upload_id), dialect))


@router.post(
    _ONE + "/parts", dependencies=[Depends(only_query())], response_model=UploadPartObject, openapi_extra=form("data")
)
async def add_part(
    upload_id: str, request: Request, account: Writer, services: Given, dialect: Spoken, work: Work
) -> Response:
    """Streams the form's part into the store."""
    services.uploads.check_part(max(0, declared_length(request) - ENVELOPE_BYTES))
    part = await to_thread.run_sync(_receive, request, services, account, upload_id, limiter=work.uploads)
    return JSONResponse(render_part(part, dialect))


@router.post(_ONE + "/complete", dependencies=[Depends(only_query())], response_model=UploadObject)
async def complete_upload(
    upload_id: str,
    body: Annotated[CompleteBody, Depends(read_body(CompleteBody))],
    account: Writer,
    services: Given,
    dialect: Spoken,
    work: Work,
) -> Response:
    """Joins the parts; the file is judged after the answer."""
    upload, file = await to_thread.run_sync(
        services.uploads.complete, account.id, upload_id, body.part_ids, body.md5, limiter=work.uploads
    )
    judge = BackgroundTask(work.judge, services, file)
    return JSONResponse(render(upload, file, dialect), background=judge)


@router.post(_ONE + "/cancel", dependencies=[Depends(only_query())], response_model=UploadObject)
def cancel_upload(upload_id: str, account: Writer, services: Given, dialect: Spoken) -> Response:
    return JSONResponse(render(services.uploads.cancel(account.id, upload_id), None, dialect))


def _receive(request: Request, services: Services, account: Account, upload_id: str) -> UploadPart:
    """Runs in a thread, as a file's upload does."""
    kind = request.headers.get("content-type", "")
    with open_form(kind, read_streamed(request), _known, services.uploads.check_part, file="data") as form:
        return services.uploads.add_part(account.id, upload_id, form.chunks)


def _known(name: str) -> None:
    raise InvalidRequest(f"'{name}' is not a field of an upload's part; known is data.", param=name)
