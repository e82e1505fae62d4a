"""What every handler is given: the services, the dialect it answers in, and checks of the query."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Query, Request

from tailorbird.api.dialects import Dialect, dialect_of
from tailorbird.api.errors import no_such_path
from tailorbird.domain.errors import InvalidRequest, NotFound
from tailorbird.service.access import Access
from tailorbird.service.chat import Chat
from tailorbird.service.deployments import Deployments
from tailorbird.service.files import Files
from tailorbird.service.jobs import Jobs
from tailorbird.service.models import Models

MAX_LIMIT = 10_000
_API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?|v1|latest|preview")


@dataclass(frozen=True, slots=True)
class Addresses:
    """The URLs clients reach us by, without a slash at the end."""

    data_plane: str
    control_plane: str


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases the routes call."""

    access: Access
    files: Files
    jobs: Jobs
    models: Models
    deployments: Deployments
    chat: Chat
    addresses: Addresses


def services_of(request: Request) -> Services:
    return cast("Services", request.app.state.services)


def dialect_of_request(request: Request) -> Dialect:
    dialect = dialect_of(request.url.path)
    if dialect is None:
        raise RuntimeError(f"{request.url.path} is mounted outside every dialect")
    return dialect


Given = Annotated[Services, Depends(services_of)]
Spoken = Annotated[Dialect, Depends(dialect_of_request)]


def check_api_version(request: Request, dialect: Spoken) -> None:
    """Azure's dated surface knows no path without a version; the others take one and need none."""
    version = request.query_params.get("api-version")
    if version is None:
        if dialect.needs_api_version:
            raise no_path(request, dialect)
    elif _API_VERSION.fullmatch(version) is None:
        raise InvalidRequest(
            f"'{version}' is not an API version. Use a date such as 2024-10-21, with or without -preview.",
            param="api-version",
        )


def no_path(request: Request, dialect: Dialect) -> NotFound:
    """What a surface answers to a path it does not have."""
    return no_such_path(request.method, request.url.path, dialect.family)


def only_query(*known: str) -> Callable[[Request], None]:
    """Refuses a query parameter nobody would read: an ignored filter answers a question that was not asked."""

    def check(request: Request) -> None:
        for name in request.query_params:
            if name != "api-version" and name.split("[", 1)[0] not in known:
                allowed = f"known here: {', '.join(known)}" if known else "none is known here"
                raise InvalidRequest(f"The query parameter '{name}' is not supported ({allowed}).", param=name)

    return check


@dataclass(frozen=True, slots=True)
class Paging:
    after: str | None
    limit: int


def paging(default: int) -> Callable[..., Paging]:
    """`after` and `limit` of a list."""

    def read(after: str | None = None, limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = default) -> Paging:
        # Some clients send what is not given as an empty string.
        return Paging(after or None, limit)

    return read
