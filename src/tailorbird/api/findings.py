"""Route of findings, below our own prefix: where harm was found in a job's data."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response

from tailorbird.api.auth import allow
from tailorbird.api.bodies import listing
from tailorbird.api.context import Given, Paging, only_query, paging
from tailorbird.api.jobs import PATH as JOBS
from tailorbird.domain.access import Account, Action
from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.safety import Finding
from tailorbird.service.screening import findings_in, has_findings

router = APIRouter(tags=["safety"])

Reader = Annotated[Account, Depends(allow(Action.READ_JOB))]

_ID = "finding-"


@router.get(JOBS + "/{job_id}/findings", dependencies=[Depends(only_query("after", "limit"))])
def list_findings(
    job_id: str, account: Reader, services: Given, page: Annotated[Paging, Depends(paging(100))]
) -> Response:
    """In the order of the files' lines; none of a job whose data was not refused."""
    after = _number(page.after)
    job = services.jobs.get(account.id, job_id)
    if not has_findings(job):
        return JSONResponse(listing([], has_more=False))
    file = services.files.get(account.id, job.result_file or "")
    found = findings_in(services.files.content(file), after, page.limit)
    rows = [_finding(finding, number) for number, finding in enumerate(found.items, after + 1)]
    return JSONResponse(listing(rows, found.has_more))


def _number(after: str | None) -> int:
    if after is None:
        return 0
    text = after.removeprefix(_ID)
    if not (text.isascii() and text.isdecimal()):
        raise InvalidRequest(f"'after' must be the id of a finding ({_ID}1), not '{after[:40]}'.", param="after")
    return int(text)


def _finding(finding: Finding, number: int) -> dict[str, Any]:
    return {
        "id": f"{_ID}{number}",
        "object": "fine_tuning.job.finding",
        "file": finding.file,
        "line": finding.line,
        "role": finding.role,
        "index": finding.index,
        "category": finding.category.value,
        "severity": finding.severity.word,
    }
