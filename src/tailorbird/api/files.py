"""Routes of files: upload, list, get, content, delete."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import anyio
from anyio import from_thread, to_thread
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.background import BackgroundTask

from tailorbird.api.auth import allow
from tailorbird.api.bodies import listing
from tailorbird.api.context import Given, Paging, Services, Spoken, only_query, paging
from tailorbird.api.dialects import Dialect
from tailorbird.api.multipart import open_upload
from tailorbird.domain.access import Account, Action
from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.files import File
from tailorbird.service.files import too_large

router = APIRouter(tags=["files"])

PATH = "/files"
_MAX_UPLOADS = 16
_MAX_JUDGING = 2
_PIECE_BYTES = 512 * 1024
"""What one trip to the event loop brings: the server hands out 64 KB at a time, and trips are what costs."""
_ENVELOPE_BYTES = 128 * 1024
"""What a form may add to its file: boundaries, headers, fields."""

Reader = Annotated[Account, Depends(allow(Action.READ_FILE))]
Writer = Annotated[Account, Depends(allow(Action.IMPORT_FILE))]
Deleter = Annotated[Account, Depends(allow(Action.DELETE_FILE))]


def render(file: File, dialect: Dialect) -> dict[str, Any]:
    return dialect.trim(
        {
            "id": file.id,
            "object": "file",
            "bytes": file.bytes,
            "created_at": int(file.created_at.timestamp()),
            "filename": file.filename,
            "purpose": file.purpose.value,
            "status": dialect.words.file_status[file.status],
            "status_details": file.status_details,
        }
    )


class Limits:
    """Threads for uploads and for judging files, apart from those that answer short requests.

    A slow client holds its thread for as long as it sends, and judging 512 MB takes a while."""

    def __init__(self) -> None:
        self.uploads = anyio.CapacityLimiter(_MAX_UPLOADS)
        self.judging = anyio.CapacityLimiter(_MAX_JUDGING)


def limits_of(request: Request) -> Limits:
    limits: Limits = request.app.state.limits
    return limits


@router.post(PATH, dependencies=[Depends(only_query())])
async def upload(
    request: Request, account: Writer, services: Given, dialect: Spoken, limits: Annotated[Limits, Depends(limits_of)]
) -> Response:
    """Streams the form's file into the store; it is judged after the answer."""
    _refuse_long(request, services)
    file = await to_thread.run_sync(_receive, request, services, account, limiter=limits.uploads)
    headers = (
        {"Location": f"{services.addresses.data_plane}{dialect.prefix}{PATH}/{file.id}"} if dialect.location else {}
    )
    judge = BackgroundTask(_judge, services, limits, file)
    return JSONResponse(render(file, dialect), dialect.created, headers, background=judge)


@router.get(PATH, dependencies=[Depends(only_query("purpose", "after", "limit", "order"))])
def list_files(
    account: Reader,
    services: Given,
    dialect: Spoken,
    page: Annotated[Paging, Depends(paging(10_000))],
    purpose: str | None = None,
    order: Literal["asc", "desc"] = "desc",
) -> Response:
    found = services.files.list(account.id, purpose=purpose, after=page.after, limit=page.limit, order=order)
    return JSONResponse(listing([render(file, dialect) for file in found.items], found.has_more))


@router.get(PATH + "/{file_id}", dependencies=[Depends(only_query())])
def get_file(file_id: str, account: Reader, services: Given, dialect: Spoken) -> Response:
    return JSONResponse(render(services.files.get(account.id, file_id), dialect))


@router.get(PATH + "/{file_id}/content", dependencies=[Depends(only_query())])
def get_content(file_id: str, account: Reader, services: Given) -> Response:
    file, chunks = services.files.content(account.id, file_id)
    headers = {"Content-Length": str(file.bytes)}
    return StreamingResponse(chunks, media_type="application/octet-stream", headers=headers)


@router.delete(PATH + "/{file_id}", dependencies=[Depends(only_query())])
def delete_file(file_id: str, account: Deleter, services: Given) -> Response:
    services.files.delete(account.id, file_id)
    return JSONResponse({"id": file_id, "object": "file", "deleted": True})


def _refuse_long(request: Request, services: Services) -> None:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > services.files.max_bytes + _ENVELOPE_BYTES:
        raise too_large(services.files.max_bytes)


def _receive(request: Request, services: Services, account: Account) -> File:
    """Runs in a thread: pulls the body out of the event loop chunk by chunk, so that a slow store slows the client."""

    def refuse_long(size: int) -> None:
        if size > services.files.max_bytes:
            raise too_large(services.files.max_bytes)

    form = open_upload(request.headers.get("content-type", ""), _body(request), "purpose", _known, refuse_long)
    with form as upload:
        return services.files.upload(account.id, upload.filename, upload.fields["purpose"], upload.chunks)


def _body(request: Request) -> Iterator[bytes]:
    stream = request.stream()

    async def pull() -> bytes:
        piece = bytearray()
        async for chunk in stream:
            piece += chunk
            if len(piece) >= _PIECE_BYTES:
                break
        return bytes(piece)

    while piece := from_thread.run(pull):
        yield piece


def _known(name: str) -> None:
    if name == "purpose":
        return
    if name.split("[", 1)[0].split(".", 1)[0] == "expires_after":
        raise InvalidRequest(
            "'expires_after' is not supported: files stay until they are deleted. Leave it out.", param="expires_after"
        )
    raise InvalidRequest(f"'{name}' is not a field of a file upload; known are purpose and file.", param=name)


async def _judge(services: Services, limits: Limits, file: File) -> None:
    await to_thread.run_sync(services.files.process, file.account_id, file.id, limiter=limits.judging)
