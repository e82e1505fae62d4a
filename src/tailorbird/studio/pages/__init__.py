"""One module a page. Each has a coroutine that builds it from the visit and the path's parameters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tailorbird.studio.pages import (
    access,
    deployment,
    deployments,
    file,
    files,
    home,
    job,
    jobs,
    playground,
    readiness,
    usage,
)
from tailorbird.studio.pages.create import wizard

PAGES: dict[str, Callable[..., Awaitable[None]]] = {
    "/readiness": readiness.page,
    "/jobs": jobs.page,
    "/jobs/{job_id}": job.page,
    "/create": wizard.page,
    "/deployments": deployments.page,
    "/deployments/{name}": deployment.page,
    "/files": files.page,
    "/files/{file_id}": file.page,
    "/playground": playground.page,
    "/access": access.page,
    "/usage": usage.page,
    "/": home.page,
}
