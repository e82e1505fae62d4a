"""Jobs and fine-tuned models as lists: read page by page, searched, filtered, sorted, cut into pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailorbird.studio.client import Api
from tailorbird.studio.following import ENDED

PAGE = 25
_API_PAGE = 100
# What stands for several of the service's own words.
STATES: dict[str, frozenset[str]] = {
    "all": frozenset(),
    "active": frozenset({"pending", "running", "pausing", "resuming"}),
    "paused": frozenset({"paused"}),
    "succeeded": frozenset({"succeeded"}),
    "failed": frozenset({"failed"}),
    "cancelled": frozenset({"cancelled"}),
}
SORTS = ("created", "name", "model", "status")

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to see of a list; kept for them."""

    search: str = ""
    state: str = "all"
    sort: str = "created"
    descending: bool = True

    @staticmethod
    def kept(draft: Mapping[str, Any]) -> Wish:
        """Of what was kept before, as far as it still has a meaning."""
        state, sort = str(draft.get("state")), str(draft.get("sort"))
        return Wish(
            search=str(draft.get("search") or ""),
            state=state if state in STATES else "all",
            sort=sort if sort in SORTS else "created",
            descending=bool(draft.get("descending", True)),
        )


def title_of(job: Row) -> str:
    """A job's own name where it has one; else the beginning of its id, which nobody can read anyway."""
    return str(job.get("suffix") or f"{job['model']} · {str(job['id']).removeprefix('ftjob-')[:8]}")


def chosen(jobs: Iterable[Row], wish: Wish) -> list[Row]:
    """Those that fit, in the order asked for; of equal ones the newest first."""
    words = wish.search.lower().split()
    states = STATES[wish.state]
    fitting = [
        job for job in jobs if (not states or job["status"] in states) and all(word in _text(job) for word in words)
    ]
    fitting.sort(key=lambda job: job["created_at"], reverse=True)
    if wish.sort == "created":
        return fitting if wish.descending else fitting[::-1]
    keys = {"name": lambda job: title_of(job).lower(), "model": lambda job: job["model"], "status": _status}
    return sorted(fitting, key=keys[wish.sort], reverse=wish.descending)


def _status(job: Row) -> str:
    return str(job["status"])


def _text(job: Row) -> str:
    fields = ("id", "suffix", "model", "fine_tuned_model", "training_file", "validation_file", "status")
    return " ".join(str(job.get(name) or "") for name in fields).lower()


def page_of(rows: Sequence[Row], number: int) -> tuple[Sequence[Row], int, int]:
    """The rows of a page (from 0), the page that is meant where there are fewer, and how many pages there are."""
    pages = max(1, -(-len(rows) // PAGE))
    meant = min(max(0, number), pages - 1)
    return rows[meant * PAGE : (meant + 1) * PAGE], meant, pages


def moving(jobs: Iterable[Row]) -> bool:
    """Whether any of them will change by itself."""
    return any(job["status"] not in ENDED and job["status"] != "paused" for job in jobs)


async def all_jobs(api: Api, seconds: float) -> list[dict[str, Any]]:
    """Newest first; pages opened at the same time share the answers. Raises Refused."""
    rows: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": _API_PAGE}
    while True:
        page = await api.fresh("/fine_tuning/jobs", seconds, **query)
        rows += page["data"]
        if not page["has_more"] or not page["data"]:
            return rows
        query["after"] = page["data"][-1]["id"]


def tuned(models: Iterable[Row]) -> list[Row]:
    """The account's own among all models, newest first."""
    own = [model for model in models if model.get("fine_tune")]
    return sorted(own, key=lambda model: model["created_at"], reverse=True)


def deployed(deployments: Iterable[Row]) -> dict[str, list[str]]:
    """Names of deployments by the model they serve."""
    found: dict[str, list[str]] = {}
    for one in deployments:
        found.setdefault(str(one["model"]), []).append(str(one["id"]))
    return found
