"""What every ARM request and answer has in common: paths in any case, the caller, lists, times, request ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.convertors import Convertor, register_url_convertor

from tailorbird.api.context import Given
from tailorbird.api.dialects import Family
from tailorbird.api.errors import error_response, from_validation
from tailorbird.domain.access import Account, Action, Principal
from tailorbird.domain.errors import ServiceError, Unauthenticated

ACCOUNTS = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.CognitiveServices/accounts"
ACCOUNT = ACCOUNTS + "/{account}"


def _pattern(regular_expression: str) -> Convertor[str]:
    """A piece of a path that matches by a pattern and is nobody's argument."""

    class Pattern(Convertor[str]):
        regex = regular_expression

        def convert(self, value: str) -> str:
            return value

        def to_string(self, value: str) -> str:
            return value

    return Pattern()


def arm_path(template: str) -> str:
    """The template as a route path whose fixed words match in any case: clients write resourceGroups, resourcegroups
    and more, and ARM takes them all."""
    parts: list[str] = []
    for number, word in enumerate(template.strip("/").split("/")):
        if word.startswith("{"):
            parts.append(word)
            continue
        name = "word_" + re.sub(r"\W", "_", word.lower())
        register_url_convertor(name, _pattern(f"(?i:{re.escape(word)})"))
        parts.append(f"{{fixed_{number}:{name}}}")
    return "/" + "/".join(parts)


class ArmRoute(APIRoute):
    """Puts ARM's request ids on every answer, refusals included."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def with_ids(request: Request) -> Response:
            try:
                response = await handle(request)
            except ServiceError as error:
                response = error_response(error, Family.ARM)
            except RequestValidationError as error:
                response = error_response(from_validation(list(error.errors())), Family.ARM)
            request_id: str = request.state.request_id
            response.headers["x-ms-request-id"] = request_id
            correlation = request.headers.get("x-ms-correlation-request-id")
            response.headers["x-ms-correlation-request-id"] = correlation or request_id
            return response

        return with_ids


def caller(request: Request, services: Given) -> Principal:
    """The holder of the token. Raises Unauthenticated, InvalidToken; a key opens the data plane only."""
    scheme, _, token = request.headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated(
            "Authentication failed. The 'Authorization' header is missing or holds no Bearer token. Get one from "
            f"{services.addresses.control_plane}/{services.access.tenant_id}/oauth2/v2.0/token."
        )
    return services.access.by_token(token.strip())


Caller = Annotated[Principal, Depends(caller)]


def opened(action: Action) -> Callable[..., Account]:
    """A dependency: the account of the path, for a caller who may do this to it."""

    def check(subscription: str, group: str, account: str, who: Caller, services: Given) -> Account:
        return services.access.open(who, action, subscription, group, account)

    return check


def listed(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All of it is one page."""
    return {"value": list(items), "nextLink": None}


def moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
