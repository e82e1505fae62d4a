"""Files between browser and service, streamed in both directions: neither side holds one whole."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from tailorbird.studio.client import Api, Refused, Wire
from tailorbird.studio.session import COOKIE, Sessions

UPLOAD, DOWNLOAD = "/relay/files", "/relay/files/{file_id}/content"
_CHUNK = 256 * 1024


def add_routes(app: Any, wire: Wire, sessions: Sessions) -> None:
    async def api_of(request: Request, account: str) -> Api:
        """Of the account that the page shows: another page of the same person may have chosen another since."""
        cookie = request.cookies.get(COOKIE, "")
        session = sessions.find(cookie)
        if session is None:
            raise Refused("Your session is over; sign in again.", status=401)
        api = Api(wire, sessions, cookie, session)
        known = await api.choose()
        if account:
            api.account = next((one for one in known if one.id.lower() == account.lower()), None)
        if api.account is None:
            raise Refused("You hold no role on this account.", status=403)
        return api

    @app.put(UPLOAD)
    async def upload(request: Request, filename: str, purpose: str = "fine-tune", account: str = "") -> Response:
        """The raw body becomes a file of the service; answers the file's object."""
        try:
            api = await api_of(request, account)
            boundary = secrets.token_hex(16)
            body = _multipart(request.stream(), filename, purpose, boundary)
            headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
            async with api.stream("POST", "/files", content=body, headers=headers) as answer:
                return Response(await answer.aread(), answer.status_code, media_type="application/json")
        except Refused as error:
            return JSONResponse({"message": error.message, "param": error.param}, error.status or 502)

    @app.get(DOWNLOAD)
    async def download(request: Request, file_id: str, filename: str = "", account: str = "") -> Response:
        """A file's bytes with a name to save them under."""
        try:
            api = await api_of(request, account)
            opened = api.stream("GET", f"/files/{quote(file_id, safe='')}/content")
            answer = await opened.__aenter__()
        except Refused as error:
            return JSONResponse({"message": error.message}, error.status or 502)

        async def chunks() -> AsyncGenerator[bytes, None]:
            try:
                async for chunk in answer.aiter_bytes(_CHUNK):
                    yield chunk
            finally:
                await opened.__aexit__(None, None, None)

        name = quote(filename or file_id, safe="")
        headers = {"content-disposition": f"attachment; filename*=UTF-8''{name}", "x-content-type-options": "nosniff"}
        return StreamingResponse(chunks(), media_type="application/octet-stream", headers=headers)


async def _multipart(
    chunks: AsyncIterator[bytes], filename: str, purpose: str, boundary: str
) -> AsyncGenerator[bytes, None]:
    # A name may hold anything a file system takes; the form's syntax must survive it, and a quote is escaped in it.
    safe = filename.replace("\\", "_").replace('"', '\\"').replace("\r", " ").replace("\n", " ")
    yield f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'.encode()
    yield (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{safe}"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
    ).encode()
    async for chunk in chunks:
        yield chunk
    yield f"\r\n--{boundary}--\r\n".encode()
