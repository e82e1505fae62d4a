"""A job's pipeline with a scripted trainer and engine, a real SQLite store and real files."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tailorbird.domain.access import Account
from tailorbird.domain.files import File, FileStatus, Purpose
from tailorbird.domain.jobs import Hyperparameters, Job, JobEvent, WandbIntegration
from tailorbird.domain.pricing import NO_PRICES, PriceList
from tailorbird.domain.safety import Category, Scores, Severity
from tailorbird.infra.blobs import open_blobs
from tailorbird.infra.leases import SqlLeases
from tailorbird.infra.schema import make_engine, migrate
from tailorbird.infra.store import SqlStore
from tailorbird.protocol import training as wire
from tailorbird.protocol.generation import (
    EmbeddingRequest,
    Embeddings,
    Generation,
    GenerationChoice,
    GenerationChunk,
    GenerationRequest,
)
from tailorbird.protocol.training import TrainPlan
from tailorbird.service.adapters import Adapters
from tailorbird.service.intake import NewJob
from tailorbird.service.jobs import Jobs
from tailorbird.service.models import load_catalogue
from tailorbird.service.pipeline import Options, Pipeline
from tailorbird.service.ports import Engine, EngineDown, Moderator, TrainerCrashed

PACKAGE = Path(__file__).parents[3] / "src" / "tailorbird"
OWNER = "worker-1"
STEPS_PER_EPOCH = 10


class ManualClock:
    def __init__(self) -> None:
        self.time = datetime(2026, 11, 21, tzinfo=UTC)

    def now(self) -> datetime:
        self.time += timedelta(milliseconds=100)
        return self.time


class ScriptedRun:
    """Ten steps an epoch; goes on after `before`, the last step a process before it has saved."""

    def __init__(self, plan: TrainPlan, crash_at: int | None, hang: bool, before: int) -> None:
        self._plan = plan
        self._crash_at = crash_at
        self._hang = hang
        self._before = before
        self._told_new = asyncio.Event()
        self._stop = asyncio.Event()
        self.reached = before
        self.stopped = False
        self.patience: list[float | None] = []

    async def events(self) -> AsyncIterator[wire.TrainEvent]:
        total = STEPS_PER_EPOCH * self._plan.n_epochs
        folder = Path(self._plan.run_folder)
        yield wire.Started(total, STEPS_PER_EPOCH, 20, 1000, 10, self._before)
        for step in range(1, total + 1):
            if step == self._crash_at:
                raise TrainerCrashed(-9, "Killed")
            end = step % STEPS_PER_EPOCH == 0
            metrics = wire.Metrics(1.0 / step, 0.5, full_valid_loss=0.25 if end else None)
            epoch = (step - 1) // STEPS_PER_EPOCH + 1
            yield wire.Step(step, total, epoch, 1e-3, 50, metrics)
            if end:
                yield wire.CheckpointSaved(step, epoch, self._adapter(step), metrics)
            self.reached = max(self.reached, step)
            if step > self._before:
                self._told_new.set()
                await asyncio.sleep(0)
            if self._hang and step == max(5, self._before + 1):
                await self._stop.wait()
            if self._stop.is_set() and step > self._before:
                if not end:
                    yield wire.CheckpointSaved(step, epoch, self._adapter(step), metrics, epoch_end=False)
                yield wire.Interrupted(step)
                return
        (folder / wire.RESULTS_FILE).write_text("step\n1\n")
        (folder / wire.PROBES_FILE).write_text(wire.probes_to_json([wire.Probe([1, 2, 3], [1, 2], [-0.5, -0.25])]))
        yield wire.Finished(total, 1000 * self._plan.n_epochs, 1.0, "", "", "")

    def _adapter(self, step: int) -> str:
        adapter = Path(self._plan.run_folder) / wire.CHECKPOINT_FOLDER / f"step-{step}"
        adapter.mkdir(parents=True, exist_ok=True)
        (adapter / "adapter_config.json").write_text("{}")
        (adapter / "adapter_model.safetensors").write_bytes(b"weights of step %d" % step)
        return str(adapter)

    async def stepped(self) -> None:
        await self._told_new.wait()

    async def stop(self, patience: float | None = None) -> None:
        self.stopped = True
        self.patience.append(patience)
        self._stop.set()

    async def kill(self) -> None:
        self.stopped = True


class ScriptedTrainer:
    """`crashes` lists, per start, the step at which the process dies; beyond the list it lives.

    With `hang` each process waits at step 5, or one step after what was `saved`, until it is stopped."""

    def __init__(self, crashes: Sequence[int | None] = (), hang: bool = False, saved: int = 0) -> None:
        self._crashes = list(crashes)
        self._hang = hang
        self._saved = saved
        self.runs: list[ScriptedRun] = []
        self.plans: list[TrainPlan] = []

    async def start(self, plan: TrainPlan) -> ScriptedRun:
        crash = self._crashes.pop(0) if self._crashes else None
        before = self.runs[-1].reached if self.runs else self._saved
        self.plans.append(plan)
        self.runs.append(ScriptedRun(plan, crash, self._hang, before))
        return self.runs[-1]


class ScriptedEngine:
    """Scores every prompt as the probes expect, off by `error` nats; down for the first `outages` calls."""

    def __init__(self, error: float = 0.0, outages: int = 0, answer: str = "an answer") -> None:
        self._error = error
        self._outages = outages
        self._answer = answer
        self.loaded: list[str] = []

    def of(self, base: str) -> Engine:
        assert base == "weaver"
        return self

    async def complete(self, request: GenerationRequest) -> Generation:
        scores = [None, -0.5 + self._error, -0.25] if request.score_prompt else None
        choice = GenerationChoice(0, self._answer, [5], "stop")
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

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        raise AssertionError("no pipeline embeds")

    async def ready(self) -> bool:
        return True


class WordModerator:
    """Finds `violence` where a text says "forbidden"."""

    async def score(self, texts: Sequence[str]) -> list[Scores]:
        safe = dict.fromkeys(Category, Severity.SAFE)
        return [safe | ({Category.VIOLENCE: Severity.HIGH} if "forbidden" in text else {}) for text in texts]


class KeepingTracker:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.started: list[tuple[str, WandbIntegration, str | None]] = []
        self.steps: list[tuple[int, dict[str, float]]] = []
        self.ends: list[bool] = []

    def start(self, job: Job, integration: WandbIntegration, run_id: str, key: str | None) -> KeepingTracker:
        self.started.append((run_id, integration, key))
        return self

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.steps.append((step, dict(metrics)))

    def finish(self, failed: bool) -> None:
        self.ends.append(failed)


class House:
    """A pipeline with everything around it; `job()` makes a claimed job."""

    def __init__(self, folder: Path) -> None:
        url = f"sqlite:///{folder / 'test.db'}"
        migrate(url)
        self._database = make_engine(url)
        self.clock = ManualClock()
        self.store = SqlStore(self._database, self.clock.now)
        self.leases = SqlLeases(self._database)
        self.blobs = open_blobs("memory://")
        self.catalogue = load_catalogue(PACKAGE / "catalog.toml")
        self.folder = folder
        self.counter = 0
        account = Account("acc", "sub", "rg", "local", "local", "OpenAI", "k1", "k2", self.clock.now())
        with self.store.begin() as tx:
            tx.accounts.add(account)
        self.jobs = Jobs(self.store, self.catalogue, self.clock, self._hex, 20, tracking=True)

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
        claimed = self.claim()
        assert claimed is not None
        assert claimed.id == created.id
        return claimed

    def claim(self, owner: str = OWNER) -> Job | None:
        return self.leases.claim(owner, self.clock.now(), 600, 9)

    def trainer(self, crashes: Sequence[int | None] = (), hang: bool = False, saved: int = 0) -> ScriptedTrainer:
        return ScriptedTrainer(crashes, hang, saved)

    def engine(self, error: float = 0.0, outages: int = 0, answer: str = "an answer") -> ScriptedEngine:
        return ScriptedEngine(error, outages, answer)

    def pipeline(
        self,
        trainer: ScriptedTrainer | None = None,
        engine: ScriptedEngine | None = None,
        tracker: KeepingTracker | None = None,
        prices: PriceList = NO_PRICES,
        moderator: Moderator | None = None,
        **limits: object,
    ) -> Pipeline:
        options = Options(self.folder / "runs", "org", 0.01, 20, 0, "float32", 3)
        options = dataclasses.replace(options, **limits)  # pyright: ignore[reportArgumentType]
        return Pipeline(
            self.store,
            self.blobs,
            Adapters(self.blobs, self.folder / "adapters"),
            trainer or ScriptedTrainer(),
            engine or ScriptedEngine(),
            moderator or WordModerator(),
            self.catalogue,
            self.clock,
            options,
            tracker,
            prices,
        )

    def events(self, job: Job) -> list[JobEvent]:
        """Oldest first."""
        with self.store.begin() as tx:
            return tx.jobs.events(job.id, after=None, limit=1000).items[::-1]

    def event_keys(self, job: Job) -> list[str]:
        return [event.key for event in self.events(job)]

    async def until(self, what: Callable[[], bool]) -> None:
        for _ in range(2000):
            if what():
                return
            await asyncio.sleep(0.002)
        raise AssertionError("waited in vain")

    def row(self, job: Job) -> Job:
        with self.store.begin() as tx:
            found = tx.jobs.get(None, job.id)
        assert found is not None
        return found


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    if not (PACKAGE / "weaver" / "tokenizer.json").exists():
        pytest.skip("the built-in base model is not in this checkout")
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


def pairs(count: int, worse: str = "bad") -> list[str]:
    return [
        json.dumps(
            {
                "input": {"messages": [{"role": "user", "content": f"question {i}"}]},
                "preferred_output": [{"role": "assistant", "content": "good"}],
                "non_preferred_output": [{"role": "assistant", "content": worse}],
            }
        )
        for i in range(count)
    ]


@pytest.fixture(name="rows")
def rows_fixture() -> Callable[..., list[str]]:
    return rows


@pytest.fixture(name="pairs")
def pairs_fixture() -> Callable[..., list[str]]:
    return pairs


@pytest.fixture
def tracker() -> KeepingTracker:
    return KeepingTracker()
