"""Deletes a file after asking, with the jobs that used it in the question."""

from __future__ import annotations

from tailorbird.studio.controls import attempt, confirm
from tailorbird.studio.pages.file_rows import File, Use, uses_of
from tailorbird.studio.visit import Visit
from tailorbird.studio.words import Words

_NAMED = 5


def question(t: Words, file: File, uses: list[Use]) -> str:
    """What is lost, and what is not."""
    parts = [t("files.delete_question", name=file["filename"])]
    jobs = list(dict.fromkeys(use.job_id for use in uses if use.part != "results"))
    waiting = list(dict.fromkeys(use.job_id for use in uses if use.part != "results" and not use.ended))
    if jobs:
        more = t("files.and_more", count=t.number(len(jobs) - _NAMED)) if len(jobs) > _NAMED else ""
        parts.append(t("files.delete_used", jobs=", ".join(jobs[:_NAMED]) + more))
    if waiting:
        parts.append(t("files.delete_waiting", jobs=", ".join(waiting[:_NAMED])))
    if any(use.part == "results" for use in uses):
        parts.append(t("files.delete_results"))
    return " ".join(parts)


async def ask_and_delete(visit: Visit, file: File) -> bool:
    """Whether the file is gone."""
    jobs = await attempt(visit.api.every("/fine_tuning/jobs"))
    if jobs is None or not await confirm(
        visit, question(visit.t, file, uses_of(jobs, str(file["id"]))), visit.t("shell.delete")
    ):
        return False
    return await attempt(visit.api.data("DELETE", f"/files/{file['id']}")) is not None
