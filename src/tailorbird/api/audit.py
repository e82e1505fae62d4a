"""The audit trail's route: who did what, for those who own the place where it happened."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request

from tailorbird.api.arm.envelope import ArmRoute, Caller, moment
from tailorbird.api.context import Given, only_query
from tailorbird.domain.audit import Entry, Wanted
from tailorbird.domain.errors import InvalidRequest
from tailorbird.service.audit import outcome_named, time_named

PATH = "/tailorbird/v1/audit"
_FILTERS = ("scope", "principal", "action", "outcome", "requestId", "since", "until")
_MOST = 1000


def router() -> APIRouter:
    routes = APIRouter(route_class=ArmRoute, dependencies=[Depends(only_query(*_FILTERS, "before", "limit"))])
    routes.get(PATH)(read_audit)
    return routes


def wanted_of(request: Request) -> Wanted:
    given = {name: text for name in _FILTERS if (text := request.query_params.get(name, "").strip())}
    return Wanted(
        scopes=(_scope(given["scope"]),) if "scope" in given else (),
        principal=given.get("principal"),
        action=given.get("action"),
        outcome=outcome_named(given["outcome"]) if "outcome" in given else None,
        request_id=given.get("requestId"),
        since=_time(given, "since"),
        until=_time(given, "until"),
    )


def read_audit(
    request: Request,
    who: Caller,
    services: Given,
    wanted: Annotated[Wanted, Depends(wanted_of)],
    before: int | None = None,
    limit: Annotated[int, Query(ge=1, le=_MOST)] = 100,
) -> dict[str, Any]:
    page = services.audit.read(who, wanted, before=before, limit=limit)
    following = None
    if page.has_more:
        query = urlencode({**request.query_params, "before": page.items[-1].number})
        following = f"{services.addresses.control_plane}{PATH}?{query}"
    return {"value": [entry_body(entry) for entry in page.items], "nextLink": following}


def entry_body(entry: Entry) -> dict[str, Any]:
    return {
        "number": entry.number,
        "time": moment(entry.at),
        "action": entry.action,
        "resource": entry.resource,
        "outcome": entry.outcome.value,
        "principalId": entry.principal_id,
        "principalName": entry.principal_name,
        "requestId": entry.request_id,
        "sourceAddress": entry.address,
        "detail": entry.detail,
    }


def _scope(text: str) -> str:
    if not text.startswith("/"):
        raise InvalidRequest(f"'{text}' is not a scope; use an ARM id, /subscriptions/… .", param="scope")
    return text


def _time(given: dict[str, str], name: str) -> datetime | None:
    return time_named(given[name], name) if name in given else None
