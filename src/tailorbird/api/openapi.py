"""Describes the data plane as an OpenAPI document, with what the framework cannot see in a handler.

A body is read by a dependency, an error comes from the one table of errors, and the statuses are the dialect's: all
three are found where they stand, so that the document follows the routes by itself.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from tailorbird.api.bodies import Body, BodyReader
from tailorbird.api.context import OnlyQuery
from tailorbird.api.dialects import DIALECTS, Dialect, Family, dialect_of
from tailorbird.api.errors import TABLE

_SCHEMAS = "#/components/schemas/"
_SURFACES, _CREATES = "x-surfaces", "x-creates"
_SECURITY: list[dict[str, list[str]]] = [{"api-key": []}, {"bearer": []}]
_SECURITY_SCHEMES = {
    "api-key": {"type": "apiKey", "in": "header", "name": "api-key", "description": "A key of the account."},
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key of the account, or an access token."},
}
_API_VERSION = {
    "name": "api-version",
    "in": "query",
    "schema": {
        "type": "string",
        "pattern": r"^(\d{4}-\d{2}-\d{2}(-preview)?|v1|latest|preview)$",
        "examples": ["2024-10-21"],
    },
}
_IDS = {
    name: {"description": "The request's id, in our log too.", "schema": {"type": "string"}}
    for name in ("x-request-id", "apim-request-id")
}
_TEXT = {"type": "string"}
_OPTIONAL = {"type": ["string", "null"]}
_ERRORS = {
    Family.AZURE: {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "type"],
                "properties": dict.fromkeys(("code", "message", "type", "param"), _TEXT),
            }
        },
    },
    Family.OPENAI: {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {"message": _TEXT, "type": _TEXT, "param": _OPTIONAL, "code": _OPTIONAL},
            }
        },
    },
}

CREATES: dict[str, Any] = {_CREATES: True}
"""Of a route that makes something: its status is the dialect's."""
_EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "string", "description": "A chunk as JSON; at the end `[DONE]`."}},
}
STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"itemSchema": _EVENT}}}}
"""Of a route that streams when it is asked to."""
BYTES: dict[int | str, dict[str, Any]] = {
    status: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
    for status in (200, 206)
}
"""Of a route that answers with a file's bytes, or a range of them."""


def only_on(*dialects: Dialect) -> dict[str, Any]:
    """Of a route that other surfaces do not have."""
    return {_SURFACES: [dialect.name for dialect in dialects]}


def form(file: str, **fields: dict[str, Any]) -> dict[str, Any]:
    """Of a route that takes a form with a file in it; a field whose schema says so is required."""
    required = [file, *(name for name, schema in fields.items() if schema.pop("required", False))]
    properties = {**fields, file: {"type": "string", "format": "binary"}}
    schema = {"type": "object", "required": required, "properties": properties, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


class Described(FastAPI):
    """An app whose document is made when it is first asked for, and kept."""

    def __init__(self, routers: Sequence[APIRouter], **settings: Any) -> None:
        super().__init__(**settings)
        self._routers = routers
        self._document: dict[str, Any] | None = None

    def openapi(self) -> dict[str, Any]:
        if self._document is None:
            self._document = describe(super().openapi(), self._routers)
        return self._document


def describe(plain: Mapping[str, Any], routers: Sequence[APIRouter]) -> dict[str, Any]:
    """The framework's document, completed for each of the routers' routes on each dialect."""
    document = copy.deepcopy(dict(plain))
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    shown = [route for route in routes if route.include_in_schema]
    bodies = _body_schemas(document, shown)
    components = document["components"]
    components["securitySchemes"] = _SECURITY_SCHEMES
    components["responses"] = {
        _response(family, status): _error_response(family, status) for family in _ERRORS for status in _statuses(family)
    }
    for family, schema in _ERRORS.items():
        components["schemas"][_error_name(family)] = schema
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    for dialect in DIALECTS:
        for route in shown:
            for method in sorted(route.methods or ()):
                _complete(document["paths"], dialect, route, method.lower(), bodies)
    document["paths"] = {path: operations for path, operations in document["paths"].items() if operations}
    _add_deployments(document["paths"])
    return document


# --- one operation ----------------------------------------------------------------------------------------------------


def _complete(
    paths: dict[str, Any], dialect: Dialect, route: APIRoute, method: str, bodies: Mapping[type[BaseModel], str]
) -> None:
    operations = paths[dialect.prefix + route.path_format]
    operation = operations[method]
    if dialect.name not in operation.pop(_SURFACES, [dialect.name]):
        del operations[method]
        return
    calls = list(_calls(route.dependant))
    for kind in _kinds(calls):
        schema = {"$ref": _SCHEMAS + bodies[kind]}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    operation["parameters"] = _parameters(operation.get("parameters", []), calls, dialect)
    operation["security"] = _SECURITY
    answers = {status: answer for status, answer in operation["responses"].items() if status != "422"}
    created = operation.pop(_CREATES, False)
    if created and dialect.created != HTTPStatus.OK:
        answers[str(dialect.created)] = answers.pop("200")
    for answer in answers.values():
        answer["headers"] = _IDS | ({"Location": {"schema": _TEXT}} if created and dialect.location else {})
    errors = {
        str(status): {"$ref": f"#/components/responses/{_response(dialect.family, status)}"}
        for status in _statuses(dialect.family)
    }
    operation["responses"] = {**answers, **errors}


def _parameters(known: list[dict[str, Any]], calls: list[object], dialect: Dialect) -> list[dict[str, Any]]:
    """The framework's, and those that a handler reads by hand; of a path, of a query, of the dialect."""
    names = {parameter["name"] for parameter in known}
    pieces = [
        {"name": piece, "in": "path", "required": True, "schema": _TEXT}
        for piece in re.findall(r"{(\w+)}", dialect.prefix)
        if piece not in names
    ]
    read = {name for call in calls if isinstance(call, OnlyQuery) for name in call.known}
    hand = [_by_hand(name) for name in sorted(read - names)]
    return [*pieces, *known, *hand, _API_VERSION | {"required": dialect.needs_api_version}]


def _by_hand(name: str) -> dict[str, Any]:
    if name == "metadata":
        pairs = {"type": "object", "additionalProperties": _TEXT}
        return {"name": name, "in": "query", "style": "deepObject", "explode": True, "schema": pairs}
    return {"name": name, "in": "query", "schema": _TEXT}


def _calls(dependant: Dependant) -> Iterator[object]:
    """Everything a route depends on, and what that depends on."""
    for below in dependant.dependencies:
        yield below.call
        yield from _calls(below)


def _kinds(calls: Iterable[object]) -> list[type[BaseModel]]:
    """The bodies that are read."""
    return [cast("BodyReader[Body]", call).kind for call in calls if isinstance(call, BodyReader)]


# --- what operations share --------------------------------------------------------------------------------------------


def _body_schemas(document: dict[str, Any], routes: Sequence[APIRoute]) -> dict[type[BaseModel], str]:
    """Puts the schemas of all bodies into the document; the name of each."""
    found = {kind for route in routes for kind in _kinds(_calls(route.dependant))}
    kinds = sorted(found, key=lambda kind: kind.__name__)
    refs, definitions = models_json_schema([(kind, "validation") for kind in kinds], ref_template=_SCHEMAS + "{model}")
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(definitions.get("$defs", {}))
    return {kind: refs[kind, "validation"]["$ref"].removeprefix(_SCHEMAS) for kind in kinds}


def _statuses(family: Family) -> list[int]:
    """Every status an error has on this family's surfaces."""
    cells = [row.azure if family is Family.AZURE else row.openai for row in TABLE.values()]
    return sorted({cell.status for cell in cells})


def _error_name(family: Family) -> str:
    return f"{family.value.capitalize()}Error"


def _response(family: Family, status: int) -> str:
    return f"{family.value.capitalize()}{status}"


def _error_response(family: Family, status: int) -> dict[str, Any]:
    headers = dict(_IDS)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        headers |= {name: {"schema": {"type": "string"}} for name in ("retry-after", "retry-after-ms")}
    schema = {"$ref": _SCHEMAS + _error_name(family)}
    return {
        "description": HTTPStatus(status).phrase,
        "headers": headers,
        "content": {"application/json": {"schema": schema}},
    }


def _add_deployments(paths: dict[str, Any]) -> None:
    """Azure's clients name the deployment in the path of inference; the transport takes it out again."""
    for path, operations in list(paths.items()):
        dialect = dialect_of(path)
        operation = operations.get("post", {})
        if dialect is None or dialect.family is not Family.AZURE or "inference" not in operation.get("tags", ()):
            continue
        scoped = copy.deepcopy(operation)
        scoped["operationId"] += "_of_deployment"
        scoped["parameters"].insert(0, {"name": "deployment", "in": "path", "required": True, "schema": _TEXT})
        paths[f"{dialect.prefix}/deployments/{{deployment}}{path.removeprefix(dialect.prefix)}"] = {"post": scoped}
