"""Routes of files: upload, import, list, get, content, delete."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import quote

from anyio import to_thread
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.background import BackgroundTask

from tailorbird.api.auth import allow
from tailorbird.api.background import Background, background_of
from tailorbird.api.bodies import listing, read_body
from tailorbird.api.bodies.files import ImportBody
from tailorbird.api.context import Given, Paging, Services, Spoken, location, only_query, paging
from tailorbird.api.dialects import Dialect
from tailorbird.api.errors import error_body
from tailorbird.api.expiry import is_expiry, life_in
from tailorbird.api.multipart import open_form
from tailorbird.api.openapi import BYTES, CREATES, form
from tailorbird.api.ranges import Span, read_range
from tailorbird.api.shapes import Deleted, FileObject, ListOf
from tailorbird.api.streamed import ENVELOPE_BYTES, declared_length, read_streamed
from tailorbird.domain.access import Account, Action
from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.files import UPLOADABLE, File
from tailorbird.service.files import too_large

router = APIRouter(tags=["files"])

PATH = "/files"
_CONTENT = PATH + "/{file_id}/content"
_FORM = form(
    "file",
    purpose={"enum": [purpose.value for purpose, allowed in UPLOADABLE.items() if allowed], "required": True},
    **{"expires_after[anchor]": {"const": "created_at"}, "expires_after[seconds]": {"type": "integer"}},
)

Reader = Annotated[Account, Depends(allow(Action.READ_FILE))]
Writer = Annotated[Account, Depends(allow(Action.IMPORT_FILE))]
Deleter = Annotated[Account, Depends(allow(Action.DELETE_FILE))]
Work = Annotated[Background, Depends(background_of)]


def render(file: File, dialect: Dialect) -> dict[str, Any]:
    return dialect.trim(
        {
            "id": file.id,
            "object": "file",
            "bytes": file.bytes,
            "created_at": int(file.created_at.timestamp()),
            "expires_at": None if file.expires_at is None else int(file.expires_at.timestamp()),
            "filename": file.filename,
            "purpose": file.purpose.value,
            "status": dialect.words.file_status[file.status],
            "status_details": file.status_details,
        }
    )


@router.post(PATH, dependencies=[Depends(only_query())], response_model=FileObject, openapi_extra=CREATES | _FORM)
async def upload(request: Request, account: Writer, services: Given, dialect: Spoken, work: Work) -> Response:
    """Streams the form's file into the store; it is judged after the answer."""
    if declared_length(request) > services.files.max_bytes + ENVELOPE_BYTES:
        raise too_large(services.files.max_bytes)
    file = await to_thread.run_sync(_receive, request, services, account, limiter=work.uploads)
    judge = BackgroundTask(work.judge, services, file)
    headers = location(request, dialect, f"{PATH}/{file.id}")
    return JSONResponse(render(file, dialect), dialect.created, headers, background=judge)


@router.post(PATH + "/import", dependencies=[Depends(only_query())], response_model=FileObject, openapi_extra=CREATES)
def import_file(
    request: Request,
    body: Annotated[ImportBody, Depends(read_body(ImportBody))],
    account: Writer,
    services: Given,
    dialect: Spoken,
    work: Work,
) -> Response:
    """Answers with the pending file at once; it is fetched after that."""
    life = body.expires_after.life() if body.expires_after else None
    file = services.imports.create(account.id, body.filename, body.purpose, body.content_url, life)
    work.fetch(services, account.id, file.id)
    headers = location(request, dialect, f"{PATH}/{file.id}")
    return JSONResponse(render(file, dialect), dialect.created, headers)


@router.get(
    PATH, dependencies=[Depends(only_query("purpose", "after", "limit", "order"))], response_model=ListOf[FileObject]
)
def list_files(
    account: Reader,
    services: Given,
    dialect: Spoken,
    page: Annotated[Paging, Depends(paging(10_000))],
    purpose: str | None = None,
    order: Literal["asc", "desc"] = "desc",
) -> Response:
    # Some clients send what is not given as an empty string.
    found = services.files.list(account.id, purpose=purpose or None, after=page.after, limit=page.limit, order=order)
    return JSONResponse(listing([render(file, dialect) for file in found.items], found.has_more))


@router.get(PATH + "/{file_id}", dependencies=[Depends(only_query())], response_model=FileObject)
def get_file(file_id: str, account: Reader, services: Given, dialect: Spoken) -> Response:
    return JSONResponse(render(services.files.get(account.id, file_id), dialect))


@router.head(_CONTENT, dependencies=[Depends(only_query())], include_in_schema=False)
@router.get(_CONTENT, dependencies=[Depends(only_query())], responses=BYTES, response_class=StreamingResponse)
def get_content(file_id: str, request: Request, account: Reader, services: Given, dialect: Spoken) -> Response:
    """The bytes as they were uploaded, or one range of them."""
    file = services.files.get(account.id, file_id)
    span = _asked(request, file)
    if span is not None and not span.length:
        return _outside(file, dialect)
    start, length = (0, file.bytes) if span is None else (span.start, span.length)
    chunks = services.files.content(file, start, length)
    headers = _headers(file) | {"Content-Length": str(length)}
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{file.bytes}"
    return StreamingResponse(
        iter(()) if request.method == "HEAD" else chunks,
        200 if span is None else 206,
        media_type="application/octet-stream",
        headers=headers,
    )


@router.delete(PATH + "/{file_id}", dependencies=[Depends(only_query())], response_model=Deleted)
def delete_file(file_id: str, account: Deleter, services: Given) -> Response:
    services.files.delete(account.id, file_id)
    return JSONResponse({"id": file_id, "object": "file", "deleted": True})


def _receive(request: Request, services: Services, account: Account) -> File:
    """Runs in a thread: pulls the body out of the event loop chunk by chunk, so that a slow store slows the client."""

    def refuse_long(size: int) -> None:
        if size > services.files.max_bytes:
            raise too_large(services.files.max_bytes)

    kind = request.headers.get("content-type", "")
    with open_form(kind, read_streamed(request), _known, refuse_long, needed="purpose") as form:
        life_in(form.fields)  # what stands before the file is refused before the file is sent
        return services.files.upload(
            account.id, form.filename, form.fields["purpose"], form.chunks, lambda: life_in(form.fields)
        )


def _known(name: str) -> None:
    if name != "purpose" and not is_expiry(name):
        raise InvalidRequest(
            f"'{name}' is not a field of a file upload; known are purpose, expires_after and file.", param=name
        )


def _asked(request: Request, file: File) -> Span | None:
    """If-Range with anything but this file's tag asks for the whole; a file never changes, so its id is its tag."""
    if request.headers.get("if-range", _tag(file)) != _tag(file):
        return None
    return read_range(request.headers.get("range"), file.bytes)


def _headers(file: File) -> dict[str, str]:
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in file.filename)
    name = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file.filename, safe='')}"
    return {"Accept-Ranges": "bytes", "ETag": _tag(file), "Content-Disposition": name}


def _tag(file: File) -> str:
    return f'"{file.id}"'


def _outside(file: File, dialect: Dialect) -> Response:
    fault = InvalidRequest(f"The range lies outside the file, which has {file.bytes} bytes.", param="Range")
    headers = {"Accept-Ranges": "bytes", "Content-Range": f"bytes */{file.bytes}"}
    return JSONResponse(error_body(fault, dialect.family), 416, headers)
