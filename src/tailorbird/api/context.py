"""What every handler is given: the services, the dialect it answers in, and checks of the query."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Query, Request
from prometheus_client import CollectorRegistry

from tailorbird.api.dialects import Dialect, dialect_of
from tailorbird.api.errors import no_such_path
from tailorbird.domain.errors import InvalidRequest, NotFound
from tailorbird.service.access import Access
from tailorbird.service.audit import Audit
from tailorbird.service.chat import Chat
from tailorbird.service.completions import StoredCompletions
from tailorbird.service.deployments import Deployments
from tailorbird.service.embeddings import Embedder
from tailorbird.service.evals import Evals
from tailorbird.service.evals.running import EvalRuns
from tailorbird.service.files import Files
from tailorbird.service.graders import Graders
from tailorbird.service.imports import Imports
from tailorbird.service.jobs import Jobs
from tailorbird.service.models import Models
from tailorbird.service.previews import Previews
from tailorbird.service.prompts import Prompts
from tailorbird.service.sharing import Sharing
from tailorbird.service.uploads import Uploads
from tailorbird.service.usage import Cost

MAX_LIMIT = 10_000
_API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?|v1|latest|preview")


@dataclass(frozen=True, slots=True)
class Addresses:
    """The URLs clients reach us by, without a slash at the end."""

    data_plane: str
    control_plane: str


Sweep = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases the routes call."""

    access: Access
    audit: Audit
    files: Files
    imports: Imports
    uploads: Uploads
    previews: Previews
    jobs: Jobs
    cost: Cost
    models: Models
    deployments: Deployments
    chat: Chat
    prompts: Prompts
    embedder: Embedder
    stored: StoredCompletions
    graders: Graders
    evals: Evals
    eval_runs: EvalRuns
    sharing: Sharing
    addresses: Addresses
    sweeps: tuple[Sweep, ...] = ()
    """What the clock ends (files past their expiry, idle deployments); each is run every `sweep_seconds`."""
    sweep_seconds: float = 60.0
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    """What `/metrics` shows beside the figures of requests."""
    metrics_public: bool = False
    """Whether `/metrics` answers everybody, and not this machine only."""


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


def location(request: Request, dialect: Dialect, path: str) -> dict[str, str]:
    """The header of an answer to what was made, where the surface has one; under the endpoint the request came by."""
    if not dialect.location:
        return {}
    account: str | None = request.state.account
    endpoint = services_of(request).addresses.data_plane + (f"/accounts/{account}" if account else "")
    return {"Location": f"{endpoint}{dialect.prefix}{path}"}


class OnlyQuery:
    """A dependency: refuses a query parameter nobody would read; an ignored filter answers another question."""

    def __init__(self, known: tuple[str, ...]) -> None:
        self.known = known

    def __call__(self, request: Request) -> None:
        for name in request.query_params:
            if name != "api-version" and name.split("[", 1)[0] not in self.known:
                allowed = f"known here: {', '.join(self.known)}" if self.known else "none is known here"
                raise InvalidRequest(f"The query parameter '{name}' is not supported ({allowed}).", param=name)


def only_query(*known: str) -> OnlyQuery:
    return OnlyQuery(known)


def metadata_pairs(request: Request) -> dict[str, str]:
    """The pairs of `metadata[key]=value` in the query; `metadata=null` asks for all."""
    return {
        name.removeprefix("metadata[").removesuffix("]"): value
        for name, value in request.query_params.items()
        if name.startswith("metadata[")
    }


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
