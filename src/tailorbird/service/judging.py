"""What a file is worth by its purpose: training data and eval data are read line by line, everything else is taken."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from tailorbird.dataset.validate import Problem, read_lines, validate_stream
from tailorbird.domain.files import Purpose

SHOWN_PROBLEMS = 20
"""A file's status details name so many problems and count the others."""
JUDGED = frozenset({Purpose.FINE_TUNE, Purpose.EVALS})


@dataclass(frozen=True, slots=True)
class Finding:
    """`details` is None for a good file, else a line for each problem."""

    details: str | None = None
    kind: str | None = None
    examples: int | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """`problems` holds the first ones, `count` says how many there are."""

    problems: list[Problem]
    count: int
    kind: str | None
    examples: int


def judge(purpose: Purpose, chunks: Iterable[bytes]) -> Finding:
    """Raises what `chunks` raises."""
    judged = read_through(purpose, chunks, SHOWN_PROBLEMS)
    if judged.count:
        return Finding(_details(judged.problems, judged.count))
    return Finding(None, judged.kind, judged.examples)


def read_through(purpose: Purpose, chunks: Iterable[bytes], most: int) -> Judged:
    """All of a file, with the first `most` of its problems. Raises what `chunks` raises."""
    if purpose is Purpose.EVALS:
        return _read_objects(chunks, most)
    # One example is enough for a validation file; a job asks for ten in its training file.
    report = validate_stream(chunks, min_examples=1, max_problems=most)
    return Judged(report.problems, report.problem_count, report.kind, report.examples)


def _read_objects(chunks: Iterable[bytes], most: int) -> Judged:
    """JSONL of any objects: an eval's own schema judges what is in them."""
    problems, count, items = list[Problem](), 0, 0
    for item in read_lines(chunks):
        problem = item if isinstance(item, Problem) else _fault_of(*item)
        items += not isinstance(item, Problem)
        if problem is not None:
            count += 1
            if count <= most:
                problems.append(problem)
    if not items and not count:
        return Judged([Problem(None, None, "The file has no lines; it needs at least one JSON object.")], 1, None, 0)
    return Judged(problems, count, None, items)


def _fault_of(number: int, line: bytes) -> Problem | None:
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError:
        return Problem(number, None, "the line is not valid UTF-8.")
    except (ValueError, RecursionError) as error:
        return Problem(number, None, f"the line is not valid JSON: {error}.")
    return None if isinstance(value, dict) else Problem(number, None, "the line is not a JSON object.")


def _details(problems: list[Problem], count: int) -> str:
    lines = [str(problem) for problem in problems]
    if count > len(lines):
        lines.append(f"… and {count - len(lines)} more problem(s).")
    return "\n".join(lines)
