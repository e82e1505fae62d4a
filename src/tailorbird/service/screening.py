"""Screens training data: every message of a job's files, and where in them harm was found."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tailorbird.dataset.records import ChatExample, CompletionExample, Message, Record
from tailorbird.dataset.validate import read_records
from tailorbird.domain import ids
from tailorbird.domain.files import File, FileStatus, Purpose
from tailorbird.domain.jobs import Job
from tailorbird.domain.safety import Category, Finding, Severity, Thresholds
from tailorbird.service.patience import PatientModerator
from tailorbird.service.ports import Blobs, Clock, Page
from tailorbird.service.runs import chunks

_BATCH = 256
_FINDINGS = "findings.jsonl"


@dataclass(frozen=True, slots=True)
class Text:
    """Something said in line `line` (from 1) of a file; `index` counts the messages of its record from 0."""

    line: int
    role: str
    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Screened:
    """What was found; `file` tells where and `count` how often, `param` is the first field whose file has harm."""

    harms: frozenset[Category] = frozenset()
    file: File | None = None
    count: int = 0
    param: str | None = None


class DataScreen:
    """Thresholds are the operator's."""

    def __init__(self, moderator: PatientModerator, thresholds: Thresholds, blobs: Blobs, clock: Clock) -> None:
        self._moderator = moderator
        self._thresholds = thresholds
        self._blobs = blobs
        self._clock = clock

    async def screen(self, job: Job, files: dict[str, Path]) -> Screened:
        """Both files; where harm was found, in a file that is kept under an id of the job's. Raises ModeratorDown.

        Doing it again finds the same and writes the same file."""
        harms: dict[Category, str] = {}
        count = 0
        found = next(iter(files.values())).parent / _FINDINGS
        with found.open("w", encoding="utf-8") as out:
            for param, path in files.items():
                texts = texts_of(path)
                while batch := await asyncio.to_thread(_take, texts):
                    scored = await self._moderator.score([text.text for text in batch])
                    for text, scores in zip(batch, scored, strict=True):
                        for category in sorted(self._thresholds.harms(scores)):
                            harms.setdefault(category, param)
                            count += 1
                            finding = Finding(param, text.line, text.role, text.index, category, scores[category])
                            out.write(_written(finding))
        if not harms:
            return Screened()
        kept = await asyncio.to_thread(self._keep, job, found)
        return Screened(frozenset(harms), kept, count, next(iter(harms.values())))

    def _keep(self, job: Job, found: Path) -> File:
        file_id = ids.findings_file_id(job.id)
        key = f"accounts/{job.account_id}/files/{file_id}"
        size = self._blobs.put(key, chunks(found))
        return File(
            id=file_id,
            account_id=job.account_id,
            filename=_FINDINGS,
            purpose=Purpose.FINE_TUNE_RESULTS,
            bytes=size,
            status=FileStatus.PROCESSED,
            created_at=self._clock.now(),
            blob_key=key,
        )


def has_findings(job: Job) -> bool:
    """Whether the job's result file is one of findings."""
    return job.result_file == ids.findings_file_id(job.id)


def findings_in(content: Iterable[bytes], after: int, limit: int) -> Page[Finding]:
    """A page of a findings file, behind so many of its lines."""
    found = [_read(line) for line in islice(_lines(content), after, after + limit + 1)]
    return Page(found[:limit], has_more=len(found) > limit)


def _lines(content: Iterable[bytes]) -> Iterator[bytes]:
    left = b""
    for chunk in content:
        *whole, left = (left + chunk).split(b"\n")
        yield from whole


def _written(finding: Finding) -> str:
    row = {**dataclasses.asdict(finding), "category": finding.category.value, "severity": finding.severity.word}
    return json.dumps(row) + "\n"


def _read(line: bytes) -> Finding:
    row: dict[str, Any] = json.loads(line)
    category, severity = Category(row["category"]), Severity[row["severity"].upper()]
    return Finding(row["file"], row["line"], row["role"], row["index"], category, severity)


def texts_of(path: Path) -> Iterator[Text]:
    """Everything a training file says, what a model shall not say included: that is trained on as well."""
    with path.open("rb") as source:
        for item in read_records(iter(lambda: source.read(1 << 20), b"")):
            if isinstance(item, tuple):
                line, record = item
                yield from (Text(line, role, index, text) for role, index, text in _said(record) if text.strip())


def _said(record: Record) -> Iterator[tuple[str, int, str]]:
    if isinstance(record, CompletionExample):
        yield "prompt", 0, record.prompt
        yield "completion", 1, record.completion
        return
    turns = record.messages
    if not isinstance(record, ChatExample):
        turns = (*turns, *record.preferred, *record.non_preferred)
    for index, message in enumerate(turns):
        yield from ((message.role, index, text) for text in texts_of_message(message))


def texts_of_message(message: Message) -> Iterator[str]:
    """Its content, and each text among the arguments of its tool calls."""
    if message.content:
        yield message.content
    for call in message.tool_calls:
        arguments = call["function"]["arguments"]
        yield from texts_of_arguments(arguments)


def texts_of_arguments(arguments: str) -> Iterator[str]:
    """The strings of a call's arguments; what is no JSON is a text as a whole."""
    try:
        parsed: Any = json.loads(arguments)
    except (ValueError, RecursionError):
        yield arguments
        return
    waiting = [parsed]
    while waiting:
        value = waiting.pop(0)
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            # A key can say something as well.
            waiting += [part for pair in value.items() for part in pair]  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        elif isinstance(value, list):
            waiting += value  # pyright: ignore[reportUnknownArgumentType]


def _take(texts: Iterator[Text]) -> list[Text]:
    return [text for text, _ in zip(texts, range(_BATCH), strict=False)]
