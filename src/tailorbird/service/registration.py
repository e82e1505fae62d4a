"""The last stage: results kept as a file, the adapter a model, the newest checkpoints deployable."""

from __future__ import annotations

import dataclasses

from tailorbird.domain import ids
from tailorbird.domain.files import File, FileStatus, Purpose
from tailorbird.domain.jobs import Checkpoint, EventKind, Job, JobStatus, Stage, check_move
from tailorbird.domain.models import TunedModel
from tailorbird.protocol import training as wire
from tailorbird.service.jobs import event
from tailorbird.service.ports import Blobs, Clock, Session, Store
from tailorbird.service.runs import JobFailed, Runs, chunks
from tailorbird.service.usage.estimates import remember
from tailorbird.service.usage.prefixes import cost_share_of_file
from tailorbird.service.usage.training import Billing

DEPLOYABLE_CHECKPOINTS = 3
_ALL = 10_000


class Registration:
    def __init__(self, store: Store, blobs: Blobs, runs: Runs, clock: Clock, billing: Billing) -> None:
        self._store = store
        self._blobs = blobs
        self._runs = runs
        self._clock = clock
        self._billing = billing

    def register(self, job: Job, owner: str) -> Job:
        """The job, succeeded. Raises LeaseLost."""
        now = self._clock.now()
        final = self.final_checkpoint(job)
        results = self.keep_results(job)
        share = self._cost_share(job)
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
        ]
        with self._store.begin() as tx:
            if tx.files.get(job.account_id, results.id) is None:
                tx.files.add(results)
            for checkpoint in _newest(tx, job):
                verdict = tx.verdicts.newest(checkpoint.id)
                safe = verdict is None or not verdict.harms
                tx.jobs.add_checkpoint(dataclasses.replace(checkpoint, deployable=safe))
            tx.models.add(model)
            for key, kind, data in moments:
                tx.jobs.append_event(event(done, key, kind, now, data))
            billed = self._billing.charge(tx, done, now) or {"tokens": done.trained_tokens or 0}
            tx.jobs.append_event(event(done, "billed", EventKind.BILLED, now, billed))
            remember(tx, done, share, now)
            tx.jobs.save(done, owner=owner)
        return done

    def _cost_share(self, job: Job) -> float:
        """What its tokens cost on average; of a file that is not here any more each counts in full."""
        path = self._runs.training_file(job)
        if job.resolved is None or not path.exists():
            return 1.0
        return cost_share_of_file(path, self._runs.renderer(job), job.resolved.batch_size or 1)

    def final_checkpoint(self, job: Job) -> Checkpoint:
        """Raises JobFailed when training left none."""
        with self._store.begin() as tx:
            newest = _newest(tx, job)
        if not newest or not newest[0].final:
            raise JobFailed("internalFailure", "Training ended without its last checkpoint.")
        return newest[0]

    def candidates(self, job: Job) -> list[Checkpoint]:
        """What is deployable when the job succeeds, the final one first. Raises JobFailed when training left none."""
        self.final_checkpoint(job)
        with self._store.begin() as tx:
            return _newest(tx, job)

    def keep_results(self, job: Job) -> File:
        """results.csv, kept; its row is the caller's to add."""
        results_id = ids.results_file_id(job.id)
        key = f"accounts/{job.account_id}/files/{results_id}"
        size = self._blobs.put(key, chunks(self._runs.folder(job) / wire.RESULTS_FILE))
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


def _newest(tx: Session, job: Job) -> list[Checkpoint]:
    """The final checkpoint and those of the last epochs; one that a pause left in between keeps what its own screening
    said. The final one is not the last where training went on without getting better."""
    made = [one for one in tx.jobs.checkpoints(job.id, after=None, limit=_ALL).items if not one.at_pause]
    return sorted(made, key=lambda checkpoint: not checkpoint.final)[:DEPLOYABLE_CHECKPOINTS]
