"""One line of a training file as a model learns it: its turns, their tokens, and which of them are learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tailorbird.dataset.records import ChatExample, CompletionExample, Message, Record
from tailorbird.dataset.render import Rendered, Renderer, RenderError
from tailorbird.dataset.validate import Problem
from tailorbird.domain.models import CatalogueEntry


@dataclass(frozen=True, slots=True)
class Reading:
    """Whose eyes a file is seen with."""

    entry: CatalogueEntry
    renderer: Renderer
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Turn:
    """`tokens` are those of its own text; `learned` those the model learns to write here, with the end of the turn.

    `learned` is None where a trained turn's share of its conversation cannot be told."""

    message: Message
    tokens: int
    trained: bool
    learned: int | None


@dataclass(frozen=True, slots=True)
class Side:
    """One sequence: `tokens` of it, template and all, of which `learned` are learned. A line that cannot be rendered
    has None for both."""

    turns: tuple[Turn, ...]
    tokens: int | None = None
    learned: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """Line `number` (from 1) of a file; without a record it has problems. A preference pair has two sides."""

    number: int
    record: Record | None
    sides: tuple[Side, ...]
    problems: tuple[Problem, ...]


def kind_of(record: Record) -> str:
    """chat, completion or preference, as a file's kind is called."""
    if isinstance(record, CompletionExample):
        return "completion"
    return "chat" if isinstance(record, ChatExample) else "preference"


def read_line(number: int, items: list[tuple[int, Record] | Problem], reading: Reading) -> Line:
    """`items` is what reading the line brought: its record, or its problems."""
    record = next((item[1] for item in items if isinstance(item, tuple)), None)
    problems = [item for item in items if isinstance(item, Problem)]
    if record is None:
        return Line(number, None, (), tuple(problems))
    try:
        rendered = reading.renderer.render_record(record)
    except RenderError as error:
        return Line(number, record, _sides(record, reading.renderer, None), (Problem(number, None, str(error)),))
    longest = max(len(one.token_ids) for one in rendered)
    if longest > reading.max_tokens:
        text = f"{longest} tokens; {reading.entry.name} takes at most {reading.max_tokens}. Shorten it."
        problems.append(Problem(number, None, text))
    return Line(number, record, _sides(record, reading.renderer, rendered), tuple(problems))


def _sides(record: Record, renderer: Renderer, rendered: Sequence[Rendered] | None) -> tuple[Side, ...]:
    conversations = _conversations(record)
    if rendered is None:
        return tuple(Side(_turns(messages, renderer, None)) for messages in conversations)
    return tuple(
        Side(_turns(messages, renderer, one), len(one.token_ids), learned_of(one))
        for messages, one in zip(conversations, rendered, strict=True)
    )


def _conversations(record: Record) -> tuple[tuple[Message, ...], ...]:
    """A text with its completion as two turns of roles of their own; a pair as its two conversations."""
    if isinstance(record, CompletionExample):
        return ((Message("prompt", record.prompt, weight=0), Message("completion", record.completion)),)
    if isinstance(record, ChatExample):
        return (record.messages,)
    preferred, other = record.conversations()
    return (preferred.messages, other.messages)


def _turns(messages: tuple[Message, ...], renderer: Renderer, rendered: Rendered | None) -> tuple[Turn, ...]:
    trained = [bool(one.weight) and one.role in ("assistant", "completion") for one in messages]
    shares = None if rendered is None else _shares(rendered, renderer, sum(trained))
    turns: list[Turn] = []
    for message, is_trained in zip(messages, trained, strict=True):
        share = 0 if not is_trained else None if shares is None else shares.pop(0)
        turns.append(Turn(message, len(renderer.encode(message.content or "")), is_trained, share))
    return tuple(turns)


def learned_of(rendered: Rendered) -> int:
    """How many of its tokens the model learns to write."""
    return sum(weight > 0 for weight in rendered.weights)


def _shares(rendered: Rendered, renderer: Renderer, turns: int) -> list[int] | None:
    """How many tokens each trained turn teaches; None when runs of tokens and turns do not pair up.

    A trained turn is a run of weighted tokens that ends with its end-of-turn token, of which no turn has two."""
    ends = set(renderer.stop_token_ids)
    runs: list[int] = []
    open_run = False
    for token, weight in zip(rendered.token_ids, rendered.weights, strict=True):
        if weight > 0:
            if not open_run:
                runs.append(0)
            runs[-1] += 1
        open_run = weight > 0 and token not in ends
    return runs if len(runs) == turns else None
