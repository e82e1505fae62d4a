"""One table from ServiceError to each dialect's status, code and body; nothing else decides a status."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fastapi.responses import JSONResponse
from pydantic_core import ErrorDetails

from tailorbird.api.dialects import Family
from tailorbird.api.filtering import filter_results
from tailorbird.domain.errors import (
    Conflict,
    ContentFiltered,
    DeploymentNotFound,
    FileTooLarge,
    IllegalState,
    InternalFailure,
    InvalidRequest,
    InvalidToken,
    ModelNotFound,
    NotFound,
    PayloadTooLarge,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
    ServiceError,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)
from tailorbird.domain.safety import Filtered
from tailorbird.service import acting

_INVALID = "invalid_request_error"
_SERVER = "server_error"


@dataclass(frozen=True, slots=True)
class Cell:
    """How one family answers: `code` unless the error brings its own; `type` is OpenAI's and inference's word."""

    status: int
    code: str | None
    type: str = _INVALID


@dataclass(frozen=True, slots=True)
class Row:
    azure: Cell
    openai: Cell
    arm: Cell


# Codes: Azure's ErrorCode enum of 2024-10-21 and what the service was seen to answer; OpenAI's error guide; ARM's usual
# ones. A missing role is 401 on Azure's data plane, 403 everywhere else.
TABLE: dict[type[ServiceError], Row] = {
    InvalidRequest: Row(Cell(400, "invalidPayload"), Cell(400, None), Cell(400, "InvalidRequest")),
    ContentFiltered: Row(Cell(400, "content_filter"), Cell(400, "content_filter"), Cell(400, "InvalidRequest")),
    PayloadTooLarge: Row(Cell(413, "invalidPayload"), Cell(413, "file_too_large"), Cell(413, "RequestContentTooLarge")),
    FileTooLarge: Row(Cell(413, "quotaExceeded"), Cell(413, "file_too_large"), Cell(413, "RequestContentTooLarge")),
    NotFound: Row(Cell(404, "notFound"), Cell(404, None), Cell(404, "ResourceNotFound")),
    ModelNotFound: Row(Cell(404, "notFound"), Cell(404, "model_not_found"), Cell(404, "ResourceNotFound")),
    DeploymentNotFound: Row(
        Cell(404, "DeploymentNotFound"), Cell(404, "model_not_found"), Cell(404, "ResourceNotFound")
    ),
    Unauthenticated: Row(Cell(401, "401"), Cell(401, "invalid_api_key"), Cell(401, "AuthenticationFailed")),
    InvalidToken: Row(Cell(401, "401"), Cell(401, "invalid_api_key"), Cell(401, "InvalidAuthenticationToken")),
    PermissionDenied: Row(
        Cell(401, "PermissionDenied"), Cell(403, "insufficient_permissions"), Cell(403, "AuthorizationFailed")
    ),
    IllegalState: Row(Cell(400, "unexpectedEntityState"), Cell(400, None), Cell(409, "Conflict")),
    Conflict: Row(Cell(409, "conflict"), Cell(409, "conflict"), Cell(409, "Conflict")),
    PreconditionFailed: Row(Cell(412, "conflict"), Cell(412, None), Cell(412, "PreconditionFailed")),
    QuotaExceeded: Row(
        Cell(400, "quotaExceeded"), Cell(400, "quota_exceeded", "insufficient_quota"), Cell(400, "InsufficientQuota")
    ),
    TooManyRequests: Row(
        Cell(429, "429", "requests"), Cell(429, "rate_limit_exceeded", "requests"), Cell(429, "TooManyRequests")
    ),
    Unavailable: Row(
        Cell(503, "serviceUnavailable", _SERVER), Cell(503, None, _SERVER), Cell(503, "ServiceUnavailable")
    ),
    InternalFailure: Row(
        Cell(500, "internalFailure", _SERVER), Cell(500, None, _SERVER), Cell(500, "InternalServerError")
    ),
}


def policy_violation(filtered: Filtered) -> dict[str, Any]:
    """Azure's inner error of a prompt that was filtered."""
    return {"code": "ResponsibleAIPolicyViolation", "content_filter_result": filter_results(filtered)}


def cell_of(error: ServiceError, family: Family) -> Cell:
    row = next(TABLE[cls] for cls in type(error).__mro__ if cls in TABLE)
    return {Family.AZURE: row.azure, Family.OPENAI: row.openai, Family.ARM: row.arm}[family]


def error_body(error: ServiceError, family: Family) -> dict[str, Any]:
    """`{"error": {...}}` in the family's shape: OpenAI always has four keys, the others only those with a value."""
    cell = cell_of(error, family)
    code = error.code or cell.code
    if family is Family.OPENAI:
        inner = {"message": error.message, "type": cell.type, "param": error.param, "code": code}
    elif family is Family.AZURE:
        inner = {"code": code, "message": error.message, "type": cell.type, "param": error.param}
        if isinstance(error, ContentFiltered):
            inner |= {"type": None, "status": cell.status, "innererror": policy_violation(error.filtered)}
    else:
        inner = {"code": code, "message": error.message, "target": error.param}
    return {"error": inner if family is Family.OPENAI else {k: v for k, v in inner.items() if v is not None}}


def error_response(error: ServiceError, family: Family) -> JSONResponse:
    headers: dict[str, str] = {}
    status = cell_of(error, family).status
    acting.current().error = type(error).__name__
    if status == 409:
        # The SDK repeats every 409 twice, which cannot help.
        headers["x-should-retry"] = "false"
    if status == 401 and family is Family.ARM:
        headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
    if isinstance(error, TooManyRequests):
        headers["retry-after-ms"] = str(math.ceil(error.retry_after * 1000))
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    return JSONResponse(error_body(error, family), status, headers)


def no_such_path(method: str, path: str, family: Family) -> NotFound:
    """What a gateway says of a path, or a method on a path, that it does not know."""
    if family is Family.OPENAI:
        return NotFound(f"Invalid URL ({method} {path})")
    if family is Family.AZURE:
        return NotFound("Resource not found", code="404")
    return NotFound(f"There is no resource at {method} {path}.")


def from_validation(faults: list[ErrorDetails]) -> InvalidRequest:
    """Every fault of a body or a query in one error; `param` names the first field."""
    texts: list[str] = []
    for fault in faults:
        where = _path(fault["loc"])
        texts.append(_text(fault, where))
    first = _path(faults[0]["loc"]) if faults else ""
    return InvalidRequest(" ".join(texts), param=first or None)


def _text(fault: ErrorDetails, where: str) -> str:
    kind = fault["type"]
    if kind == "json_invalid":
        reason = fault.get("ctx", {}).get("error", fault["msg"])
        return f"The body is not valid JSON: {reason}."
    if kind == "missing":
        return f"'{where}' is missing; it is required." if where else "The body is missing; send a JSON object."
    if kind == "extra_forbidden":
        return f"'{where}' is not a field of this request; remove it."
    reason = fault["msg"].removeprefix("Value error, ").removesuffix(".")
    reason = reason[:1].lower() + reason[1:]
    if not where:
        return f"The body is not valid: {reason}."
    return f"'{where}' is not valid: {reason}; {_short(fault['input'])} was sent."


def _path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        if part in ("body", "query", "path") and not text:
            continue
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
