"""The pipeline with a scripted trainer and engine, a real SQLite store and real files."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tailorbird.domain.access import Account
from tailorbird.domain.files import File, FileStatus, Purpose
from tailorbird.domain.jobs import EventKind, Hyperparameters, Job, JobStatus, Stage
from tailorbird.infra.blobs import open_blobs
from tailorbird.infra.leases import SqlLeases
from tailorbird.infra.schema import make_engine, migrate
from tailorbird.infra.store import SqlStore
from tailorbird.protocol import training as wire
from tailorbird.protocol.generation import Generation, GenerationChoice, GenerationChunk, GenerationRequest
from tailorbird.protocol.training import TrainPlan
from tailorbird.service.adapters import Adapters
from tailorbird.service.jobs import Jobs, NewJob
from tailorbird.service.models import load_catalogue
from tailorbird.service.pipeline import Options, Pipeline
from tailorbird.service.ports import EngineDown, LeaseLost, TrainerCrashed, Verdict

PACKAGE = Path(__file__).parents[3] / "src" / "tailorbird"
OWNER = "worker-1"
STEPS_PER_EPOCH = 10
pytestmark = pytest.mark.skipif(
    not (PACKAGE / "weaver" / "tokenizer.json").exists(), reason="the built-in base model is not in this checkout"
)


class ManualClock:
    def __init__(self) -> None:
        self.time = datetime(2026, 11, 21, tzinfo=UTC)

    def now(self) -> datetime:
        self.time += timedelta(milliseconds=100)
        return self.time


class ScriptedRun:
    def __init__(self, plan: TrainPlan, crash_at: int | None, hang: bool) -> None:
        self._plan = plan
        self._crash_at = crash_at
        self._hang = hang
        self.stopped = False

    async def events(self) -> AsyncIterator[wire.TrainEvent]:
        total = STEPS_PER_EPOCH * self._plan.n_epochs
        folder = Path(self._plan.run_folder)
        yield wire.Started(total, STEPS_PER_EPOCH, 20, 1000, 10)
        for step in range(1, total + 1):
            if step == self._crash_at:
                raise TrainerCrashed(-9, "Killed")
            end = step % STEPS_PER_EPOCH == 0
            metrics = wire.Metrics(1.0 / step, 0.5, full_valid_loss=0.25 if end else None)
            epoch = (step - 1) // STEPS_PER_EPOCH + 1
            yield wire.Step(step, total, epoch, 1e-3, 50, metrics)
            if end:
                adapter = folder / wire.CHECKPOINT_FOLDER / f"step-{step}"
                adapter.mkdir(parents=True, exist_ok=True)
                (adapter / "adapter_config.json").write_text("{}")
                (adapter / "adapter_model.safetensors").write_bytes(b"weights of step %d" % step)
                yield wire.CheckpointSaved(step, epoch, str(adapter), metrics)
            if self._hang and step == 5:
                await asyncio.sleep(60)
        (folder / wire.RESULTS_FILE).write_text("step\n1\n")
        (folder / wire.PROBES_FILE).write_text(wire.probes_to_json([wire.Probe([1, 2, 3], [1, 2], [-0.5, -0.25])]))
        yield wire.Finished(total, 1000 * self._plan.n_epochs, 1.0, "", "", "")

    async def stop(self) -> None:
        self.stopped = True

    async def kill(self) -> None:
        self.stopped = True


class ScriptedTrainer:
    """`crashes` lists, per start, the step at which the process dies; beyond the list it lives."""

    def __init__(self, crashes: Sequence[int | None] = (), hang: bool = False) -> None:
        self._crashes = list(crashes)
        self._hang = hang
        self.runs: list[ScriptedRun] = []
        self.plans: list[TrainPlan] = []

    async def start(self, plan: TrainPlan) -> ScriptedRun:
        crash = self._crashes.pop(0) if self._crashes else None
        self.plans.append(plan)
        self.runs.append(ScriptedRun(plan, crash, self._hang))
        return self.runs[-1]


class ScriptedEngine:
    """Scores every prompt as the probes expect, off by `error` nats; down for the first `outages` calls."""

    def __init__(self, error: float = 0.0, outages: int = 0) -> None:
        self._error = error
        self._outages = outages
        self.loaded: list[str] = []

    def of(self, base: str) -> ScriptedEngine:
        assert base == "weaver"
        return self

    async def complete(self, request: GenerationRequest) -> Generation:
        scores = [None, -0.5 + self._error, -0.25] if request.score_prompt else None
        choice = GenerationChoice(0, "an answer", [5], "stop")
        return Generation([choice], len(request.prompt), 1, scores)

    async def stream(self, request: GenerationRequest) -> AsyncIterator[GenerationChunk]:
        yield GenerationChunk(0, request.model, [5], None, "stop")

    async def load_adapter(self, name: str, folder: Path) -> None:
        if self._outages:
            self._outages -= 1
            raise EngineDown("restarting")
        assert (folder / "adapter_model.safetensors").read_bytes().startswith(b"weights")
        self.loaded.append(name)

    async def unload_adapter(self, name: str) -> None:
        self.loaded.remove(name)

    async def ready(self) -> bool:
        return True


class WordModerator:
    """Finds `violence` where a text says "forbidden"."""

    async def screen(self, texts: Sequence[str]) -> list[Verdict]:
        return [Verdict(frozenset({"violence"} if "forbidden" in text else ())) for text in texts]


class House:
    """A pipeline with everything around it; `job()` makes a claimed job."""

    def __init__(self, folder: Path) -> None:
        url = f"sqlite:///{folder / 'test.db'}"
        migrate(url)
        self._database = make_engine(url)
        self.store = SqlStore(self._database)
        self.leases = SqlLeases(self._database)
        self.blobs = open_blobs("memory://")
        self.clock = ManualClock()
        self.catalogue = load_catalogue(PACKAGE / "catalog.toml")
        self.folder = folder
        self.counter = 0
        account = Account("acc", "sub", "rg", "local", "local", "OpenAI", "k1", "k2", self.clock.now())
        with self.store.begin() as tx:
            tx.accounts.add(account)
        self.jobs = Jobs(self.store, self.catalogue, self.clock, self._hex, 20)

    def _hex(self) -> str:
        self.counter += 1
        return f"{self.counter:032x}"

    def close(self) -> None:
        self._database.dispose()

    def upload(self, lines: Sequence[str], status: FileStatus = FileStatus.PROCESSED) -> str:
        file_id = f"file-{self._hex()}"
        data = "\n".join(lines).encode()
        self.blobs.put(f"files/{file_id}", [data])
        row = File(
            file_id, "acc", "t.jsonl", Purpose.FINE_TUNE, len(data), status, self.clock.now(), f"files/{file_id}"
        )
        with self.store.begin() as tx:
            tx.files.add(row)
        return file_id

    def job(self, lines: Sequence[str] | None = None, **changes: object) -> Job:
        asked = Hyperparameters(n_epochs=4, batch_size=2)
        new = NewJob("gpt-35-turbo-0613", self.upload(lines or rows(12)), asked=asked, seed=1)
        created = self.jobs.create("acc", dataclasses.replace(new, **changes))  # pyright: ignore[reportArgumentType]
        claimed = self.leases.claim(OWNER, self.clock.now(), 600)
        assert claimed is not None
        assert claimed.id == created.id
        return claimed

    def pipeline(self, trainer: ScriptedTrainer | None = None, engine: ScriptedEngine | None = None) -> Pipeline:
        options = Options(self.folder / "runs", "org", 0.01, 20, 0, "float32", 3)
        return Pipeline(
            self.store,
            self.blobs,
            Adapters(self.blobs, self.folder / "adapters"),
            trainer or ScriptedTrainer(),
            engine or ScriptedEngine(),
            WordModerator(),
            self.catalogue,
            self.clock,
            options,
        )

    def event_keys(self, job: Job) -> list[str]:
        """Oldest first."""
        with self.store.begin() as tx:
            return [event.key for event in tx.jobs.events(job.id, after=None, limit=1000).items][::-1]

    def row(self, job: Job) -> Job:
        with self.store.begin() as tx:
            found = tx.jobs.get(None, job.id)
        assert found is not None
        return found


@pytest.fixture
def house(tmp_path: Path):
    built = House(tmp_path)
    yield built
    built.close()


def rows(count: int, answer: str = "fine") -> list[str]:
    return [
        json.dumps(
            {"messages": [{"role": "user", "content": f"question {i}"}, {"role": "assistant", "content": answer}]}
        )
        for i in range(count)
    ]


async def test_a_job_walks_through_all_stages_and_leaves_model_checkpoints_and_results(house: House) -> None:
    job = await house.pipeline().run(house.job(suffix="mine"), OWNER)
    assert (job.status, job.stage) == (JobStatus.SUCCEEDED, Stage.DONE)
    assert job.fine_tuned_model == f"gpt-35-turbo-0613.ft-{job.id.removeprefix('ftjob-')}-mine"
    assert job.trained_tokens == 4000
    assert house.row(job) == dataclasses.replace(job, attempts=1)
    with house.store.begin() as tx:
        checkpoints = tx.jobs.checkpoints(job.id, after=None, limit=10).items
        model = tx.models.find("acc", job.fine_tuned_model or "")
        results = tx.files.get("acc", job.result_file or "")
    assert [(c.step, c.final, c.deployable) for c in checkpoints] == [
        (40, True, True),
        (30, False, True),
        (20, False, True),
        (10, False, False),
    ]
    assert model is not None
    assert model.checkpoint_id == checkpoints[0].id
    assert results is not None
    assert b"".join(house.blobs.read(results.blob_key)) == b"step\n1\n"
    facts = json.loads(b"".join(house.blobs.read(f"{checkpoints[0].adapter_key}/tailorbird.json")))
    assert facts["template_hash"] == job.template_hash == model.template_hash


async def test_events_are_written_once_each_and_in_order(house: House) -> None:
    job = await house.pipeline().run(house.job(), OWNER)
    keys = house.event_keys(job)
    assert len(keys) == len(set(keys))
    assert keys[:5] == ["created", "validating", "validated", "started", "step-1"]
    assert keys[-5:] == ["succeeded", "model_ready", "model_screened", "results", "billed"]


async def test_every_stage_may_run_twice(house: House) -> None:
    job = house.job()
    stages = [stage for stage in Stage if stage is not Stage.DONE]
    pipeline = house.pipeline()
    for stage in stages:
        steps = {
            Stage.VALIDATE: pipeline._validate,
            Stage.SCREEN_DATA: pipeline._screen_data,
            Stage.TRAIN: pipeline._train,
            Stage.PROVE: pipeline._prove,
            Stage.SCREEN_MODEL: pipeline._screen_model,
        }
        if stage in steps:
            first = await steps[stage](job, OWNER)
            again = await steps[stage](job, OWNER)
            assert first.stage == again.stage
            job = again
    ended = await pipeline.run(job, OWNER)
    assert ended.status is JobStatus.SUCCEEDED
    keys = house.event_keys(ended)
    assert len(keys) == len(set(keys))


async def test_a_trainer_that_crashes_is_started_again_and_the_story_has_no_doubles(house: House) -> None:
    trainer = ScriptedTrainer(crashes=[7, 25])
    job = await house.pipeline(trainer).run(house.job(), OWNER)
    assert job.status is JobStatus.SUCCEEDED
    assert len(trainer.runs) == 3
    keys = house.event_keys(job)
    assert len(keys) == len(set(keys))
    assert {"resumed-6", "resumed-24"} <= set(keys)


async def test_a_trainer_that_keeps_crashing_at_one_step_fails_the_job(house: House) -> None:
    trainer = ScriptedTrainer(crashes=[7] * 9)
    job = await house.pipeline(trainer).run(house.job(), OWNER)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert "step 6" in job.error.message
    assert len(trainer.runs) == 3


async def test_an_adapter_the_engine_reads_differently_fails_the_proof(house: House) -> None:
    job = await house.pipeline(engine=ScriptedEngine(error=0.5)).run(house.job(), OWNER)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.code == "adapterProofFailed"
    assert "0.5000 nats" in job.error.message
    with house.store.begin() as tx:
        assert tx.models.list("acc") == []


async def test_an_engine_that_restarts_is_waited_for(house: House) -> None:
    job = await house.pipeline(engine=ScriptedEngine(outages=1)).run(house.job(), OWNER)
    assert job.status is JobStatus.SUCCEEDED


async def test_harmful_data_fails_the_job_before_training_with_azures_words(house: House) -> None:
    trainer = ScriptedTrainer()
    job = await house.pipeline(trainer).run(house.job(rows(12, "forbidden words")), OWNER)
    assert job.error is not None
    assert job.error.message == (
        "The provided training data failed RAI checks for harm types: [violence]. Please fix the data and try again."
    )
    assert trainer.runs == []


async def test_bad_lines_fail_the_job_with_their_numbers(house: House) -> None:
    lines = rows(12)
    lines[3] = '{"messages": []}'
    lines[7] = "{broken"
    job = await house.pipeline().run(house.job(lines), OWNER)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.param == "training_file"
    assert "Line 4" in job.error.message
    assert "Line 8" in job.error.message


async def test_too_few_lines_fail_with_openais_code_and_text(house: House) -> None:
    job = await house.pipeline().run(house.job(rows(7)), OWNER)
    assert job.error is not None
    assert job.error.code == "invalid_n_examples"
    assert job.error.message == "Training file has 7 example(s), but must have at least 10 examples"


async def test_a_line_longer_than_the_model_fails_the_job_naming_it(house: House) -> None:
    lines = rows(12)
    lines[5] = rows(1, "0123456789 " * 300)[0]
    job = await house.pipeline().run(house.job(lines), OWNER)
    assert job.error is not None
    assert job.error.message.startswith("Line 6: ")
    assert "at most 1024" in job.error.message


async def test_auto_is_resolved_into_the_job_and_the_plan(house: House) -> None:
    trainer = ScriptedTrainer()
    asked = Hyperparameters(None, None, 0.5)
    job = await house.pipeline(trainer).run(house.job(asked=asked), OWNER)
    base = house.catalogue.base("weaver")
    assert job.resolved is not None
    assert job.resolved.batch_size == min(12, base.auto.min_batch_size)
    assert trainer.plans[0].batch_size == job.resolved.batch_size
    assert trainer.plans[0].n_epochs == job.resolved.n_epochs == base.auto.max_epochs
    assert trainer.plans[0].learning_rate == pytest.approx(base.learning_rate * 0.5)


async def test_stopping_the_task_stops_the_trainer_and_leaves_the_job_where_it_stood(house: House) -> None:
    trainer = ScriptedTrainer(hang=True)
    job = house.job()
    task = asyncio.create_task(house.pipeline(trainer).run(job, OWNER))
    while not trainer.runs or "step-1" not in house.event_keys(job):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert trainer.runs[0].stopped
    row = house.row(job)
    assert (row.status, row.stage) == (JobStatus.RUNNING, Stage.TRAIN)
    ended = await house.pipeline().run(row, OWNER)
    assert ended.status is JobStatus.SUCCEEDED


async def test_a_worker_that_lost_its_lease_changes_nothing(house: House) -> None:
    job = house.job()
    house.leases.release(job.id, OWNER)
    assert house.leases.claim("worker-2", house.clock.now(), 600) is not None
    with pytest.raises(LeaseLost):
        await house.pipeline().run(job, OWNER)
    assert house.row(job).stage is Stage.VALIDATE


async def test_a_cancelled_job_keeps_its_checkpoints_and_says_so(house: House) -> None:
    job = house.job()
    pipeline = house.pipeline()
    ended = pipeline.cancel(job, OWNER)
    assert ended.status is JobStatus.CANCELLED
    assert house.event_keys(job)[-1] == EventKind.CANCELLED
    assert pipeline.cancel(ended, OWNER) == house.row(job)
