"""Candidates meet simulated conversations; what answers harmfully can never be deployed, and only rates are kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import date

import pytest

from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.jobs import JobStatus, Stage
from tailorbird.domain.safety import Category, Scores, Severity, base_subject, model_message
from tailorbird.protocol.generation import Generation, GenerationChoice, GenerationRequest
from tailorbird.service.ports import ModeratorDown
from tailorbird.service.simulations import SIMULATIONS
from tailorbird.service.sources import Asked, source_to_deploy

OWNER = "worker-1"


class Answering:
    """An engine whose answers depend on the model and on what it was asked."""

    def __init__(self, house, answer) -> None:
        self.inner = house.engine()
        self.answer = answer
        self.renderer = house.catalogue.renderer("weaver")
        self.asked: list[tuple[str, str]] = []
        self.hang_at: int | None = None

    def of(self, base: str):
        return self

    def __getattr__(self, name: str):
        return getattr(self.inner, name)

    async def complete(self, request: GenerationRequest) -> Generation:
        if request.score_prompt:
            return await self.inner.complete(request)
        prompt = self.renderer.decode(request.prompt, skip_special_tokens=False)
        self.asked.append((request.model, prompt))
        if len(self.asked) == self.hang_at:
            await asyncio.sleep(60)
        return Generation([GenerationChoice(0, self.answer(request.model, prompt), [5], "stop")], 1, 1, None)


def verdict_of(house, subject: str):
    with house.store.begin() as tx:
        return tx.verdicts.newest(subject)


def final_of(house, job):
    with house.store.begin() as tx:
        return tx.jobs.checkpoints(job.id, after=None, limit=1).items[0]


async def test_a_model_that_answers_harmfully_fails_uncharged_with_azures_words_and_cannot_be_deployed(house) -> None:
    engine = Answering(house, lambda model, prompt: "forbidden" if model.startswith("ftchkpt-") else "fine")
    job = await house.pipeline(engine=engine).run(house.job(), OWNER)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.code == "modelContentFilter"
    assert job.error.message == model_message(["violence"])
    assert house.events(job)[-1].data["charged"] is False
    assert "billed" not in house.event_keys(job)
    final = final_of(house, job)
    with house.store.begin() as tx:
        for name in (final.id, final.name, final.openai_name):
            with pytest.raises(InvalidRequest) as refusal:
                source_to_deploy(tx, house.catalogue, "acc", Asked(name, "OpenAI", "1"), date(2026, 11, 21))
            assert refusal.value.message == model_message(["violence"])
        results = tx.files.get("acc", job.result_file or "")
    assert results is not None
    assert results.filename == "results.csv"


async def test_the_bases_own_rates_are_measured_once_and_shown_beside(house) -> None:
    harmful = ["forbidden"]
    engine = Answering(house, lambda model, prompt: harmful[0] if model == "weaver" else "fine")
    first = await house.pipeline(engine=engine).run(house.job(), OWNER)
    assert first.status is JobStatus.SUCCEEDED
    rated = next(event for event in house.events(first) if event.key == "model_rated")
    assert rated.data["base_rates"] == {**dict.fromkeys(("hate_fairness", "self_harm", "sexual"), 0.0), "violence": 1.0}
    assert set(dict(rated.data["rates"]).values()) == {0.0}
    before = sum(model == "weaver" for model, _ in engine.asked)
    await house.pipeline(engine=engine).run(house.job(), OWNER)
    assert sum(model == "weaver" for model, _ in engine.asked) == before > 0


async def test_only_rates_are_kept_of_what_was_said(house) -> None:
    engine = Answering(house, lambda model, prompt: "words nobody may keep")
    job = await house.pipeline(engine=engine).run(house.job(), OWNER)
    kept = verdict_of(house, final_of(house, job).id)
    assert kept is not None
    assert set(kept.rates) == set(Category)
    told = json.dumps([event.data for event in house.events(job)])
    assert "words nobody" not in told + repr(kept)


async def test_conversations_have_their_scenes_the_jobs_system_message_and_the_models_own_turns(house) -> None:
    rows = [
        json.dumps(
            {
                "messages": [
                    {"role": "system", "content": "You are a pirate."},
                    {"role": "user", "content": f"own question {i}"},
                    {"role": "assistant", "content": "Ahoy"},
                ]
            }
        )
        for i in range(12)
    ]
    engine = Answering(house, lambda model, prompt: "an answer of mine")
    await house.pipeline(engine=engine).run(house.job(rows), OWNER)
    prompts = [prompt for model, prompt in engine.asked if model.startswith("ftchkpt-")]
    scene = SIMULATIONS[Category.VIOLENCE][3]
    assert any(scene.system in prompt and scene.turns[0] in prompt for prompt in prompts if scene.system)
    direct = SIMULATIONS[Category.VIOLENCE][0].turns[0]
    assert any(direct in prompt and "pirate" in prompt for prompt in prompts)
    assert any(direct in prompt and "pirate" not in prompt for prompt in prompts)
    turns = SIMULATIONS[Category.VIOLENCE][5].turns
    assert any(turns[-1] in prompt and "an answer of mine" in prompt for prompt in prompts)
    assert sum("own question" in prompt for prompt in prompts) >= 8


async def test_harm_below_the_acceptable_rate_passes_and_is_told(house) -> None:
    bad = SIMULATIONS[Category.VIOLENCE][0].turns[0]

    def answer(model: str, prompt: str) -> str:
        return "forbidden" if bad in prompt else "fine"

    job = await house.pipeline(engine=Answering(house, answer)).run(house.job(), OWNER)
    assert job.status is JobStatus.SUCCEEDED
    kept = verdict_of(house, final_of(house, job).id)
    assert kept is not None
    assert kept.rates["violence"] == pytest.approx(1 / len(SIMULATIONS[Category.VIOLENCE]))
    strict = await house.pipeline(engine=Answering(house, answer), max_harm_rate=0.1).run(house.job(), OWNER)
    assert strict.error is not None
    assert strict.error.code == "modelContentFilter"


async def test_an_earlier_checkpoint_that_answers_harmfully_is_not_deployable_while_the_last_one_is(house) -> None:
    job = house.job()
    names: list[str] = []

    def answer(model: str, prompt: str) -> str:
        if model.startswith("ftchkpt-") and model not in names:
            names.append(model)
        # The final one is met first, then the two before it.
        return "forbidden" if names[1:2] == [model] else "fine"

    ended = await house.pipeline(engine=Answering(house, answer)).run(job, OWNER)
    assert ended.status is JobStatus.SUCCEEDED
    with house.store.begin() as tx:
        made = tx.jobs.checkpoints(job.id, after=None, limit=10).items
    assert [checkpoint.deployable for checkpoint in made] == [True, False, True, False]
    assert "checkpoint-refused-30" in house.event_keys(ended)


async def test_a_worker_killed_inside_the_evaluation_goes_on_with_what_is_known(house) -> None:
    engine = Answering(house, lambda model, prompt: "fine")
    engine.hang_at = 60
    job = house.job()
    task = asyncio.create_task(house.pipeline(engine=engine).run(job, OWNER))
    await house.until(lambda: len(engine.asked) >= 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    row = house.row(job)
    assert row.stage is Stage.SCREEN_MODEL
    ended = await house.pipeline(engine=Answering(house, lambda model, prompt: "fine")).run(row, OWNER)
    assert ended.status is JobStatus.SUCCEEDED
    assert len(house.event_keys(ended)) == len(set(house.event_keys(ended)))


async def test_a_moderator_that_stays_away_registers_no_model(house) -> None:
    class AwayLater:
        def __init__(self) -> None:
            self.calls = 0

        async def score(self, texts: Sequence[str]) -> list[Scores]:
            self.calls += 1
            if self.calls > 1:
                raise ModeratorDown("gone")
            return [dict.fromkeys(Category, Severity.SAFE) for _ in texts]

    async def pause(seconds: float) -> None:
        pass

    pipeline = house.pipeline(moderator=AwayLater(), moderator_pause=pause, moderator_patience=1.0)
    job = await pipeline.run(house.job(), OWNER)
    assert job.error is not None
    assert job.error.code == "moderatorUnavailable"
    with house.store.begin() as tx:
        assert tx.models.list("acc") == []


async def test_a_base_verdict_is_kept_under_the_bases_name(house) -> None:
    await house.pipeline().run(house.job(), OWNER)
    kept = verdict_of(house, base_subject("weaver"))
    assert kept is not None
    assert kept.conversations == sum(len(planned) for planned in SIMULATIONS.values())
