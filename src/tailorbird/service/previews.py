"""Training files as models see them: their lines page by page, figures of all lines, and problems line by line."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from tailorbird.dataset.records import Record
from tailorbird.dataset.render import RenderError
from tailorbird.dataset.validate import Problem, beginning, read_lines, read_records
from tailorbird.domain.errors import IllegalState, InvalidRequest
from tailorbird.domain.files import File, FileStatus, Purpose
from tailorbird.domain.jobs import Method
from tailorbird.domain.models import CatalogueEntry
from tailorbird.service.examples import Line, Reading, kind_of, learned_of, read_line
from tailorbird.service.files import Files
from tailorbird.service.intake import check_kind
from tailorbird.service.judging import JUDGED, read_through
from tailorbird.service.models import Catalogue, Models

_COUNTED_BYTES = 4 * 1024 * 1024
"""Some seconds of work. Of longer files, what is counted is the beginning, and the rest is taken to be like it."""
_PAGE_BYTES = 4 * 1024 * 1024
"""A page of lines ends early once it holds so much."""
_EXCERPT = 300
_KEPT_FIGURES = 500


@dataclass(frozen=True, slots=True)
class Preview:
    """`model` is whose template and tokenizer were used, `max_tokens` what it takes in one sequence."""

    lines: list[Line]
    has_more: bool
    model: str
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """Tokens of a preference pair are those of both sides, and its length the longer one's, as training has it.

    `unusable` lines are not counted in anything else; `too_long` ones are more than `max_tokens`."""

    model: str
    max_tokens: int
    kind: str | None
    exact: bool
    examples: int
    tokens: int
    learned: int
    longest: int
    longest_line: int | None
    too_long: int
    unusable: int


@dataclass(frozen=True, slots=True)
class Listed:
    """A problem, its place among all from 1, and the beginning of the line it is in."""

    place: int
    problem: Problem
    excerpt: str | None


@dataclass(frozen=True, slots=True)
class Problems:
    items: list[Listed]
    total: int


@dataclass
class Previews:
    """Reads only; figures of a file are counted once and kept, as its bytes never change."""

    files: Files
    models: Models
    catalogue: Catalogue
    _figures: OrderedDict[tuple[str, str], Statistics] = field(
        init=False, default_factory=OrderedDict[tuple[str, str], Statistics]
    )
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def preview(self, account_id: str, file_id: str, model: str | None, after: int, limit: int) -> Preview:
        """`limit` lines behind line `after`, read with the template and tokenizer of `model`.

        Raises NotFound, ModelNotFound, IllegalState (still imported) and InvalidRequest (no training file)."""
        file = self._training_file(account_id, file_id)
        reading = self._reading(account_id, file, model)
        lines: list[Line] = []
        size = 0
        for number, items in groupby(read_records(self.files.content(file)), _number):
            if number <= after:
                continue
            if len(lines) == limit or size > _PAGE_BYTES:
                return Preview(lines, True, reading.entry.name, reading.max_tokens)
            lines.append(read_line(number, list(items), reading))
            size += sum(len(turn.message.content or "") for side in lines[-1].sides for turn in side.turns)
        return Preview(lines, False, reading.entry.name, reading.max_tokens)

    def statistics(self, account_id: str, file_id: str, model: str | None) -> Statistics:
        """Of every line, or of a long file's beginning as `exact` tells. Raises what `preview` raises."""
        file = self._training_file(account_id, file_id)
        reading = self._reading(account_id, file, model)
        key = (file.id, reading.entry.base)
        with self._lock:
            known = self._figures.get(key)
        if known is None:
            known = _count(file, beginning(self.files.content(file), _COUNTED_BYTES), reading)
            with self._lock:
                self._figures[key] = known
                while len(self._figures) > _KEPT_FIGURES:
                    self._figures.popitem(last=False)
        return replace(known, model=reading.entry.name)

    def problems(self, account_id: str, file_id: str, after: int, limit: int) -> Problems:
        """`limit` problems behind the first `after`; what is not judged by its purpose has none. Raises NotFound."""
        file = self.files.get(account_id, file_id)
        if file.purpose not in JUDGED or file.status is FileStatus.PROCESSED:
            return Problems([], 0)
        try:
            judged = read_through(file.purpose, self.files.content(file), after + limit)
        except IllegalState:
            if file.status is not FileStatus.ERROR:
                raise
            # It never arrived; why is all there is to say.
            only = Listed(1, Problem(None, None, file.status_details or ""), None)
            return Problems([] if after else [only], 1)
        found = judged.problems[after:]
        excerpts = self._excerpts(file, {problem.line for problem in found if problem.line is not None})
        listed = [Listed(place, one, excerpts.get(one.line or 0)) for place, one in enumerate(found, after + 1)]
        return Problems(listed, judged.count)

    def _excerpts(self, file: File, wanted: set[int]) -> dict[int, str]:
        found: dict[int, str] = {}
        if not wanted:
            return found
        last = max(wanted)
        for item in read_lines(self.files.content(file)):
            if not isinstance(item, Problem):
                number, line = item
                if number in wanted:
                    # A character has up to four bytes; what is cut in the middle of one is not shown.
                    text = line[: 4 * _EXCERPT].decode(errors="replace")
                    found[number] = text[:_EXCERPT] + ("…" if len(text) > _EXCERPT else "")
                if number >= last:
                    break
        return found

    def _training_file(self, account_id: str, file_id: str) -> File:
        file = self.files.get(account_id, file_id)
        if file.purpose is not Purpose.FINE_TUNE:
            raise InvalidRequest(
                f"The file {file.id} has the purpose '{file.purpose}'; only files with the purpose 'fine-tune' hold "
                "examples.",
                param="file_id",
            )
        return file

    def _reading(self, account_id: str, file: File, model: str | None) -> Reading:
        kind = file.kind or self._first_kind(file)
        if model is None:
            entry = _first_fit(self.catalogue.entries, kind)
        else:
            found = self.models.get(account_id, model)
            entry = self.models.entry_of(found)
            if entry is None or not entry.tunable:
                raise InvalidRequest("The specified base model does not support fine-tuning.", param="model")
            method = Method.DPO if kind == "preference" else Method.SUPERVISED
            try:
                check_kind(entry, method, kind, "the file")
            except InvalidRequest as mismatch:
                raise InvalidRequest(mismatch.message, param="model") from mismatch
        base = self.catalogue.base(entry.base)
        return Reading(entry, self.catalogue.renderer(entry.base), base.max_tokens)

    def _first_kind(self, file: File) -> str | None:
        """Of a file that is not judged yet, or faulty: what its first good line is."""
        for item in read_records(beginning(self.files.content(file), _PAGE_BYTES)):
            if isinstance(item, tuple):
                return kind_of(item[1])
        return None


def _first_fit(entries: Sequence[CatalogueEntry], kind: str | None) -> CatalogueEntry:
    """Raises InvalidRequest when no model here can be trained on such lines."""
    for entry in entries:
        if entry.tunable and (kind is None or (entry.completion if kind == "completion" else entry.chat)):
            return entry
    raise InvalidRequest("No model here can be trained on lines of this kind.", param="file_id")


def _number(item: tuple[int, Record] | Problem) -> int:
    return (item.line or 0) if isinstance(item, Problem) else item[0]


def _count(file: File, chunks: Iterator[bytes], reading: Reading) -> Statistics:
    examples = tokens = learned = longest = too_long = last = 0
    longest_line: int | None = None
    kind = file.kind
    unusable: set[int] = set()
    for item in read_records(chunks):
        last = _number(item)
        try:
            sides = () if isinstance(item, Problem) else reading.renderer.render_record(item[1])
        except RenderError:
            sides = ()
        if isinstance(item, Problem) or not sides:
            unusable.add(last)
            continue
        kind = kind or kind_of(item[1])
        length = max(len(side.token_ids) for side in sides)
        examples += 1
        tokens += sum(len(side.token_ids) for side in sides)
        learned += sum(learned_of(side) for side in sides)
        too_long += length > reading.max_tokens
        if length > longest:
            longest, longest_line = length, last
    exact = file.bytes <= _COUNTED_BYTES
    scale = 1.0 if exact else file.bytes / _COUNTED_BYTES
    if not exact:
        # Where reading stopped is in the middle of a line, which is no fault of the file's.
        unusable.discard(last)
    return Statistics(
        model=reading.entry.name,
        max_tokens=reading.max_tokens,
        kind=kind,
        exact=exact,
        examples=examples if exact else file.examples or round(examples * scale),
        tokens=round(tokens * scale),
        learned=round(learned * scale),
        longest=longest,
        longest_line=longest_line,
        too_long=too_long,
        unusable=len(unusable),
    )
