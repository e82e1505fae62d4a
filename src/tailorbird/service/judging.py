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


def judge(purpose: Purpose, chunks: Iterable[bytes]) -> Finding:
    """Raises what `chunks` raises."""
    if purpose is Purpose.EVALS:
        return _judge_objects(chunks)
    # One example is enough for a validation file; a job asks for ten in its training file.
    report = validate_stream(chunks, min_examples=1)
    if not report.ok:
        return Finding(_details(report.problems, report.problem_count))
    return Finding(None, report.kind, report.examples)


def _judge_objects(chunks: Iterable[bytes]) -> Finding:
    """JSONL of any objects: an eval's own schema judges what is in them."""
    problems, count, items = list[Problem](), 0, 0
    for item in read_lines(chunks):
        problem = item if isinstance(item, Problem) else _fault_of(*item)
        items += not isinstance(item, Problem)
        if problem is not None:
            count += 1
            if count <= SHOWN_PROBLEMS:
                problems.append(problem)
    if count:
        return Finding(_details(problems, count))
    if not items:
        return Finding("The file has no lines; it needs at least one JSON object.")
    return Finding(None, None, items)


def _fault_of(number: int, line: bytes) -> Problem | None:
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError:
        return Problem(number, None, "the line is not valid UTF-8.")
    except (ValueError, RecursionError) as error:
        return Problem(number, None, f"the line is not valid JSON: {error}.")
    return None if isinstance(value, dict) else Problem(number, None, "the line is not a JSON object.")


def _details(problems: list[Problem], count: int) -> str:
    lines = [str(problem) for problem in problems[:SHOWN_PROBLEMS]]
    if count > len(lines):
        lines.append(f"… and {count - len(lines)} more problem(s).")
    return "\n".join(lines)
