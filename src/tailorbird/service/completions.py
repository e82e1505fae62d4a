"""Chat completions that were stored: kept, listed, described, deleted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tailorbird.dataset.calls import ToolCall
from tailorbird.domain.completions import StoredCompletion
from tailorbird.domain.errors import NotFound
from tailorbird.service.answers import Answer, Choice, Delta, FinishReason, Head, Keep, MadeCall, TokenScore, Usage
from tailorbird.service.ports import Order, Page, Store
from tailorbird.service.tools import CallParts

ID_PREFIX = "chatcmpl-"


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message of the conversation that was asked, as it was sent."""

    id: str
    message: Mapping[str, Any]


class StoredCompletions:
    def __init__(self, store: Store) -> None:
        self._store = store

    def keep(self, account_id: str, keep: Keep, deployment: str | None, answer: Answer) -> None:
        """Stores an answer with what was asked."""
        head = answer.head
        kept = StoredCompletion(
            id=f"{ID_PREFIX}{head.id}",
            account_id=account_id,
            created_at=head.created_at,
            model=head.model,
            deployment=deployment,
            request=keep.request,
            answer={
                "choices": [_choice_to_json(choice) for choice in answer.choices],
                "usage": {"prompt": answer.usage.prompt_tokens, "completion": answer.usage.completion_tokens},
                "fingerprint": head.fingerprint,
            },
            metadata=keep.metadata,
        )
        with self._store.begin() as tx:
            tx.completions.add(kept)

    def list(
        self,
        account_id: str,
        *,
        model: str | None,
        metadata: Mapping[str, str],
        after: str | None,
        limit: int,
        order: Order,
    ) -> Page[StoredCompletion]:
        with self._store.begin() as tx:
            return tx.completions.list(
                account_id, model=model, metadata=metadata, after=after, limit=limit, order=order
            )

    def get(self, account_id: str, completion_id: str) -> StoredCompletion:
        """Raises NotFound."""
        with self._store.begin() as tx:
            found = tx.completions.get(account_id, completion_id)
        if found is None:
            raise _not_found(completion_id)
        return found

    def describe(self, account_id: str, completion_id: str, metadata: dict[str, str]) -> StoredCompletion:
        """Replaces its metadata. Raises NotFound."""
        with self._store.begin() as tx:
            changed = tx.completions.set_metadata(account_id, completion_id, metadata)
            found = tx.completions.get(account_id, completion_id)
        if not changed or found is None:
            raise _not_found(completion_id)
        return found

    def delete(self, account_id: str, completion_id: str) -> None:
        """Raises NotFound."""
        with self._store.begin() as tx:
            if not tx.completions.delete(account_id, completion_id):
                raise _not_found(completion_id)

    def messages(
        self, account_id: str, completion_id: str, *, after: str | None, limit: int, order: Order
    ) -> Page[StoredMessage]:
        """The conversation that was asked, without its answer. Raises NotFound."""
        stored = self.get(account_id, completion_id)
        asked = [
            StoredMessage(f"{completion_id}-{number}", message)
            for number, message in enumerate(stored.request["messages"])
        ]
        if order == "desc":
            asked.reverse()
        if after is not None:
            place = next((n for n, message in enumerate(asked) if message.id == after), len(asked))
            asked = asked[place + 1 :]
        return Page(asked[:limit], has_more=len(asked) > limit)


def answer_of(stored: StoredCompletion) -> Answer:
    """The answer as it was given."""
    head = Head(stored.id.removeprefix(ID_PREFIX), stored.created_at, stored.model, stored.answer["fingerprint"])
    usage = stored.answer["usage"]
    choices = [_choice_from_json(raw) for raw in stored.answer["choices"]]
    return Answer(head, choices, Usage(usage["prompt"], usage["completion"]))


@dataclass(slots=True)
class Collected:
    """Puts a stream's deltas together into the answer they are."""

    _choices: dict[int, _Growing] = field(default_factory=dict[int, "_Growing"])

    def add(self, delta: Delta) -> None:
        growing = self._choices.setdefault(delta.index, _Growing())
        growing.text += delta.text
        growing.calls.add(delta.calls)
        growing.reason = delta.finish_reason or growing.reason
        if delta.scores is not None:
            growing.scores = [*(growing.scores or []), *delta.scores]

    def answer(self, head: Head, usage: Usage) -> Answer:
        choices = [
            Choice(index, growing.text, growing.reason, growing.scores, growing.calls.made())
            for index, growing in sorted(self._choices.items())
        ]
        return Answer(head, choices, usage)


@dataclass(slots=True)
class _Growing:
    text: str = ""
    reason: FinishReason = "stop"
    scores: list[TokenScore] | None = None
    calls: CallParts = field(default_factory=CallParts)


def _not_found(completion_id: str) -> NotFound:
    return NotFound(
        f"No stored chat completion '{completion_id}'. Only those asked for with 'store': true are kept.",
        param="completion_id",
    )


# --- an answer as JSON and back ---------------------------------------------------------------------------------------


def _choice_to_json(choice: Choice) -> dict[str, Any]:
    return {
        "index": choice.index,
        "text": choice.text,
        "finish_reason": choice.finish_reason,
        "scores": None if choice.scores is None else [_score_to_json(score) for score in choice.scores],
        "calls": [{"id": made.id, "name": made.call.name, "arguments": made.call.arguments} for made in choice.calls],
    }


def _choice_from_json(raw: Mapping[str, Any]) -> Choice:
    return Choice(
        raw["index"],
        raw["text"],
        raw["finish_reason"],
        None if raw["scores"] is None else [_score_from_json(score) for score in raw["scores"]],
        [MadeCall(call["id"], ToolCall(call["name"], call["arguments"])) for call in raw["calls"]],
    )


def _score_to_json(score: TokenScore) -> dict[str, Any]:
    top = [_score_to_json(other) for other in score.top]
    return {"text": score.text, "bytes": score.raw.hex(), "logprob": score.logprob, "top": top}


def _score_from_json(raw: Mapping[str, Any]) -> TokenScore:
    top = [_score_from_json(other) for other in raw["top"]]
    return TokenScore(raw["text"], bytes.fromhex(raw["bytes"]), raw["logprob"], top)
