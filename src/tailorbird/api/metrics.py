"""What every request leaves behind: a line in the log and figures for Prometheus; and the route that shows them."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from time import perf_counter
from typing import Any

from fastapi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailorbird.api.arm.envelope import caller
from tailorbird.api.context import Services
from tailorbird.api.dialects import dialect_of
from tailorbird.domain.access import Action
from tailorbird.service import acting
from tailorbird.service.acting import Acting

log = logging.getLogger("tailorbird.access")

PATH = "/metrics"
# From a cached look at the database to a long upload; a chat of 64 tokens lies in the middle.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_QUIET = frozenset({"/health", PATH})
_FIXED = re.compile(r"\{fixed_\d+:word_(\w+)\}")
_PREFIX = re.compile(r"^(/openai/v1|/openai|/v1|/api/projects/\{\w+\}/openai/v1)(?=/)")


class Requests:
    """Labels have few values: routes as templates, never as paths, so that no id becomes a time series.

    `suppressed` says how many refusals the audit trail left out."""

    def __init__(self, suppressed: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        to, where = self.registry, ["surface", "method", "route"]
        self._seconds = Histogram(
            "tailorbird_http_request_seconds",
            "From the first byte in to the last part of the answer",
            where,
            registry=to,
            buckets=_SECONDS,
        )
        self._responses = Counter("tailorbird_http_responses", "Answers", [*where, "status"], registry=to)
        self._errors = Counter(
            "tailorbird_http_errors", "Refusals and failures by class of error", ["surface", "error"], registry=to
        )
        self._limited = Counter(
            "tailorbird_rate_limit_refusals", "Requests refused by a rate limit", ["surface"], registry=to
        )
        self._open = Gauge("tailorbird_http_requests_in_flight", "Requests being answered", registry=to)
        flood = Gauge("tailorbird_audit_refusals_suppressed", "Refusals beyond what is written down", registry=to)
        flood.set_function(suppressed)

    def began(self) -> None:
        self._open.inc()

    def ended(self, surface: str, method: str, route: str, status: int, error: str, seconds: float) -> None:
        self._open.dec()
        self._seconds.labels(surface, method, route).observe(seconds)
        self._responses.labels(surface, method, route, str(status)).inc()
        if status >= 400:
            self._errors.labels(surface, error or str(status)).inc()
        if status == 429:
            self._limited.labels(surface).inc()


class Observed:
    """Inside `Transport`, so that paths have one form and the request its id; outside everything else."""

    def __init__(self, app: ASGIApp, requests: Requests) -> None:
        self._app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        with acting.begun(Acting(scope["state"]["request_id"], "" if client is None else client[0])):
            await self._observe(scope, receive, send)

    async def _observe(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Without an answer something escaped, and the net under us makes a 500 of it.
        status, began, open_ = 500, perf_counter(), True

        def end() -> None:
            nonlocal open_
            if open_:
                open_ = False
                self._end(scope, status, perf_counter() - began)

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                # Before the last bytes leave: who has the answer finds it in the log and in the figures.
                end()
            await send(message)

        self._requests.began()
        try:
            await self._app(scope, receive, noting)
        finally:
            end()

    def _end(self, scope: Scope, status: int, seconds: float) -> None:
        who = acting.current()
        found = scope.get("route")
        route = _template(getattr(found, "path", "")) if found is not None else "(none)"
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        self._requests.ended(_surface(scope["path"]), method, route, status, who.error, seconds)
        level = logging.DEBUG if route in _QUIET else logging.INFO
        if log.isEnabledFor(level):
            job = scope.get("path_params", {}).get("job_id")
            who.job = who.job or str(job or "")
            # The path, never the query: signatures and codes stand there.
            facts: dict[str, Any] = {"method": method, "path": scope["path"], "status": status}
            facts |= {"ms": round(seconds * 1000, 2), "address": who.address}
            log.log(level, "request", extra=facts if status < 400 else {**facts, "error": who.error})


def show(request: Request) -> Response:
    """In Prometheus' text format: to this machine, to everybody where the operator says so, else to who may see usages
    of the installation. Raises Unauthenticated, PermissionDenied."""
    services: Services = request.app.state.services
    if not (services.metrics_public or _is_local(request)):
        services.access.authorize_at(caller(request, services), Action.READ_USAGES, _first_subscription(services))
    requests: Requests = request.app.state.requests
    both = (generate_latest(registry) for registry in (services.registry, requests.registry))
    return Response(b"".join(both), media_type=CONTENT_TYPE_LATEST)


def _first_subscription(services: Services) -> str:
    return f"/subscriptions/{services.access.resources.groups()[0].subscription_id}"


def _is_local(request: Request) -> bool:
    if request.client is None or "forwarded" in request.headers or "x-forwarded-for" in request.headers:
        # Somebody's proxy runs here; who is behind it does not.
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _surface(path: str) -> str:
    dialect = dialect_of(path)
    if dialect is not None:
        return dialect.name
    return "own" if path in _QUIET or path.startswith("/tailorbird/") else "arm"


@lru_cache(maxsize=1024)
def _template(path: str) -> str:
    """A route's path without its surface's prefix; ARM's fixed words as words again."""
    return _PREFIX.sub("", _FIXED.sub(lambda match: match[1], path))
