"""A job's run folder: its files fetched, its plan, and nothing left of it once the job has ended."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tailorbird.dataset.render import Renderer
from tailorbird.domain import ids
from tailorbird.domain.files import File
from tailorbird.domain.jobs import DEFAULT_BETA, Job, JobError, Method
from tailorbird.protocol.training import TrainPlan
from tailorbird.service.adapters import Adapters
from tailorbird.service.models import Catalogue
from tailorbird.service.ports import Blobs, Store
from tailorbird.service.sources import find_checkpoint, template_fault

_TRAINING, _VALIDATION = "train.jsonl", "valid.jsonl"


class JobFailed(Exception):
    """The job cannot go on, for a reason its owner may read. `kept` is a file that tells more, for the job's results;
    `facts` go into the event."""

    def __init__(
        self,
        code: str,
        message: str,
        param: str | None = None,
        *,
        kept: File | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.error = JobError(code, message, param)
        self.kept = kept
        self.facts = dict(facts or {})


@dataclass(frozen=True, slots=True)
class TrainerOptions:
    """What the operator decides about every run."""

    save_every: int
    threads: int
    dtype: str


class Runs:
    """Run folders are local to the worker's machine and hold customers' data."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        adapters: Adapters,
        catalogue: Catalogue,
        folder: Path,
        options: TrainerOptions,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._adapters = adapters
        self._catalogue = catalogue
        self._folder = folder
        self._options = options

    def folder(self, job: Job) -> Path:
        return self._folder / job.id

    def renderer(self, job: Job) -> Renderer:
        return self._catalogue.renderer(job.base)

    def training_file(self, job: Job) -> Path:
        return self.folder(job) / _TRAINING

    def files(self, job: Job) -> dict[str, Path]:
        """Request field to path, fetched. Raises JobFailed when a file was deleted in between."""
        folder = self.folder(job)
        folder.mkdir(parents=True, exist_ok=True)
        found: dict[str, Path] = {}
        for param, name, file_id in (
            ("training_file", _TRAINING, job.training_file),
            ("validation_file", _VALIDATION, job.validation_file),
        ):
            if file_id is None:
                continue
            found[param] = folder / name
            if not found[param].exists():
                self._fetch(job, file_id, found[param])
        return found

    def plan(self, job: Job) -> TrainPlan:
        """Raises JobFailed."""
        base = self._catalogue.base(job.base)
        folder = self.folder(job)
        if job.resolved is None or job.template_hash is None:
            raise JobFailed("internalFailure", "The job was not validated before training.")
        start = self._start(job)
        return TrainPlan(
            job_id=job.id,
            run_folder=str(folder),
            base_model=base.folder,
            training_file=str(folder / _TRAINING),
            validation_file=str(folder / _VALIDATION) if job.validation_file else None,
            initial_adapter=None if start is None else str(start),
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
            method="dpo" if job.method is Method.DPO else "supervised",
            beta=DEFAULT_BETA if job.resolved.beta is None else job.resolved.beta,
            weight_decay=job.resolved.l2_multiplier or 0.0,
            patience=job.resolved.early_stop_patience or 0,
        )

    def clean(self, job: Job) -> None:
        """Nobody needs the folder of a job that has ended."""
        if job.ended:
            shutil.rmtree(self.folder(job), ignore_errors=True)

    def sweep(self) -> None:
        """Removes the folders of jobs that ended or went while no worker held them."""
        for folder in self._folder.glob(f"{ids.job_id('')}*"):
            with self._store.begin() as tx:
                job = tx.jobs.get(None, folder.name)
            if job is None or job.ended:
                shutil.rmtree(folder, ignore_errors=True)

    def _start(self, job: Job) -> Path | None:
        """The adapter training begins with: none for a base model."""
        if job.start_checkpoint is None:
            return None
        with self._store.begin() as tx:
            earlier = find_checkpoint(tx, job.account_id, job.start_checkpoint)
        if earlier is None:
            raise JobFailed("notFound", "The model this job continues from was deleted.", "model")
        fault = template_fault(self._catalogue, earlier.checkpoint.name, job.base, earlier.template_hash)
        if fault is not None:
            raise JobFailed("invalidPayload", fault, "model")
        return self._adapters.local(earlier.checkpoint.id, earlier.checkpoint.adapter_key)

    def _fetch(self, job: Job, file_id: str, target: Path) -> None:
        with self._store.begin() as tx:
            row = tx.files.kept(job.account_id, file_id)
        if row is None:
            raise JobFailed("invalid_training_file", f"The file {file_id} was deleted before the job began.")
        part = target.with_suffix(".part")
        with part.open("wb") as out:
            out.writelines(self._blobs.read(row.blob_key))
        part.replace(target)


def chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as source:
        while chunk := source.read(1 << 20):
            yield chunk
