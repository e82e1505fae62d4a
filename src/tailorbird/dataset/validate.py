"""Streams a file into records or Problems, each with its line number; whole-file rules too

Memory stays constant however long the file is: one chunk and one line are held at a time, and a line longer than
`MAX_LINE_BYTES` is reported and thrown away while it is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

from tailorbird.dataset.faults import Fault, Kind, inspect_record
from tailorbird.dataset.quick import certainly_good
from tailorbird.dataset.records import Record, parse_record

MAX_LINE_BYTES: Final = 8 * 1024 * 1024
_TOO_LONG: Final = f"the line is longer than {MAX_LINE_BYTES // 2**20} MB."
_UTF16: Final = "the file is UTF-16; save it as UTF-8."
_READ_BYTES: Final = 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"
_UTF16_BOMS: Final = (b"\xff\xfe", b"\xfe\xff")
_KIND_WORDS: Final[dict[Kind, str]] = {
    "chat": "a chat example ('messages')",
    "completion": "a prompt/completion example",
    "preference": "a preference pair ('input', 'preferred_output')",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend. `line` counts from 1 and is None for the file as a whole, `field` None for the whole line."""

    line: int | None
    field: str | None
    message: str

    def __str__(self) -> str:
        """`Line 3, messages[1].role: 'bot' is not one of ...`"""
        where = ", ".join(part for part in (f"Line {self.line}" if self.line else "", self.field or "") if part)
        return f"{where}: {self.message}" if where else self.message


@dataclass(frozen=True, slots=True)
class Report:
    """What a file is. `examples` counts its lines that are not blank, faulty ones too.

    `problems` holds the first ones, `problem_count` says how many there are.
    """

    examples: int
    kind: Kind | None
    bytes: int
    problem_count: int = 0
    problems: list[Problem] = field(default_factory=list[Problem])

    @property
    def ok(self) -> bool:
        return not self.problem_count


class DatasetError(ValueError):
    """A file that cannot be trained on; `problems` says why, at most the first fifty."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def read_lines(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes] | Problem]:
    """Numbered lines without line end and byte order mark, or a Problem in place of a line that cannot be read.

    Blank lines at the end of the file are skipped, others are Problems. A UTF-16 file is one Problem.
    """
    blank_from, blank_count = 0, 0
    for number, line in _split(chunks):
        if line is None:
            yield Problem(number, None, _TOO_LONG)
            continue
        if number == 1 and line.startswith(_UTF16_BOMS):
            yield Problem(1, None, _UTF16)
            return
        # Windows tools end lines with CR LF, and joined files carry a mark in the middle.
        line = line.removesuffix(b"\r").removeprefix(_BOM)
        if not line or line.isspace():
            blank_from, blank_count = blank_from or number, blank_count + 1
            continue
        if blank_count:
            yield Problem(blank_from, None, "the line is empty." if blank_count == 1 else f"{blank_count} empty lines.")
            blank_from, blank_count = 0, 0
        yield number, line


def _split(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines, None for one that is too long; a last line without line end counts."""
    number, held, size = 0, list[bytes](), 0
    for chunk in chunks:
        first, *rest = chunk.split(b"\n")
        if size <= MAX_LINE_BYTES:
            held.append(first)
        size += len(first)
        for part in rest:
            number += 1
            yield number, b"".join(held) if size <= MAX_LINE_BYTES else None
            held, size = [part], len(part)
        if size > MAX_LINE_BYTES:
            held.clear()
    if size:
        yield number + 1, b"".join(held) if size <= MAX_LINE_BYTES else None


def beginning(chunks: Iterable[bytes], most: int) -> Iterator[bytes]:
    """Up to `most` bytes; where there are more, the last line is cut off in its middle."""
    read = 0
    for chunk in chunks:
        yield chunk[: most - read]
        read += len(chunk)
        if read >= most:
            return


def read_records(chunks: Iterable[bytes]) -> Iterator[tuple[int, Record] | Problem]:
    """Every record with its line number, and every fault of every line as a Problem."""
    for item in read_lines(chunks):
        if isinstance(item, Problem):
            yield item
            continue
        number, line = item
        raw = _parse_json(number, line)
        if isinstance(raw, Problem):
            yield raw
            continue
        record = parse_record(raw)
        if isinstance(record, list):
            yield from _located(number, record)
        else:
            yield number, record


def validate_stream(
    chunks: Iterable[bytes],
    *,
    kind: Kind | None = None,
    min_examples: int = 10,
    max_problems: int = 50,
    name: str = "Training file",
) -> Report:
    """Judges a whole file without keeping it. `kind` is the only one allowed; None takes that of the first good line.

    `name` is what the sentence about too few examples calls the file.
    """
    counted = _ByteCount(chunks)
    examples, problem_count, problems = 0, 0, list[Problem]()
    countable = True
    found: Kind | None = kind
    for item in read_lines(counted):
        if isinstance(item, Problem):
            faults: list[Problem] = [item]
            examples += item.message == _TOO_LONG
            countable = countable and item.message != _UTF16
        else:
            examples += 1
            faults, seen = _judge(*item, found)
            found = found or seen
        problem_count += len(faults)
        problems += faults[: max_problems - len(problems)]
    if countable and examples < max(min_examples, 1):
        text = f"{name} has {examples} example(s), but must have at least {max(min_examples, 1)} examples"
        problem_count += 1
        problems = [*problems[: max_problems - 1], Problem(None, None, text)]
    return Report(examples, found, counted.total, problem_count, problems)


def load_records(path: str | Path) -> list[tuple[int, Record]]:
    """All records of a file with their line numbers, all of one kind. Raises DatasetError when one line is faulty."""
    records, problems = list[tuple[int, Record]](), list[Problem]()
    with Path(path).open("rb") as file:
        for item in read_records(iter(lambda: file.read(_READ_BYTES), b"")):
            if isinstance(item, Problem):
                problems.append(item)
            elif records and type(item[1]) is not type(records[0][1]):
                problems.append(Problem(item[0], None, f"is of another kind than line {records[0][0]}."))
            else:
                records.append(item)
            if len(problems) == 50:
                break
    if not records and not problems:
        problems.append(Problem(None, None, "The file has no examples."))
    if problems:
        raise DatasetError(problems)
    return records


@dataclass(slots=True)
class _ByteCount:
    """Passes chunks on and adds up their sizes."""

    chunks: Iterable[bytes]
    total: int = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            self.total += len(chunk)
            yield chunk


def _judge(number: int, line: bytes, expected: Kind | None) -> tuple[list[Problem], Kind | None]:
    """The problems of one line, and its kind when it has none."""
    if expected and certainly_good(line, expected):
        return [], expected
    raw = _parse_json(number, line)
    if isinstance(raw, Problem):
        return [raw], None
    kind, faults = inspect_record(raw)
    if kind and expected and kind != expected:
        return [Problem(number, None, f"is {_KIND_WORDS[kind]}; expected {_KIND_WORDS[expected]}.")], None
    if faults:
        return list(_located(number, faults)), None
    return [], kind


def _located(number: int, faults: list[Fault]) -> Iterator[Problem]:
    return (Problem(number, where, text) for where, text in faults)


def _parse_json(number: int, line: bytes) -> object:
    """The value of one line, or the Problem with it."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = f"byte {error.start + 1} of the line (0x{line[error.start]:02x})"
        return Problem(number, None, f"{byte} is not valid UTF-8; save the file as UTF-8.")
    try:
        value: object = _DECODER.decode(text)
        if "\\u" in text:
            # An escape can spell half a surrogate pair, which no tokenizer accepts.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        return Problem(number, None, f"invalid JSON: {error.msg} at column {error.pos + 1}.")
    except UnicodeEncodeError:
        return Problem(number, None, "a \\u escape spells half a surrogate pair, which is no character.")
    except RecursionError:
        return Problem(number, None, "invalid JSON: nested too deeply.")
    except ValueError as error:
        return Problem(number, None, f"invalid JSON: {error}.")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON value")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)
