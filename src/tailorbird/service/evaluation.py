"""Evaluates a model: simulated conversations with it, its answers scored. Rates leave this module, answers never do."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tailorbird.dataset.records import ChatExample, CompletionExample, Message, Record
from tailorbird.dataset.render import Renderer, RenderError
from tailorbird.dataset.validate import read_records
from tailorbird.domain.safety import Category, Thresholds, Verdict
from tailorbird.protocol.generation import Generation, GenerationRequest
from tailorbird.service.patience import PatientModerator
from tailorbird.service.ports import Clock
from tailorbird.service.simulations import SET_VERSION, SIMULATIONS, Conversation

_ANSWER_TOKENS = 48
_AT_ONCE = 8
_OWN_PROMPTS = 8

Ask = Callable[[GenerationRequest], Awaitable[Generation]]


@dataclass(frozen=True, slots=True)
class Given:
    """What a job's training file brings to the evaluation: its system message, the first of its own prompts.

    `completions`: the model goes on from plain prompts, it does not chat.
    """

    system: str | None = None
    prompts: tuple[Record, ...] = ()
    completions: bool = False


def given_by(training_file: Path) -> Given:
    """Of a file that was judged good."""
    system, prompts, completions = None, list[Record](), False
    with training_file.open("rb") as source:
        for item in read_records(iter(lambda: source.read(1 << 20), b"")):
            if not isinstance(item, tuple):
                continue
            record = item[1]
            if isinstance(record, CompletionExample):
                completions = True
            elif system is None:
                system = next((m.content for m in record.messages if m.role in ("system", "developer")), None)
            prompts.append(record)
            if len(prompts) == _OWN_PROMPTS:
                break
    return Given(system, tuple(prompts), completions)


class Evaluator:
    """`max_rate`: a category whose share of harmful conversations is above it makes a model harmful.

    `moderated_by` says which moderator, so that verdicts of another are measured anew."""

    def __init__(
        self, moderator: PatientModerator, thresholds: Thresholds, max_rate: float, moderated_by: str, clock: Clock
    ) -> None:
        self._moderator = moderator
        self._thresholds = thresholds
        self._max_rate = max_rate
        self._moderated_by = moderated_by
        self._clock = clock

    def set_version(self, given: Given) -> str:
        """The version of the simulations and a digest of everything else the rates depend on."""
        facts = [self._moderated_by, self._max_rate, sorted(self._thresholds.levels.items()), given]
        return f"{SET_VERSION}+{hashlib.sha256(repr(facts).encode()).hexdigest()[:8]}"

    async def evaluate(
        self, ask: Ask, subject: str, model: str, renderer: Renderer, context: int, given: Given
    ) -> Verdict:
        """`model` is its name in the engine, `context` what prompt and answer may hold together.

        Raises ModeratorDown and what `ask` raises."""
        talker = _Talker(ask, model, renderer, context, given.completions)
        limit = asyncio.Semaphore(_AT_ONCE)

        async def met(conversation: Conversation, system: str | None) -> list[str]:
            async with limit:
                return await talker.talk(conversation, system)

        async def own(record: Record) -> list[str]:
            async with limit:
                return await talker.go_on(record)

        planned = [(category, one, system) for category in Category for one, system in _planned(category, given)]
        tasks = [asyncio.ensure_future(met(one, system)) for _, one, system in planned]
        tasks += [asyncio.ensure_future(own(record)) for record in given.prompts]
        try:
            answers = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        harms = await self._harms(answers)
        rates = _rates([category for category, _, _ in planned], harms)
        return Verdict(
            subject=subject,
            set_version=self.set_version(given),
            rates={category.value: rates[category] for category in Category},
            harms=tuple(category.value for category in Category if rates[category] > self._max_rate),
            conversations=len(answers),
            measured_at=self._clock.now(),
        )

    async def _harms(self, conversations: Sequence[list[str]]) -> list[frozenset[Category]]:
        """The categories of each conversation's answers."""
        texts = [answer for answers in conversations for answer in answers if answer.strip()]
        scored = iter(await self._moderator.score(texts) if texts else [])
        return [
            frozenset[Category]().union(*(self._thresholds.harms(next(scored)) for answer in answers if answer.strip()))
            for answers in conversations
        ]


class _Talker:
    """Holds conversations with one model, greedily."""

    def __init__(self, ask: Ask, model: str, renderer: Renderer, context: int, completions: bool) -> None:
        self._ask = ask
        self._model = model
        self._renderer = renderer
        self._context = context
        self._completions = completions

    async def talk(self, conversation: Conversation, system: str | None) -> list[str]:
        """Its answers, one a turn."""
        messages: list[dict[str, object]] = [] if system is None else [{"role": "system", "content": system}]
        answers: list[str] = []
        for turn in conversation.turns:
            messages.append({"role": "user", "content": turn})
            answers.append(await self._answer(self._prompt(messages)))
            messages.append({"role": "assistant", "content": answers[-1]})
        return answers

    async def go_on(self, record: Record) -> list[str]:
        """Its answer to a prompt of the training file."""
        if isinstance(record, CompletionExample):
            return [await self._answer(self._renderer.encode_completion_prompt(record.prompt))]
        asked = [message.to_template() for message in _before_answer(record)]
        if not asked:
            return []
        prompt = self._renderer.render_chat(asked, tools=record.tools, add_generation_prompt=True)
        return [await self._answer(prompt)]

    async def _answer(self, prompt: list[int]) -> str:
        # A prompt that fills the context leaves no room for an answer; what stands last in it counts most.
        prompt = prompt[-(self._context - _ANSWER_TOKENS) :]
        request = GenerationRequest(
            model=self._model,
            prompt=prompt,
            max_tokens=_ANSWER_TOKENS,
            temperature=0.0,
            stop_token_ids=list(self._renderer.stop_token_ids),
        )
        return (await self._ask(request)).choices[0].text

    def _prompt(self, messages: list[dict[str, object]]) -> list[int]:
        if self._completions:
            return self._renderer.encode_completion_prompt("\n".join(str(m["content"]) for m in messages) + "\n")
        try:
            return self._renderer.render_chat(messages, add_generation_prompt=True)
        except RenderError:
            # Some templates know no system message.
            first, *rest = messages
            if first["role"] != "system" or not rest:
                raise
            merged = {**rest[0], "content": f"{first['content']}\n\n{rest[0]['content']}"}
            return self._renderer.render_chat([merged, *rest[1:]], add_generation_prompt=True)


def _planned(category: Category, given: Given) -> Iterator[tuple[Conversation, str | None]]:
    """Each conversation in its own scene, and, where there is none, also in the job's."""
    for conversation in SIMULATIONS[category]:
        yield conversation, conversation.system
        if conversation.system is None and given.system is not None:
            yield conversation, given.system


def _rates(planned: Sequence[Category], harms: Sequence[frozenset[Category]]) -> dict[Category, float]:
    """Of each category the largest share: in its own conversations, in all of them, in the job's own prompts."""
    simulated, own = harms[: len(planned)], harms[len(planned) :]

    def share(category: Category, of: Sequence[frozenset[Category]]) -> float:
        return sum(category in found for found in of) / len(of) if of else 0.0

    return {
        category: max(
            share(category, [found for meant, found in zip(planned, simulated, strict=True) if meant is category]),
            share(category, simulated),
            share(category, own),
        )
        for category in Category
    }


def _before_answer(record: Record) -> tuple[Message, ...]:
    """The conversation up to the first answer."""
    if not isinstance(record, ChatExample):
        return () if isinstance(record, CompletionExample) else record.messages
    end = next(place for place, message in enumerate(record.messages) if message.role == "assistant")
    return record.messages[:end]
