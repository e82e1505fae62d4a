"""Which files a list shows, in which order; which jobs used one; what mends a problem in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from tailorbird.studio.following import ENDED

File = Mapping[str, Any]
"""As the service shows it."""

UNDER_WAY = frozenset({"pending", "running", "uploaded"})
RESULTS, TRAINING = "fine-tune-results", "fine-tune"
KINDS = ("training", "results", "other", "all")
SORTS = ("newest", "oldest", "name", "size")


def kind_of(file: File) -> str:
    """training, results or other."""
    return {TRAINING: "training", RESULTS: "results"}.get(str(file["purpose"]), "other")


def chosen(files: Sequence[File], kind: str, search: str, sort: str) -> list[File]:
    """Files of one kind (or `all`) whose name or id holds every word of `search`."""
    words = search.casefold().split()
    found = [
        file
        for file in files
        if kind in ("all", kind_of(file))
        and all(word in f"{file['filename']} {file['id']}".casefold() for word in words)
    ]
    if sort == "name":
        return sorted(found, key=lambda file: (str(file["filename"]).casefold(), -file["created_at"]))
    if sort == "size":
        return sorted(found, key=lambda file: -file["bytes"])
    return sorted(found, key=lambda file: file["created_at"], reverse=sort != "oldest")


def can_train(file: File) -> bool:
    return file["purpose"] == TRAINING and file["status"] == "processed"


def download_path(file: File, account: str) -> str:
    """Where the browser gets the bytes, under the file's own name; `account` is the resource id of the page's."""
    asked = urlencode({"filename": file["filename"], "account": account})
    return f"/relay/files/{quote(str(file['id']), safe='')}/content?{asked}"


def name_in(url: str) -> str:
    """What a file behind this URL is probably called; empty when its path says nothing."""
    return unquote(urlsplit(url).path.rsplit("/", 1)[-1]).strip()


@dataclass(frozen=True, slots=True)
class Use:
    """A job that has to do with a file: `training`, `validation` or `results`."""

    job_id: str
    part: str
    status: str
    model: str

    @property
    def ended(self) -> bool:
        return self.status in ENDED


def uses_of(jobs: Sequence[Mapping[str, Any]], file_id: str) -> list[Use]:
    """In the order of the jobs; a file that trains and validates one job is named twice."""
    uses: list[Use] = []
    for job in jobs:
        parts = {
            "training": job.get("training_file") == file_id,
            "validation": job.get("validation_file") == file_id,
            "results": file_id in (job.get("result_files") or ()),
        }
        model = str(job.get("fine_tuned_model") or job["model"])
        uses += [Use(str(job["id"]), part, str(job["status"]), model) for part, is_so in parts.items() if is_so]
    return uses


_WHOLE_LINE = (
    ("fileImportFailed", "import"),
    ("UTF-16", "encoding"),
    ("UTF-8", "encoding"),
    ("surrogate", "encoding"),
    ("JSON object", "shape"),
    ("JSON", "json"),
    ("no training example", "shape"),
    ("; expected", "kind"),
    ("empty", "blank"),
    ("longer than", "long"),
    ("at least", "rows"),
)
_BY_FIELD = {
    "role": "role",
    "content": "content",
    "text": "content",
    "type": "content",
    "weight": "weight",
    "messages": "messages",
    "prompt": "completion",
    "completion": "completion",
    "input": "preference",
    "preferred_output": "preference",
    "non_preferred_output": "preference",
    "preferred_completion": "preference",
    "non_preferred_completion": "preference",
    **dict.fromkeys(("tools", "functions", "function", "function_call", "tool_calls", "tool_call_id"), "tools"),
    **dict.fromkeys(("arguments", "parameters", "parallel_tool_calls", "name", "id"), "tools"),
}


def remedy_of(field: str | None, message: str) -> str:
    """The name of the advice that mends a problem; empty where its message says all there is."""
    if field is None:
        return next((remedy for sign, remedy in _WHOLE_LINE if sign in message), "")
    if "not a known field" in message or "is not a field of" in message:
        return "unknown"
    last = field.rsplit(".", 1)[-1].split("[", 1)[0]
    if last == "type" and ("tool" in field or "function" in field):
        return "tools"
    return _BY_FIELD.get(last, "")


def table_in(text: str, rows: int) -> list[list[str]]:
    """The first rows of comma-separated values; the last line may be cut off and is left out when there are others."""
    import csv

    found = list(csv.reader(text.splitlines()))
    whole = found if text.endswith("\n") or len(found) == 1 else found[:-1]
    return whole[: rows + 1]
