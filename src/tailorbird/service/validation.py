"""Judges a job's files: every line, their tokens by the one renderer, and the size of the whole job."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tailorbird.dataset.render import RenderError
from tailorbird.dataset.validate import read_records, validate_stream
from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.jobs import MIN_EXAMPLES, Job, resolve
from tailorbird.service.intake import check_kind
from tailorbird.service.models import Catalogue
from tailorbird.service.runs import JobFailed, Runs, chunks

_MAX_LISTED_PROBLEMS = 20


class Validation:
    """`max_tokens` limits tokens of the training file times epochs."""

    def __init__(self, runs: Runs, catalogue: Catalogue, max_tokens: int) -> None:
        self._runs = runs
        self._catalogue = catalogue
        self._max_tokens = max_tokens

    def check(self, job: Job) -> Job:
        """The job with what its files tell: examples, tokens, "auto" resolved. Raises JobFailed naming every fault."""
        counts = {param: self._check_file(job, path, param) for param, path in self._runs.files(job).items()}
        examples, epoch_tokens = counts["training_file"]
        resolved = resolve(job.asked, examples, self._catalogue.base(job.base).auto, job.method)
        epochs = resolved.n_epochs or 1
        if epoch_tokens * epochs > self._max_tokens:
            raise JobFailed(
                "quotaExceeded",
                f"The training file has {epoch_tokens:,} tokens; times {epochs} epoch(s) that is "
                f"{epoch_tokens * epochs:,}, more than the {self._max_tokens:,} one job may train on. Use fewer epochs "
                "or a smaller file.",
                "training_file",
            )
        return dataclasses.replace(
            job,
            resolved=resolved,
            examples=examples,
            epoch_tokens=epoch_tokens,
            template_hash=self._catalogue.renderer(job.base).template_hash,
        )

    def _check_file(self, job: Job, path: Path, param: str) -> tuple[int, int]:
        """Examples and tokens of a file; raises JobFailed with every problem that was found."""
        minimum = MIN_EXAMPLES if param == "training_file" else 1
        report = validate_stream(chunks(path), min_examples=minimum)
        if not report.ok:
            shown = [str(problem) for problem in report.problems[:_MAX_LISTED_PROBLEMS]]
            if report.problem_count > len(shown):
                shown.append(f"... and {report.problem_count - len(shown)} more problem(s).")
            # OpenAI's own code for too few lines, next to the general one.
            few = report.examples < minimum and report.problem_count == 1
            raise JobFailed("invalid_n_examples" if few else "invalid_training_file", "\n".join(shown), param)
        entry = self._catalogue.entry(job.model)
        if entry is not None:
            try:
                check_kind(entry, job.method, report.kind, param)
            except InvalidRequest as mismatch:
                raise JobFailed("invalid_training_file", mismatch.message, param) from mismatch
        return report.examples, self._count_tokens(job, path, param)

    def _count_tokens(self, job: Job, path: Path, param: str) -> int:
        """Tokens of the file by the one renderer; refuses lines the model cannot hold or the template cannot mask."""
        renderer = self._catalogue.renderer(job.base)
        longest = self._catalogue.base(job.base).max_tokens
        tokens = 0
        faults: list[str] = []
        for item in read_records(chunks(path)):
            if not isinstance(item, tuple):
                continue
            line, record = item
            try:
                lengths = [len(one.token_ids) for one in renderer.render_record(record)]
            except RenderError as error:
                faults.append(f"Line {line}: {error}")
                continue
            tokens += sum(lengths)
            if max(lengths) > longest:
                faults.append(f"Line {line}: {max(lengths)} tokens; {job.model} takes at most {longest}. Shorten it.")
        if faults:
            left = len(faults) - _MAX_LISTED_PROBLEMS
            more = [f"... and {left} more problem(s)."] if left > 0 else []
            raise JobFailed("invalid_training_file", "\n".join(faults[:_MAX_LISTED_PROBLEMS] + more), param)
        return tokens
