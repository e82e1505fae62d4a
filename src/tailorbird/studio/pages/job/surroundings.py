"""What a job's page shows of other things: its files by their names, its lineage, what its data was refused for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tailorbird.studio.client import Refused
from tailorbird.studio.following import Following
from tailorbird.studio.visit import Visit

_FEW = 200
"""So many findings are shown; the file has them all."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`names` are file names by id, of files that are still there. `deployed` says which deployments serve a model."""

    names: Mapping[str, str]
    lineage: Mapping[str, Any]
    findings: list[Mapping[str, Any]]
    more_findings: bool

    @staticmethod
    async def read(visit: Visit, followed: Following) -> Surroundings:
        api, job = visit.api, followed.job
        files = [job.get("training_file"), job.get("validation_file"), *(job.get("result_files") or ())]
        where = f"/fine_tuning/jobs/{followed.id}"
        lineage, findings, *names = await asyncio.gather(
            api.fresh(f"{where}/lineage", 2.0, plane="own"),
            _findings(visit, followed),
            *(_name(visit, str(file)) for file in files if file),
        )
        return Surroundings(dict(found for found in names if found), lineage, *findings)


async def _name(visit: Visit, file_id: str) -> tuple[str, str] | None:
    try:
        return file_id, str((await visit.api.fresh(f"/files/{file_id}", 30.0))["filename"])
    except Refused as error:
        # Deleted, or not this person's to see: its id stays as it is.
        if error.status in (403, 404):
            return None
        raise


async def _findings(visit: Visit, followed: Following) -> tuple[list[Mapping[str, Any]], bool]:
    if followed.status != "failed":
        return [], False
    told = await visit.api.fresh(f"/fine_tuning/jobs/{followed.id}/findings", 30.0, plane="own", limit=_FEW)
    return told["data"], bool(told["has_more"])
