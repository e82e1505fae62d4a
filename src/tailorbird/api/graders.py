"""Routes of graders: try one on a sample, check one."""

from __future__ import annotations

import dataclasses
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response

from tailorbird.api.auth import allow
from tailorbird.api.bodies import read_body
from tailorbird.api.bodies.evals import RunGraderBody, ValidateGraderBody
from tailorbird.api.context import Given, only_query
from tailorbird.api.shapes import GradeObject, GraderObject
from tailorbird.domain.access import Account, Action
from tailorbird.domain.graders import Grade, JudgeUsage
from tailorbird.service.graders import sample_of
from tailorbird.service.graders.reading import read_grader

router = APIRouter(tags=["graders"])

PATH = "/fine_tuning/alpha/graders"

Tuner = Annotated[Account, Depends(allow(Action.WRITE_JOB))]


@router.post(PATH + "/run", dependencies=[Depends(only_query())], response_model=GradeObject)
async def run(
    body: Annotated[RunGraderBody, Depends(read_body(RunGraderBody))], account: Tuner, services: Given
) -> Response:
    grader = read_grader(body.grader)
    services.graders.check(grader)
    began = time.monotonic()
    item = (body.item or {}) | ({} if body.reference_answer is None else {"reference_answer": body.reference_answer})
    grade = await services.graders.grade(account.id, grader, sample_of(body.model_sample), item)
    return JSONResponse(_answer(grade, body.grader, time.monotonic() - began))


@router.post(PATH + "/validate", dependencies=[Depends(only_query())], response_model=GraderObject)
def validate(
    body: Annotated[ValidateGraderBody, Depends(read_body(ValidateGraderBody))], account: Tuner, services: Given
) -> Response:
    del account  # its rights were checked
    services.graders.check(read_grader(body.grader))
    return JSONResponse({"grader": body.grader})


def _answer(grade: Grade, raw: dict[str, Any], seconds: float) -> dict[str, Any]:
    used = grade.usage
    return {
        "reward": grade.score,
        "sub_rewards": grade.scores,
        "model_grader_token_usage_per_model": _by_model(used),
        "metadata": {
            "name": raw["name"],
            "type": raw["type"],
            "errors": dataclasses.asdict(grade.errors),
            "execution_time": round(seconds, 6),
            "scores": grade.scores or {raw["name"]: grade.score},
            "token_usage": sum(u.prompt_tokens + u.completion_tokens for u in used) if used else None,
            "sampled_model_name": used[0].model if used else None,
        },
    }


def _by_model(used: tuple[JudgeUsage, ...]) -> dict[str, dict[str, int]]:
    totals: dict[str, dict[str, int]] = {}
    for usage in used:
        known = totals.setdefault(usage.model, {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})
        known["prompt_tokens"] += usage.prompt_tokens
        known["completion_tokens"] += usage.completion_tokens
        known["total_tokens"] += usage.prompt_tokens + usage.completion_tokens
    return totals
