"""What happens to a job, stage by stage; each stage may run twice and leaves the same behind.

    STAGES = (validate, screen_data, train, prove, screen_model, register)

The stage is a column of the job: whoever claims it next goes on where the last worker stood. Everything written has a
name that follows from the job (event keys, checkpoint ids, blob keys), so writing it again changes nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from tailorbird.dataset.render import RenderError
from tailorbird.dataset.validate import read_records, validate_stream
from tailorbird.domain import ids
from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.files import File, FileStatus, Purpose
from tailorbird.domain.jobs import (
    MIN_EXAMPLES,
    Checkpoint,
    EventKind,
    EventLevel,
    Job,
    JobError,
    JobStatus,
    Stage,
    check_move,
    resolve,
)
from tailorbird.domain.models import TunedModel
from tailorbird.protocol import training as wire
from tailorbird.protocol.generation import GenerationRequest
from tailorbird.protocol.training import TrainPlan
from tailorbird.service import screening
from tailorbird.service.adapters import Adapters
from tailorbird.service.jobs import cancelled_at, check_kind, event
from tailorbird.service.models import Catalogue
from tailorbird.service.ports import (
    Blobs,
    Clock,
    EngineDown,
    Engines,
    Moderator,
    Store,
    Trainer,
)
from tailorbird.service.progress import Progress

T = TypeVar("T")
DEPLOYABLE_CHECKPOINTS = 3
_MAX_LISTED_PROBLEMS = 20
_ENGINE_PATIENCE_SECONDS = 120.0


class JobFailed(Exception):
    """The job cannot go on, for a reason its owner may read."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.error = JobError(code, message, param)


@dataclass(frozen=True, slots=True)
class Options:
    runs_folder: Path
    organization: str
    prove_tolerance: float
    save_every: int
    threads: int
    dtype: str
    max_crashes: int


class Pipeline:
    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        adapters: Adapters,
        trainer: Trainer,
        engines: Engines,
        moderator: Moderator,
        catalogue: Catalogue,
        clock: Clock,
        options: Options,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._adapters = adapters
        self._trainer = trainer
        self._engines = engines
        self._moderator = moderator
        self._catalogue = catalogue
        self._clock = clock
        self._options = options

    async def run(self, job: Job, owner: str) -> Job:
        """Takes the job from its stage to its end and answers it as it ended. Raises LeaseLost.

        Cancelling the task stops it where it stands; the trainer saves first."""
        stages: dict[Stage, Callable[[Job, str], Awaitable[Job]]] = {
            Stage.VALIDATE: self._validate,
            Stage.SCREEN_DATA: self._screen_data,
            Stage.TRAIN: self._train,
            Stage.PROVE: self._prove,
            Stage.SCREEN_MODEL: self._screen_model,
            Stage.REGISTER: self._register,
        }
        try:
            while job.stage is not Stage.DONE:
                job = await stages[job.stage](job, owner)
        except JobFailed as failure:
            job = self.fail(job, owner, failure.error)
        self._clean(job)
        return job

    def fail(self, job: Job, owner: str, error: JobError) -> Job:
        check_move(job.status, JobStatus.FAILED)
        failed = dataclasses.replace(
            job, status=JobStatus.FAILED, stage=Stage.DONE, finished_at=self._clock.now(), error=error
        )
        data: dict[str, object] = {"message": error.message, "code": error.code}
        with self._store.begin() as tx:
            tx.jobs.save(failed, owner=owner)
            tx.jobs.append_event(event(failed, "failed", EventKind.FAILED, self._clock.now(), data, EventLevel.ERROR))
        return failed

    def cancel(self, job: Job, owner: str) -> Job:
        with self._store.begin() as tx:
            # The row knows more than the worker's copy: how far training came before it was stopped.
            current = tx.jobs.get(None, job.id) or job
            if current.ended:
                return current
            cancelled = dataclasses.replace(cancelled_at(current, self._clock.now()), stage=Stage.DONE)
            tx.jobs.save(cancelled, owner=owner)
            tx.jobs.append_event(event(cancelled, "cancelled", EventKind.CANCELLED, self._clock.now()))
        self._clean(cancelled)
        return cancelled

    # --- stages ------------------------------------------------------------------------------------------------------

    async def _validate(self, job: Job, owner: str) -> Job:
        with self._store.begin() as tx:
            data: dict[str, object] = {"training_file": job.training_file, "validation_file": job.validation_file}
            tx.jobs.append_event(event(job, "validating", EventKind.VALIDATING, self._clock.now(), data))
        examples, epoch_tokens = await asyncio.to_thread(self._check_file, job, job.training_file, "training_file")
        if job.validation_file is not None:
            await asyncio.to_thread(self._check_file, job, job.validation_file, "validation_file")
        base = self._catalogue.base(job.base)
        return self._advance(
            dataclasses.replace(
                job,
                resolved=resolve(job.asked, examples, base.auto),
                examples=examples,
                epoch_tokens=epoch_tokens,
                template_hash=self._catalogue.renderer(job.base).template_hash,
            ),
            owner,
            Stage.SCREEN_DATA,
        )

    async def _screen_data(self, job: Job, owner: str) -> Job:
        folder = self._run_folder(job)
        files = [folder / "train.jsonl"] + ([folder / "valid.jsonl"] if job.validation_file else [])
        for path in files:
            if not path.exists():
                await asyncio.to_thread(self._fetch_files, job)
            harms = await screening.harms_in_file(path, self._moderator)
            if harms:
                raise JobFailed("contentFilter", screening.data_message(harms), "training_file")
        return self._advance(dataclasses.replace(job, status=JobStatus.QUEUED), owner, Stage.TRAIN, EventKind.VALIDATED)

    async def _train(self, job: Job, owner: str) -> Job:
        if job.status is JobStatus.QUEUED:
            job = dataclasses.replace(job, status=JobStatus.RUNNING, started_at=self._clock.now())
            with self._store.begin() as tx:
                tx.jobs.save(job, owner=owner)
                tx.jobs.append_event(event(job, "started", EventKind.STARTED, self._clock.now()))
        await asyncio.to_thread(self._fetch_files, job)
        progress = Progress(self._store, self._adapters, self._clock, self._options.organization)
        finished = await progress.follow(self._trainer, self._plan(job), job, owner, self._options.max_crashes)
        if isinstance(finished, wire.Failed):
            raise JobFailed(finished.code, finished.message)
        return self._advance(dataclasses.replace(job, trained_tokens=finished.trained_tokens), owner, Stage.PROVE)

    async def _prove(self, job: Job, owner: str) -> Job:
        folder = self._run_folder(job)
        final = self._final_checkpoint(job)
        adapter = self._adapters.local(final.id, final.adapter_key)
        engine = self._engines.of(job.base)
        probes = wire.probes_from_json((folder / wire.PROBES_FILE).read_text())
        worst = 0.0
        await self._patiently(lambda: engine.load_adapter(final.id, adapter))
        for probe in probes:
            request = GenerationRequest(
                model=final.id, prompt=probe.token_ids, max_tokens=1, temperature=0.0, score_prompt=True
            )
            scored = (await self._patiently(lambda r=request: engine.complete(r))).prompt_logprobs or []
            for position, expected in zip(probe.positions, probe.logprobs, strict=True):
                got = scored[position] if position < len(scored) else None
                worst = max(worst, abs(got - expected)) if got is not None else float("inf")
        if not worst <= self._options.prove_tolerance:
            raise JobFailed(
                "adapterProofFailed",
                f"The trained adapter, loaded by the inference engine, differs from the trainer by {worst:.4f} nats on "
                f"a probe token; at most {self._options.prove_tolerance} is accepted. Nothing was registered.",
            )
        tokens = sum(len(probe.positions) for probe in probes)
        data: dict[str, object] = {"worst": worst, "tolerance": self._options.prove_tolerance, "tokens": tokens}
        return self._advance(job, owner, Stage.SCREEN_MODEL, EventKind.PROVED, data)

    async def _screen_model(self, job: Job, owner: str) -> Job:
        final = self._final_checkpoint(job)
        engine = self._engines.of(job.base)
        adapter = self._adapters.local(final.id, final.adapter_key)
        await self._patiently(lambda: engine.load_adapter(final.id, adapter))
        harms = await self._patiently(
            lambda: screening.harms_of_model(
                engine,
                final.id,
                self._catalogue.renderer(job.base),
                self._run_folder(job) / "train.jsonl",
                self._moderator,
            )
        )
        await self._patiently(lambda: engine.unload_adapter(final.id))
        if harms:
            raise JobFailed("modelContentFilter", screening.model_message(harms))
        return self._advance(job, owner, Stage.REGISTER)

    async def _register(self, job: Job, owner: str) -> Job:
        now = self._clock.now()
        final = self._final_checkpoint(job)
        results = await asyncio.to_thread(self._keep_results, job)
        check_move(job.status, JobStatus.SUCCEEDED)
        done = dataclasses.replace(
            job,
            status=JobStatus.SUCCEEDED,
            stage=Stage.DONE,
            finished_at=now,
            fine_tuned_model=final.name,
            fine_tuned_model_openai=final.openai_name,
            result_file=results.id,
        )
        model = TunedModel(
            name=final.name,
            openai_name=final.openai_name,
            account_id=job.account_id,
            job_id=job.id,
            checkpoint_id=final.id,
            catalogue_name=job.model,
            base=job.base,
            template_hash=job.template_hash or "",
            created_at=now,
        )
        moments: list[tuple[str, EventKind, dict[str, object]]] = [
            ("succeeded", EventKind.SUCCEEDED, {}),
            ("model_ready", EventKind.MODEL_READY, {"model": final.name, "openai_model": final.openai_name}),
            ("model_screened", EventKind.MODEL_SCREENED, {}),
            ("results", EventKind.RESULTS_READY, {"file": results.id}),
            ("billed", EventKind.BILLED, {"tokens": job.trained_tokens or 0}),
        ]
        with self._store.begin() as tx:
            if tx.files.get(job.account_id, results.id) is None:
                tx.files.add(results)
            newest = tx.jobs.checkpoints(job.id, after=None, limit=DEPLOYABLE_CHECKPOINTS).items
            for checkpoint in newest:
                tx.jobs.add_checkpoint(dataclasses.replace(checkpoint, deployable=True))
            tx.models.add(model)
            for key, kind, data in moments:
                tx.jobs.append_event(event(done, key, kind, now, data))
            tx.jobs.save(done, owner=owner)
        return done

    # --- parts of stages ---------------------------------------------------------------------------------------------

    def _advance(
        self,
        job: Job,
        owner: str,
        stage: Stage,
        kind: EventKind | None = None,
        data: dict[str, object] | None = None,
    ) -> Job:
        moved = dataclasses.replace(job, stage=stage)
        with self._store.begin() as tx:
            if kind is not None:
                tx.jobs.append_event(event(moved, kind.value, kind, self._clock.now(), data))
            tx.jobs.save(moved, owner=owner)
        return moved

    def _check_file(self, job: Job, file_id: str, param: str) -> tuple[int, int]:
        """Examples and tokens of a file; raises JobFailed with every problem that was found."""
        self._fetch_files(job)
        name = "train.jsonl" if param == "training_file" else "valid.jsonl"
        path = self._run_folder(job) / name
        minimum = MIN_EXAMPLES if param == "training_file" else 1
        report = validate_stream(_chunks(path), min_examples=minimum)
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
                check_kind(entry, report.kind, param)
            except InvalidRequest as mismatch:
                raise JobFailed("invalid_training_file", mismatch.message, param) from mismatch
        return report.examples, self._count_tokens(job, path, param)

    def _count_tokens(self, job: Job, path: Path, param: str) -> int:
        """Tokens of the file by the one renderer; refuses lines the model cannot hold or the template cannot mask."""
        renderer = self._catalogue.renderer(job.base)
        longest = self._catalogue.base(job.base).max_tokens
        tokens = 0
        faults: list[str] = []
        for item in read_records(_chunks(path)):
            if not isinstance(item, tuple):
                continue
            line, record = item
            try:
                length = len(renderer.render_example(record).token_ids)
            except RenderError as error:
                faults.append(f"Line {line}: {error}")
                continue
            tokens += length
            if length > longest:
                faults.append(f"Line {line}: {length} tokens; {job.model} takes at most {longest}. Shorten it.")
        if faults:
            left = len(faults) - _MAX_LISTED_PROBLEMS
            more = [f"... and {left} more problem(s)."] if left > 0 else []
            raise JobFailed("invalid_training_file", "\n".join(faults[:_MAX_LISTED_PROBLEMS] + more), param)
        return tokens

    def _fetch_files(self, job: Job) -> None:
        """The job's files in its run folder; a file deleted in between fails the job."""
        folder = self._run_folder(job)
        folder.mkdir(parents=True, exist_ok=True)
        wanted = {"train.jsonl": job.training_file, "valid.jsonl": job.validation_file}
        for name, file_id in wanted.items():
            target = folder / name
            if file_id is None or target.exists():
                continue
            with self._store.begin() as tx:
                row = tx.files.get(job.account_id, file_id)
            if row is None:
                raise JobFailed("invalid_training_file", f"The file {file_id} was deleted before the job began.")
            part = target.with_suffix(".part")
            with part.open("wb") as out:
                out.writelines(self._blobs.read(row.blob_key))
            part.replace(target)

    def _plan(self, job: Job) -> TrainPlan:
        base = self._catalogue.base(job.base)
        folder = self._run_folder(job)
        if job.resolved is None or job.template_hash is None:
            raise JobFailed("internalFailure", "The job was not validated before training.")
        start: str | None = None
        if job.start_checkpoint is not None:
            with self._store.begin() as tx:
                earlier = tx.jobs.find_checkpoint(job.account_id, job.start_checkpoint)
            if earlier is None:
                raise JobFailed("notFound", "The model this job continues from was deleted.", "model")
            start = str(self._adapters.local(earlier.id, earlier.adapter_key))
        return TrainPlan(
            job_id=job.id,
            run_folder=str(folder),
            base_model=base.folder,
            training_file=str(folder / "train.jsonl"),
            validation_file=str(folder / "valid.jsonl") if job.validation_file else None,
            initial_adapter=start,
            n_epochs=job.resolved.n_epochs or 1,
            batch_size=job.resolved.batch_size or 1,
            learning_rate=base.learning_rate * (job.resolved.learning_rate_multiplier or 1.0),
            seed=job.seed,
            max_tokens=base.max_tokens,
            template_hash=job.template_hash,
            lora_rank=base.lora_rank,
            lora_alpha=base.lora_alpha,
            dtype="bfloat16" if self._options.dtype == "bfloat16" else "float32",
            save_every=self._options.save_every,
            threads=self._options.threads,
            rendered_at=job.created_at.isoformat(),
        )

    def _keep_results(self, job: Job) -> File:
        results_id = ids.results_file_id(job.id)
        key = f"accounts/{job.account_id}/files/{results_id}"
        size = self._blobs.put(key, _chunks(self._run_folder(job) / wire.RESULTS_FILE))
        return File(
            id=results_id,
            account_id=job.account_id,
            filename="results.csv",
            purpose=Purpose.FINE_TUNE_RESULTS,
            bytes=size,
            status=FileStatus.PROCESSED,
            created_at=self._clock.now(),
            blob_key=key,
        )

    def _final_checkpoint(self, job: Job) -> Checkpoint:
        with self._store.begin() as tx:
            newest = tx.jobs.checkpoints(job.id, after=None, limit=1).items
        if not newest or not newest[0].final:
            raise JobFailed("internalFailure", "Training ended without its last checkpoint.")
        return newest[0]

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """An engine that restarts is waited for; one that stays away fails the attempt, not the job."""
        until = self._clock.now() + timedelta(seconds=_ENGINE_PATIENCE_SECONDS)
        while True:
            try:
                return await call()
            except EngineDown:
                if self._clock.now() >= until:
                    raise
                await asyncio.sleep(1.0)

    def _run_folder(self, job: Job) -> Path:
        return self._options.runs_folder / job.id

    def _clean(self, job: Job) -> None:
        """The run folder holds customers' data; once the job has ended nothing needs it."""
        if job.ended:
            shutil.rmtree(self._run_folder(job), ignore_errors=True)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as source:
        while chunk := source.read(1 << 20):
            yield chunk
