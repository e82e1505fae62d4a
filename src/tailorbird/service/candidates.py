"""A trained adapter before anybody may use it: the engine's proof, and the screening of its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from tailorbird.domain.jobs import Checkpoint, Job
from tailorbird.domain.safety import Verdict, base_subject
from tailorbird.protocol import training as wire
from tailorbird.protocol.generation import Generation, GenerationRequest
from tailorbird.service.adapters import Adapters
from tailorbird.service.evaluation import Ask, Evaluator, Given, given_by
from tailorbird.service.models import Catalogue
from tailorbird.service.ports import AdapterUnknown, Clock, EngineDown, Engines, Store
from tailorbird.service.runs import JobFailed

T = TypeVar("T")
_ENGINE_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Proof:
    """`worst` is the largest difference in nats, over `tokens` probe tokens."""

    worst: float
    tolerance: float
    tokens: int


class Candidates:
    def __init__(
        self,
        adapters: Adapters,
        engines: Engines,
        evaluator: Evaluator,
        store: Store,
        catalogue: Catalogue,
        clock: Clock,
        tolerance: float,
    ) -> None:
        self._adapters = adapters
        self._engines = engines
        self._evaluator = evaluator
        self._store = store
        self._catalogue = catalogue
        self._clock = clock
        self._tolerance = tolerance

    async def prove(self, job: Job, candidate: Checkpoint, run_folder: Path) -> Proof:
        """Raises JobFailed when the engine does not reproduce the trainer's log-probabilities, EngineDown."""
        engine = self._engines.of(job.base)
        probes = wire.probes_from_json((run_folder / wire.PROBES_FILE).read_text())
        worst = 0.0
        await self._load(job, candidate)
        for probe in probes:
            request = GenerationRequest(
                model=candidate.id, prompt=probe.token_ids, max_tokens=1, temperature=0.0, score_prompt=True
            )
            scored = (await self._patiently(lambda r=request: engine.complete(r))).prompt_logprobs or []
            for position, expected in zip(probe.positions, probe.logprobs, strict=True):
                got = scored[position] if position < len(scored) else None
                worst = max(worst, abs(got - expected)) if got is not None else float("inf")
        if not worst <= self._tolerance:
            raise JobFailed(
                "adapterProofFailed",
                f"The trained adapter, loaded by the inference engine, differs from the trainer by {worst:.4f} nats on "
                f"a probe token; at most {self._tolerance} is accepted. Nothing was registered.",
            )
        return Proof(worst, self._tolerance, sum(len(probe.positions) for probe in probes))

    async def verdict(self, job: Job, candidate: Checkpoint, training_file: Path) -> Verdict:
        """Of simulated conversations with it, remembered; it is unloaded then. Raises EngineDown, ModeratorDown."""
        given = await asyncio.to_thread(given_by, training_file)
        known = await asyncio.to_thread(self._known, candidate.id, given)
        if known is not None:
            return known
        engine = self._engines.of(job.base)

        async def ask(request: GenerationRequest) -> Generation:
            try:
                return await self._patiently(lambda: engine.complete(request))
            except AdapterUnknown:
                # The engine has started anew meanwhile.
                await self._load(job, candidate)
                return await self._patiently(lambda: engine.complete(request))

        await self._load(job, candidate)
        found = await self._evaluate(job, ask, candidate.id, candidate.id, given)
        await self._patiently(lambda: engine.unload_adapter(candidate.id))
        return found

    async def base_verdict(self, job: Job) -> Verdict:
        """Of the base model itself, measured once for each set. Raises EngineDown, ModeratorDown."""
        given, subject = Given(), base_subject(job.base)
        known = await asyncio.to_thread(self._known, subject, given)
        if known is not None:
            return known
        engine = self._engines.of(job.base)

        async def ask(request: GenerationRequest) -> Generation:
            return await self._patiently(lambda: engine.complete(request))

        return await self._evaluate(job, ask, subject, job.base, given)

    async def _evaluate(self, job: Job, ask: Ask, subject: str, model: str, given: Given) -> Verdict:
        renderer, context = self._catalogue.renderer(job.base), self._catalogue.base(job.base).max_tokens
        found = await self._evaluator.evaluate(ask, subject, model, renderer, context, given)
        await asyncio.to_thread(self._remember, found)
        return found

    def _known(self, subject: str, given: Given) -> Verdict | None:
        with self._store.begin() as tx:
            return tx.verdicts.get(subject, self._evaluator.set_version(given))

    def _remember(self, verdict: Verdict) -> None:
        with self._store.begin() as tx:
            tx.verdicts.put(verdict)

    async def _load(self, job: Job, candidate: Checkpoint) -> None:
        engine = self._engines.of(job.base)
        folder = await asyncio.to_thread(self._adapters.local, candidate.id, candidate.adapter_key)
        await self._patiently(lambda: engine.load_adapter(candidate.id, folder))

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
