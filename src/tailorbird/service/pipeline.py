"""What happens to a job, stage by stage; each stage may run twice and leaves the same behind.

    STAGES = (validate, screen_data, train, prove, screen_model, register)

A pausing job goes from `train` to `pause` and rests until it is resumed, which leads back to `train`. The stage is a
column of the job: whoever claims it next goes on where the last worker stood. Everything written has a name that
follows from the job (event keys, checkpoint ids, blob keys), so writing it again changes nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from tailorbird.domain.files import File
from tailorbird.domain.jobs import EventKind, EventLevel, Job, JobError, JobStatus, Stage, check_move
from tailorbird.domain.pricing import NO_PRICES, PriceList
from tailorbird.domain.safety import Thresholds, data_message, model_message
from tailorbird.protocol import training as wire
from tailorbird.service.adapters import Adapters
from tailorbird.service.candidates import Candidates
from tailorbird.service.evaluation import Evaluator
from tailorbird.service.jobs import cancelled_at, event, tell_cancelled
from tailorbird.service.models import Catalogue
from tailorbird.service.patience import PatientModerator, Pause
from tailorbird.service.ports import Blobs, Clock, Engines, Moderator, ModeratorDown, Session, Store, Tracker, Trainer
from tailorbird.service.progress import Progress
from tailorbird.service.registration import Registration
from tailorbird.service.runs import JobFailed, Runs, TrainerOptions
from tailorbird.service.screening import DataScreen
from tailorbird.service.tracking import Tracking
from tailorbird.service.usage.training import Billing
from tailorbird.service.validation import Validation

log = logging.getLogger(__name__)

_UNSCREENED = JobError(
    "moderatorUnavailable",
    "The safety evaluation could not be made: the service's moderator did not answer in time. Nothing was charged. "
    "Create the job again later; the operator finds the reason in the worker's log.",
)
_AZURES_JOB_TOKENS = 2_000_000_000
_AZURES_JOB_HOURS = 720.0


@dataclass(frozen=True, slots=True)
class Options:
    runs_folder: Path
    organization: str
    prove_tolerance: float
    save_every: int
    threads: int
    dtype: str
    max_crashes: int
    max_job_tokens: int = _AZURES_JOB_TOKENS
    max_job_hours: float = _AZURES_JOB_HOURS
    thresholds: Thresholds = field(default_factory=lambda: Thresholds.parse("medium"))
    max_harm_rate: float = 0.2
    moderated_by: str = "builtin"
    moderator_patience: float = 900.0
    moderator_pause: Pause = asyncio.sleep


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
        tracker: Tracker | None = None,
        prices: PriceList = NO_PRICES,
    ) -> None:
        self._store = store
        self._trainer = trainer
        self._clock = clock
        self._options = options
        trained = TrainerOptions(options.save_every, options.threads, options.dtype)
        self._runs = Runs(store, blobs, adapters, catalogue, options.runs_folder, trained)
        self._validation = Validation(self._runs, catalogue, options.max_job_tokens)
        patient = PatientModerator(moderator, clock, options.moderator_patience, options.moderator_pause)
        self._screen = DataScreen(patient, options.thresholds, blobs, clock)
        evaluator = Evaluator(patient, options.thresholds, options.max_harm_rate, options.moderated_by, clock)
        self._candidates = Candidates(adapters, engines, evaluator, store, catalogue, clock, options.prove_tolerance)
        self._billing = Billing(prices)
        self._registration = Registration(store, blobs, self._runs, clock, self._billing)
        self._progress = Progress(store, adapters, clock, options.organization, options.max_crashes)
        self._tracking = Tracking(store, tracker)

    async def run(self, job: Job, owner: str, pause: asyncio.Event | None = None) -> Job:
        """Takes the job from its stage to its end, or to its pause, and answers it as it is then. Raises LeaseLost.

        Setting `pause` stops training where it is; the trainer saves. Cancelling the task stops the job where it
        stands, as it is: whoever claims it goes on."""
        wish = pause or asyncio.Event()
        if job.status is JobStatus.PAUSING:
            # Asked of a worker that is gone.
            wish.set()
        stages: dict[Stage, Callable[[Job, str], Awaitable[Job]]] = {
            Stage.VALIDATE: self._validate,
            Stage.SCREEN_DATA: self._screen_data,
            Stage.TRAIN: lambda job, owner: self._train(job, owner, wish),
            Stage.PAUSE: self._pause,
            Stage.PROVE: self._prove,
            Stage.SCREEN_MODEL: self._screen_model,
            Stage.REGISTER: self._register,
        }
        try:
            while job.stage is not Stage.DONE and job.status is not JobStatus.PAUSED:
                job = await stages[job.stage](job, owner)
        except JobFailed as failure:
            job = self.fail(job, owner, failure.error, failure.kept, failure.facts)
        except ModeratorDown as down:
            log.warning("the moderator stayed away: %s", down, extra={"job": job.id})
            job = self.fail(job, owner, _UNSCREENED)
        self._runs.clean(job)
        return job

    def fail(
        self,
        job: Job,
        owner: str,
        error: JobError,
        kept: File | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> Job:
        """`kept` becomes the job's result file, `facts` stand in its last event."""
        with self._store.begin() as tx:
            # The row knows more than the caller's copy: how far training came before it was stopped.
            current = tx.jobs.get(None, job.id) or job
            if current.ended:
                return current
            check_move(current.status, JobStatus.FAILED)
            now = self._clock.now()
            failed = dataclasses.replace(
                current,
                status=JobStatus.FAILED,
                stage=Stage.DONE,
                finished_at=now,
                error=error,
                result_file=None if kept is None else kept.id,
            )
            # Failed jobs are free, whatever they failed of.
            data: dict[str, object] = {"message": error.message, "code": error.code, "charged": False, **(facts or {})}
            if kept is not None:
                if tx.files.get(job.account_id, kept.id) is None:
                    tx.files.add(kept)
                data["file"] = kept.id
                kind = EventKind.FINDINGS_READY if "findings" in data else EventKind.RESULTS_READY
                tx.jobs.append_event(event(failed, kind.value, kind, now, {"file": kept.id}))
            tx.jobs.save(failed, owner=owner)
            tx.jobs.append_event(event(failed, "failed", EventKind.FAILED, now, data, EventLevel.ERROR))
        self._runs.clean(failed)
        return failed

    def cancel(self, job: Job, owner: str) -> Job:
        with self._store.begin() as tx:
            current = tx.jobs.get(None, job.id) or job
            if current.ended:
                return current
            cancelled = cancelled_at(current, self._clock.now())
            tx.jobs.save(cancelled, owner=owner)
            tell_cancelled(tx, self._billing, cancelled, self._clock.now())
        self._runs.clean(cancelled)
        return cancelled

    def overdue(self, job: Job) -> JobError | None:
        """Why a job that has been running for too long has to end; None while it may go on."""
        hours = self._options.max_job_hours
        if job.running_time(self._clock.now()) < timedelta(hours=hours):
            return None
        return JobError(
            "jobTimeout",
            f"The job has been running for {hours:g} hours, which is the most a fine-tuning job may take. Use fewer "
            "epochs or a smaller file; checkpoints of finished epochs can be listed.",
        )

    def sweep(self) -> None:
        """Removes what jobs left on this machine that ended while no worker held them."""
        self._runs.sweep()

    # --- stages ------------------------------------------------------------------------------------------------------

    async def _validate(self, job: Job, owner: str) -> Job:
        with self._store.begin() as tx:
            data: dict[str, object] = {"training_file": job.training_file, "validation_file": job.validation_file}
            tx.jobs.append_event(event(job, "validating", EventKind.VALIDATING, self._clock.now(), data))
        return self._advance(await asyncio.to_thread(self._validation.check, job), owner, Stage.SCREEN_DATA)

    async def _screen_data(self, job: Job, owner: str) -> Job:
        files = await asyncio.to_thread(self._runs.files, job)
        found = await self._screen.screen(job, files)
        if found.harms:
            facts = {"findings": found.count}
            raise JobFailed("contentFilter", data_message(found.harms), found.param, kept=found.file, facts=facts)
        return self._advance(dataclasses.replace(job, status=JobStatus.QUEUED), owner, Stage.TRAIN, EventKind.VALIDATED)

    async def _train(self, job: Job, owner: str, pause: asyncio.Event) -> Job:
        job = self._running(job, owner)
        await asyncio.to_thread(self._runs.files, job)
        plan = await asyncio.to_thread(self._runs.plan, job)
        trackers = await asyncio.to_thread(self._tracking.start, job)
        failed = False
        try:
            job, ended = await self._progress.follow(self._trainer, plan, job, owner, pause, trackers)
            failed = isinstance(ended, wire.Failed)
        finally:
            if trackers.any:
                await asyncio.shield(asyncio.to_thread(trackers.finish, failed))
        if isinstance(ended, wire.Failed):
            raise JobFailed(ended.code, ended.message)
        if isinstance(ended, wire.Interrupted):
            return self._advance(dataclasses.replace(job, status=JobStatus.PAUSING), owner, Stage.PAUSE)
        # Training came to its end, whatever was wished for meanwhile.
        trained = dataclasses.replace(job, status=JobStatus.RUNNING, trained_tokens=ended.trained_tokens)
        return self._advance(trained, owner, Stage.PROVE)

    async def _pause(self, job: Job, owner: str) -> Job:
        """Screens the adapter training has stopped at, so that it can be deployed, and lets the job rest."""
        with self._store.begin() as tx:
            newest = tx.jobs.checkpoints(job.id, after=None, limit=1).items
        checkpoint = newest[0] if newest else None
        step = job.trained_steps if checkpoint is None else checkpoint.step
        harms: tuple[str, ...] = ()
        if checkpoint is not None:
            training_file = (await asyncio.to_thread(self._runs.files, job))["training_file"]
            harms = (await self._candidates.verdict(job, checkpoint, training_file)).harms
        now = self._clock.now()
        check_move(job.status, JobStatus.PAUSED)
        paused = dataclasses.replace(
            job,
            status=JobStatus.PAUSED,
            stage=Stage.TRAIN,
            paused_at=now,
            pauses=job.pauses + 1,
            trained_steps=max(step, job.trained_steps),
        )
        with self._store.begin() as tx:
            if checkpoint is not None and not harms:
                tx.jobs.add_checkpoint(dataclasses.replace(checkpoint, deployable=True))
            if harms:
                self._tell_refused(tx, paused, step, harms)
            tx.jobs.append_event(event(paused, f"paused-{paused.pauses}", EventKind.PAUSED, now, {"step": step}))
            tx.jobs.save(paused, owner=owner)
        return paused

    async def _prove(self, job: Job, owner: str) -> Job:
        final = self._registration.final_checkpoint(job)
        proof = await self._candidates.prove(job, final, self._runs.folder(job))
        return self._advance(job, owner, Stage.SCREEN_MODEL, EventKind.PROVED, dataclasses.asdict(proof))

    async def _screen_model(self, job: Job, owner: str) -> Job:
        """The final checkpoint decides over the job; an earlier one that would be deployable over itself alone."""
        training_file = (await asyncio.to_thread(self._runs.files, job))["training_file"]
        final, *earlier = self._registration.candidates(job)
        verdict = await self._candidates.verdict(job, final, training_file)
        rates: dict[str, object] = {"rates": verdict.rates, "set_version": verdict.set_version}
        rates["base_rates"] = (await self._candidates.base_verdict(job)).rates
        if verdict.harms:
            results = await asyncio.to_thread(self._registration.keep_results, job)
            raise JobFailed("modelContentFilter", model_message(verdict.harms), kept=results, facts=rates)
        for checkpoint in earlier:
            harms = (await self._candidates.verdict(job, checkpoint, training_file)).harms
            if harms:
                with self._store.begin() as tx:
                    self._tell_refused(tx, job, checkpoint.step, harms)
        return self._advance(job, owner, Stage.REGISTER, EventKind.MODEL_RATED, rates)

    async def _register(self, job: Job, owner: str) -> Job:
        return await asyncio.to_thread(self._registration.register, job, owner)

    # --- parts of stages ---------------------------------------------------------------------------------------------

    def _tell_refused(self, tx: Session, job: Job, step: int, harms: Iterable[str]) -> None:
        refused: dict[str, object] = {"step": step, "message": model_message(harms)}
        key, kind = f"checkpoint-refused-{step}", EventKind.CHECKPOINT_REFUSED
        tx.jobs.append_event(event(job, key, kind, self._clock.now(), refused, EventLevel.WARNING))

    def _running(self, job: Job, owner: str) -> Job:
        """The job, training; one that is pausing stays so."""
        if job.status not in (JobStatus.QUEUED, JobStatus.RESUMING):
            return job
        resumed = job.status is JobStatus.RESUMING
        key, kind = (f"continued-{job.pauses}", EventKind.CONTINUED) if resumed else ("started", EventKind.STARTED)
        now = self._clock.now()
        check_move(job.status, JobStatus.RUNNING)
        running = dataclasses.replace(job, status=JobStatus.RUNNING, started_at=job.started_at or now)
        with self._store.begin() as tx:
            tx.jobs.save(running, owner=owner)
            tx.jobs.append_event(event(running, key, kind, now, {"step": job.trained_steps}))
        return running

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
