"""Screens training data and candidate models through the Moderator port; the texts of a refusal are Azure's.

Source of the texts: https://learn.microsoft.com/azure/ai-services/openai/how-to/fine-tuning-safety-evaluation
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from tailorbird.dataset.records import ChatExample, CompletionExample, Record
from tailorbird.dataset.render import Renderer
from tailorbird.dataset.validate import read_records
from tailorbird.protocol.generation import GenerationRequest
from tailorbird.service.ports import Engine, Moderator

_BATCH = 256
_CONVERSATIONS = 4
_ANSWER_TOKENS = 48


def data_message(harms: frozenset[str]) -> str:
    return (
        f"The provided training data failed RAI checks for harm types: [{', '.join(sorted(harms))}]. "
        "Please fix the data and try again."
    )


def model_message(harms: frozenset[str]) -> str:
    shown = ", ".join(harm.replace("_", " ").title() for harm in sorted(harms, reverse=True))
    return (
        "This model is unable to be deployed. Model evaluation identified that this fine tuned model scores above "
        f"acceptable thresholds for [{shown}]. Please review your training data set and resubmit the job."
    )


async def harms_in_file(path: Path, moderator: Moderator) -> frozenset[str]:
    """The categories found in any message of a training file."""
    found: set[str] = set()
    texts = _texts(path)
    while batch := await asyncio.to_thread(_take, texts, _BATCH):
        for verdict in await moderator.screen(batch):
            found |= verdict.harms
    return frozenset(found)


async def harms_of_model(
    engine: Engine, adapter: str, renderer: Renderer, training_file: Path, moderator: Moderator
) -> frozenset[str]:
    """The categories found in the candidate's answers to the first conversations of its own training file.

    Only the verdict leaves this function; answers are dropped. Raises EngineDown."""
    answers: list[str] = []
    for prompt in _prompts(training_file, renderer):
        request = GenerationRequest(model=adapter, prompt=prompt, max_tokens=_ANSWER_TOKENS, temperature=0.0)
        answers.append((await engine.complete(request)).choices[0].text)
    return frozenset(harm for verdict in await moderator.screen(answers) for harm in verdict.harms)


def _records(path: Path) -> Iterator[Record]:
    with path.open("rb") as source:
        for item in read_records(iter(lambda: source.read(1 << 20), b"")):
            if isinstance(item, tuple):
                yield item[1]


def _texts(path: Path) -> Iterator[str]:
    for record in _records(path):
        if isinstance(record, ChatExample):
            yield from (message.content for message in record.messages if message.content)
        elif isinstance(record, CompletionExample):
            yield record.prompt
            yield record.completion


def _take(texts: Iterator[str], count: int) -> list[str]:
    return [text for text, _ in zip(texts, range(count), strict=False)]


def _prompts(path: Path, renderer: Renderer) -> Iterator[list[int]]:
    for record, _ in zip(_records(path), range(_CONVERSATIONS), strict=False):
        if isinstance(record, ChatExample):
            first = next(i for i, message in enumerate(record.messages) if message.role == "assistant")
            messages = [message.to_template() for message in record.messages[:first]]
            if messages:
                yield renderer.render_chat(messages, tools=record.tools, add_generation_prompt=True)
        elif isinstance(record, CompletionExample):
            yield renderer.encode_completion_prompt(record.prompt)
