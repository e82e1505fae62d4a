"""Puts the surfaces together: the data plane once per dialect, the control plane, health, and the net under them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic_core import ErrorDetails
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException

from tailorbird.api import (
    arm,
    audit,
    caller,
    chat,
    completions,
    embeddings,
    evals,
    files,
    findings,
    graders,
    integrations,
    jobs,
    metrics,
    models,
    previews,
    sharing,
    stored,
    tariff,
    uploads,
    usage,
    watching,
)
from tailorbird.api.background import Background
from tailorbird.api.context import Addresses, Services, check_api_version
from tailorbird.api.dialects import DIALECTS, TAILORBIRD, dialect_of, family_of
from tailorbird.api.errors import error_response, from_validation, no_such_path
from tailorbird.api.openapi import Described
from tailorbird.api.transport import Transport
from tailorbird.domain.errors import InvalidRequest, PayloadTooLarge, ServiceError, Unavailable

__all__ = ["Addresses", "Services", "create_app"]

log = logging.getLogger(__name__)

_DATA_PLANE = (
    files.router,
    uploads.router,
    jobs.router,
    integrations.router,
    models.router,
    chat.router,
    stored.router,
    completions.router,
    embeddings.router,
    evals.router,
    graders.router,
    sharing.router,
)


def create_app(services: Services) -> FastAPI:
    """The whole server as one ASGI app; its start-up takes up what an earlier process left unfinished."""
    app = Described(
        _DATA_PLANE,
        title="Tailorbird",
        summary="A self-hosted fine-tuning service that speaks Azure OpenAI",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
    )
    app.state.services = services
    app.state.background = Background()
    plane = APIRouter(dependencies=[Depends(check_api_version)])
    for router in _DATA_PLANE:
        plane.include_router(router)
    for dialect in DIALECTS:
        app.include_router(plane, prefix=dialect.prefix)
    # ARM's routes match words in any case through patterns, which no API description could show.
    app.include_router(arm.router(), include_in_schema=False)
    app.include_router(audit.router(), include_in_schema=False)
    app.include_router(usage.router, prefix=TAILORBIRD.prefix, include_in_schema=False)
    app.include_router(findings.router, prefix=TAILORBIRD.prefix, include_in_schema=False)
    app.include_router(watching.router, prefix=TAILORBIRD.prefix, include_in_schema=False)
    app.include_router(caller.router, prefix=TAILORBIRD.prefix, include_in_schema=False)
    app.include_router(previews.router, prefix=TAILORBIRD.prefix, include_in_schema=False)
    app.include_router(tariff.router, prefix=TAILORBIRD.prefix, include_in_schema=False)
    app.add_api_route("/health", _health, methods=["GET"])
    app.add_api_route(metrics.PATH, metrics.show, methods=["GET"], include_in_schema=False)
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(StarletteHTTPException, _on_http)
    app.state.requests = metrics.Requests(lambda: services.access.refusals.suppressed)
    app.add_middleware(metrics.Observed, requests=app.state.requests)
    app.add_middleware(Transport, is_upload=_is_upload)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    services: Services = app.state.services
    leftovers = [
        asyncio.create_task(run_in_threadpool(services.files.resume_unfinished)),
        asyncio.create_task(run_in_threadpool(app.state.background.resume_imports, services)),
        asyncio.create_task(services.deployments.resume_unfinished()),
        asyncio.create_task(services.eval_runs.resume_unfinished()),
        asyncio.create_task(run_in_threadpool(services.sharing.resume_unfinished)),
        asyncio.create_task(_sweep(services)),
        asyncio.create_task(services.cost.run()),
    ]
    for task in leftovers:
        task.add_done_callback(_report)
    yield
    for task in leftovers:
        task.cancel()
    await asyncio.gather(*leftovers, return_exceptions=True)
    await run_in_threadpool(services.cost.close)


async def _sweep(services: Services) -> None:
    while True:
        for sweep in services.sweeps:
            try:
                await sweep()
            except Exception:
                # The next round tries again; the other sweeps must not wait for this one to be mended.
                log.exception("a sweep failed")
        await asyncio.sleep(services.sweep_seconds)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("unfinished work could not be taken up", exc_info=error)


def _is_upload(method: str, path: str) -> bool:
    ends = path.endswith(files.PATH) or uploads.is_part(path)
    return method == "POST" and ends and dialect_of(path) is not None


def _health(request: Request) -> Response:
    """200 while requests can be answered; 503 without the database."""
    services: Services = request.app.state.services
    try:
        services.files.ping()
    except Exception as error:
        # Whatever the driver calls it, the answer to a probe is that the database is away.
        raise Unavailable("The database cannot be reached.") from error
    return JSONResponse({"status": "ok", "parts": {"store": "ok"}})


async def _on_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return error_response(error, family_of(request.url.path))


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults: list[ErrorDetails] = list(error.errors())
    return error_response(from_validation(faults), family_of(request.url.path))


async def _on_http(request: Request, error: Exception) -> Response:
    """The framework's own refusals in our words: a path or method nobody has, a body above its limit."""
    assert isinstance(error, StarletteHTTPException)
    family = family_of(request.url.path)
    if error.status_code in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        return error_response(no_such_path(request.method, request.url.path, family), family)
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return error_response(PayloadTooLarge(error.detail), family)
    return error_response(InvalidRequest(error.detail), family)
