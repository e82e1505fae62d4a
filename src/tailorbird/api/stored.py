"""Routes of stored chat completions: list, get, describe, delete, and the messages that were asked."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from tailorbird.api.answers import chat_answer
from tailorbird.api.auth import allow
from tailorbird.api.bodies import listing, read_body
from tailorbird.api.bodies.chat import DescribeBody
from tailorbird.api.context import Given, Paging, metadata_pairs, only_query, paging
from tailorbird.api.shapes import Deleted, ListOf, StoredMessageObject, StoredObject
from tailorbird.domain.access import Account, Action
from tailorbird.domain.completions import StoredCompletion
from tailorbird.service.completions import StoredMessage, answer_of
from tailorbird.service.ports import Order

PATH = "/chat/completions"

router = APIRouter(tags=["stored completions"])

Reader = Annotated[Account, Depends(allow(Action.READ_COMPLETION))]
Writer = Annotated[Account, Depends(allow(Action.WRITE_COMPLETION))]
Paged = Annotated[Paging, Depends(paging(20))]


@router.get(
    PATH,
    dependencies=[Depends(only_query("model", "metadata", "after", "limit", "order"))],
    response_model=ListOf[StoredObject],
)
def list_completions(
    request: Request,
    account: Reader,
    services: Given,
    page: Paged,
    model: str | None = None,
    order: Annotated[Order, Query()] = "asc",
) -> Response:
    found = services.stored.list(
        account.id,
        model=model or None,
        metadata=metadata_pairs(request),
        after=page.after,
        limit=page.limit,
        order=order,
    )
    return JSONResponse(listing([render(stored) for stored in found.items], found.has_more))


@router.get(PATH + "/{completion_id}", dependencies=[Depends(only_query())], response_model=StoredObject)
def get_completion(completion_id: str, account: Reader, services: Given) -> Response:
    return JSONResponse(render(services.stored.get(account.id, completion_id)))


@router.post(PATH + "/{completion_id}", dependencies=[Depends(only_query())], response_model=StoredObject)
def describe_completion(
    completion_id: str,
    account: Writer,
    body: Annotated[DescribeBody, Depends(read_body(DescribeBody))],
    services: Given,
) -> Response:
    return JSONResponse(render(services.stored.describe(account.id, completion_id, body.metadata or {})))


@router.delete(PATH + "/{completion_id}", dependencies=[Depends(only_query())], response_model=Deleted)
def delete_completion(completion_id: str, account: Writer, services: Given) -> Response:
    services.stored.delete(account.id, completion_id)
    return JSONResponse({"id": completion_id, "object": "chat.completion.deleted", "deleted": True})


@router.get(
    PATH + "/{completion_id}/messages",
    dependencies=[Depends(only_query("after", "limit", "order"))],
    response_model=ListOf[StoredMessageObject],
)
def list_messages(
    completion_id: str, account: Reader, services: Given, page: Paged, order: Annotated[Order, Query()] = "asc"
) -> Response:
    found = services.stored.messages(account.id, completion_id, after=page.after, limit=page.limit, order=order)
    return JSONResponse(listing([_message(message) for message in found.items], found.has_more))


def render(stored: StoredCompletion) -> dict[str, Any]:
    """The answer as it was given, with what it was asked by."""
    asked = stored.request
    body = chat_answer(answer_of(stored), legacy=bool(asked.get("functions")))
    defaults = {"temperature": 1.0, "top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
    settings = {name: asked.get(name, default) for name, default in defaults.items()}
    fields = {name: asked.get(name) for name in ("tools", "tool_choice", "response_format", "seed")}
    return body | settings | fields | {"input_user": asked.get("user"), "metadata": stored.metadata}


def _message(stored: StoredMessage) -> dict[str, Any]:
    content: object = stored.message.get("content")
    parts = cast("list[dict[str, str]]", content) if isinstance(content, list) else None
    text = cast("str | None", content) if parts is None else "".join(part["text"] for part in parts)
    return {"name": None} | dict(stored.message) | {"id": stored.id, "content": text, "content_parts": parts}
