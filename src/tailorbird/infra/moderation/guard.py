"""Guard models on an engine: Llama Guard's list of violated categories, ShieldGemma's probability of a Yes.

Formats: the model cards of meta-llama/Llama-Guard-3-8B and google/shieldgemma-2b.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence
from typing import Protocol

from tailorbird.domain.safety import Category, Scores, Severity
from tailorbird.infra.moderation.endpoint import severity_of
from tailorbird.protocol.generation import Generation, GenerationRequest
from tailorbird.service.ports import AdapterUnknown, Engine, EngineDown, EngineRefused, ModeratorDown

FORMATS = ("llama-guard", "shieldgemma")
_AT_ONCE = 16
_LONGEST = 8000
"""Characters of one text that are shown to a guard; a longer one is judged in pieces."""

_HAZARDS = (
    "Violent Crimes", "Non-Violent Crimes", "Sex Crimes", "Child Exploitation", "Defamation", "Specialized Advice",
    "Privacy", "Intellectual Property", "Indiscriminate Weapons", "Hate", "Self-Harm", "Sexual Content", "Elections",
    "Code Interpreter Abuse",
)  # fmt: skip
_HAZARD_OF = {
    "S1": Category.VIOLENCE, "S3": Category.SEXUAL, "S4": Category.SEXUAL, "S9": Category.VIOLENCE,
    "S10": Category.HATE_FAIRNESS, "S11": Category.SELF_HARM, "S12": Category.SEXUAL,
}  # fmt: skip

_PRINCIPLES = {
    Category.HATE_FAIRNESS: '"No Hate Speech": The prompt shall not contain or seek generation of content that attacks '
    "or demeans people because of their origin, religion, sex, sexual orientation, disability or age, or that calls "
    "for excluding or harming them.",
    Category.SELF_HARM: '"No Self-Harm": The prompt shall not contain or seek generation of content that states the '
    "intent to hurt or kill oneself, or that encourages or instructs anybody to do so.",
    Category.SEXUAL: '"No Sexually Explicit Information": The prompt shall not contain or seek generation of content '
    "that contains references to sexual acts or is meant to arouse. Medical and educational content is allowed.",
    Category.VIOLENCE: '"No Violence": The prompt shall not contain or seek generation of content that threatens, '
    "encourages or instructs violence against people.",
}
# What would end a text's place in the prompt is broken up.
_MARKS = re.compile(r"<(?=\|)|<(?=(?:start|end)_of_turn>)|<(?=/?(?:BEGIN|END) )|<(?=bos>|eos>)")


class Encoder(Protocol):
    """The guard's tokenizer."""

    def encode_completion_prompt(self, text: str) -> list[int]:
        """Special tokens in the text count as such."""
        ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


class GuardModerator:
    """`model` is the guard's name in its engine."""

    def __init__(self, engine: Engine, encoder: Encoder, model: str, form: str) -> None:
        if form not in FORMATS:
            raise ValueError(f"{form!r} is not a guard's format; formats are {', '.join(FORMATS)}")
        self._engine = engine
        self._encoder = encoder
        self._model = model
        self._judge = self._by_list if form == "llama-guard" else self._by_yes

    async def score(self, texts: Sequence[str]) -> list[Scores]:
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(text: str) -> Scores:
            pieces = [text[at : at + _LONGEST] for at in range(0, max(1, len(text)), _LONGEST)]
            async with limit:
                judged = [await self._judge(_MARKS.sub("< ", piece)) for piece in pieces]
            return {category: max(scores[category] for scores in judged) for category in Category}

        return list(await asyncio.gather(*(one(text) for text in texts)))

    async def _by_list(self, text: str) -> Scores:
        said = (await self._ask(llama_guard_prompt(text), 24, None)).choices[0].text.strip()
        return read_list(said)

    async def _by_yes(self, text: str) -> Scores:
        found: Scores = {}
        for category, principle in _PRINCIPLES.items():
            answer = await self._ask(shieldgemma_prompt(text, principle), 1, 20)
            found[category] = severity_of(self._probability_of_yes(answer))
        return found

    def _probability_of_yes(self, answer: Generation) -> float:
        """Of Yes against No; raises ModeratorDown when neither is among the likeliest tokens."""
        first = (answer.choices[0].logprobs or [None])[0]
        weights = {"yes": 0.0, "no": 0.0}
        drawn = [] if first is None else [(first.token_id, first.logprob)]
        for token, logprob in {*drawn, *((other.token_id, other.logprob) for other in (first.top if first else []))}:
            word = self._encoder.decode([token]).strip().lower()
            if word in weights:
                weights[word] += math.exp(logprob)
        if sum(weights.values()) == 0.0:
            raise ModeratorDown("the guard model answers neither Yes nor No; is its format shieldgemma?")
        return weights["yes"] / sum(weights.values())

    async def _ask(self, prompt: str, tokens: int, top_logprobs: int | None) -> Generation:
        request = GenerationRequest(
            model=self._model,
            prompt=self._encoder.encode_completion_prompt(prompt),
            max_tokens=tokens,
            temperature=0.0,
            top_logprobs=top_logprobs,
        )
        try:
            return await self._engine.complete(request)
        except (EngineDown, EngineRefused, AdapterUnknown) as error:
            raise ModeratorDown(f"the guard model does not answer: {error}") from error


def llama_guard_prompt(text: str) -> str:
    """One message as a user's, to Llama Guard 3."""
    hazards = "\n".join(f"S{number}: {name}." for number, name in enumerate(_HAZARDS, start=1))
    return (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
        "Task: Check if there is unsafe content in 'User' messages in conversations according our safety policy with "
        "the below categories.\n\n"
        f"<BEGIN UNSAFE CONTENT CATEGORIES>\n\n{hazards}\n\n<END UNSAFE CONTENT CATEGORIES>\n\n"
        f"<BEGIN CONVERSATION>\n\nUser: {text}\n\n<END CONVERSATION>\n\n"
        "Provide your safety assessment for ONLY THE LAST User message in the above conversation:\n"
        " - First line must read 'safe' or 'unsafe'.\n"
        " - If unsafe, a second line must include a comma-separated list of violated categories."
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def read_list(said: str) -> Scores:
    """`safe`, or `unsafe` and the categories. It knows no degrees: unsafe is high. Raises ModeratorDown.

    Hazards that are no category of ours (privacy, elections, …) find nothing."""
    verdict, _, rest = said.partition("\n")
    found = dict.fromkeys(Category, Severity.SAFE)
    if verdict.strip().lower() == "safe":
        return found
    names = [name.strip().upper() for name in rest.split(",") if name.strip()]
    if verdict.strip().lower() != "unsafe" or not names:
        raise ModeratorDown(f"the guard model answered {said[:60]!r}; is its format llama-guard?")
    return found | {_HAZARD_OF[name]: Severity.HIGH for name in names if name in _HAZARD_OF}


def shieldgemma_prompt(text: str, principle: str) -> str:
    """One message and one principle, to ShieldGemma."""
    return (
        "<bos>You are a policy expert trying to help determine whether a user prompt is in violation of the defined "
        f"safety policies.\n\n<start_of_turn>\nHuman Question: {text.strip()}\n<end_of_turn>\n\n"
        f"Our safety principle is defined in the below:\n\n* {principle}\n\n"
        "Does the human question violate the above principle? Your answer must start with 'Yes' or 'No'. And then walk "
        "through step by step to be sure we answer correctly.\n\n"
    )
