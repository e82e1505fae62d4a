"""Routes of training files below our own prefix: their lines as a model learns them, their figures, their problems."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, Response

from tailorbird.api.auth import allow
from tailorbird.api.bodies import listing
from tailorbird.api.context import Given, only_query
from tailorbird.api.files import PATH
from tailorbird.dataset.records import CompletionExample, PreferencePair, Record
from tailorbird.dataset.validate import Problem
from tailorbird.domain.access import Account, Action
from tailorbird.service.examples import Line, Side, Turn, kind_of
from tailorbird.service.previews import Listed

router = APIRouter(tags=["files"])

MAX_LINES, MAX_PROBLEMS = 100, 10_000
_FAR = 10_000_000

Reader = Annotated[Account, Depends(allow(Action.READ_FILE))]
After = Annotated[int, Query(ge=0, le=_FAR)]


@router.get(PATH + "/{file_id}/preview", dependencies=[Depends(only_query("model", "after", "limit"))])
def preview_file(
    file_id: str,
    account: Reader,
    services: Given,
    model: str | None = None,
    after: After = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_LINES)] = 10,
) -> Response:
    """Lines behind line `after`, each with its messages, which of them are trained, and tokens."""
    found = services.previews.preview(account.id, file_id, model or None, after, limit)
    body = listing([_line(line) for line in found.lines], found.has_more)
    return JSONResponse(body | {"model": found.model, "max_tokens": found.max_tokens})


@router.get(PATH + "/{file_id}/statistics", dependencies=[Depends(only_query("model"))])
def count_file(file_id: str, account: Reader, services: Given, model: str | None = None) -> Response:
    found = services.previews.statistics(account.id, file_id, model or None)
    return JSONResponse(
        {
            "object": "file.statistics",
            "file_id": file_id,
            "model": found.model,
            "max_tokens": found.max_tokens,
            "kind": found.kind,
            "tokens_are_exact": found.exact,
            "examples": found.examples,
            "tokens": found.tokens,
            "trained_tokens": found.learned,
            "longest": None if found.longest_line is None else {"line": found.longest_line, "tokens": found.longest},
            "too_long": found.too_long,
            "unusable": found.unusable,
        }
    )


@router.get(PATH + "/{file_id}/problems", dependencies=[Depends(only_query("after", "limit"))])
def list_problems(
    file_id: str,
    account: Reader,
    services: Given,
    after: After = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_PROBLEMS)] = 1000,
) -> Response:
    """Every problem in the order of the lines; `after` is the id of the last one of the page before."""
    found = services.previews.problems(account.id, file_id, after, limit)
    body = listing([_listed(one) for one in found.items], after + len(found.items) < found.total)
    return JSONResponse(body | {"total": found.total})


def _line(line: Line) -> dict[str, Any]:
    record, sides = line.record, line.sides
    shown: dict[str, Any] = {"id": str(line.number), "object": "file.line", "line": line.number}
    if record is not None:
        shown["kind"] = kind_of(record)
        shown["tokens"] = _sum([side.tokens for side in sides])
        shown["trained_tokens"] = _sum([side.learned for side in sides])
        shown["tools"] = None if isinstance(record, CompletionExample) else record.tools
        shown |= _conversations(record, sides)
    shown["problems"] = [_problem(problem) for problem in line.problems]
    return {key: value for key, value in shown.items() if value is not None}


def _conversations(record: Record, sides: tuple[Side, ...]) -> dict[str, Any]:
    """A pair's prompt stands once, before its two ends."""
    turns = [[_turn(turn) for turn in side.turns] for side in sides]
    if not isinstance(record, PreferencePair):
        return {"messages": turns[0]}
    given = len(record.messages)
    return {
        "messages": turns[0][:given],
        "preferred_output": turns[0][given:],
        "non_preferred_output": turns[1][given:],
    }


def _turn(turn: Turn) -> dict[str, Any]:
    message = turn.message
    shown = {
        "role": message.role,
        "content": message.content,
        "name": message.name,
        "tool_calls": list(message.tool_calls) or None,
        "tool_call_id": message.tool_call_id,
        "tokens": turn.tokens,
        "trained": turn.trained,
        "trained_tokens": turn.learned,
    }
    return {key: value for key, value in shown.items() if value is not None or key == "content"}


def _listed(one: Listed) -> dict[str, Any]:
    return {"id": str(one.place), "object": "file.problem", **_problem(one.problem), "excerpt": one.excerpt}


def _problem(problem: Problem) -> dict[str, Any]:
    return {"line": problem.line, "field": problem.field, "message": problem.message}


def _sum(counts: list[int | None]) -> int | None:
    return None if None in counts else sum(count or 0 for count in counts)
