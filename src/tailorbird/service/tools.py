"""Tool calls of a chat request: what the engine is held to, and how its answer is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tailorbird.dataset.answers import CallReader, Piece, SpelledText
from tailorbird.dataset.calls import CallFormat, ToolCall, learn_calls
from tailorbird.dataset.render import Renderer, RenderError
from tailorbird.domain.errors import InvalidRequest
from tailorbird.protocol.generation import FinishReason as EngineReason
from tailorbird.protocol.generation import Structure
from tailorbird.service.answers import CallDelta, FinishReason, MadeCall, ToolChoice

_ID_DIGITS = 24


@dataclass(frozen=True, slots=True)
class ToolPlan:
    """`structure` holds the engine to the tools' format; None leaves the model free to write what it wants."""

    form: CallFormat
    choice: ToolChoice
    structure: Structure | None

    def reading(
        self, renderer: Renderer, prompt: Sequence[int], stop: Sequence[str], new_hex: Callable[[], str]
    ) -> Reading:
        """How one answer to `prompt` is read."""
        forced = self.choice.mode == "required"
        checked = self.structure is not None
        reader = CallReader(self.form, self.choice.names, forced=forced, checked=checked, many=self.choice.many)
        marks = self.form.hidden
        return Reading(reader, SpelledText(renderer, prompt, marks, stop) if marks else None, new_hex)


@dataclass(slots=True)
class Reading:
    """Turns one answer, as it comes, into content and calls. Without `spelled` the engine's text is the whole text."""

    reader: CallReader
    spelled: SpelledText | None
    new_hex: Callable[[], str]

    def push(self, text: str, token_ids: Sequence[int]) -> tuple[str, list[CallDelta]]:
        return self._read(self.reader.push(text if self.spelled is None else self.spelled.push(token_ids)))

    def finish(self) -> tuple[str, list[CallDelta]]:
        rest = [] if self.spelled is None else self.reader.push(self.spelled.finish())
        return self._read([*rest, *self.reader.finish()])

    def reason(self, given: EngineReason) -> FinishReason:
        return "tool_calls" if given == "stop" and self.reader.calls else given

    def _read(self, pieces: list[Piece]) -> tuple[str, list[CallDelta]]:
        content = "".join(piece.text for piece in pieces if piece.call is None)
        return content, [self._delta(piece.call, piece) for piece in pieces if piece.call is not None]

    def _delta(self, index: int, piece: Piece) -> CallDelta:
        if piece.name is None:
            return CallDelta(index, piece.text)
        return CallDelta(index, id=f"call_{self.new_hex()[:_ID_DIGITS]}", name=piece.name)


@dataclass(slots=True)
class CallParts:
    """Puts the deltas of one answer's calls together."""

    _calls: dict[int, tuple[str, str, list[str]]] = field(default_factory=dict[int, tuple[str, str, list[str]]])

    def add(self, deltas: Sequence[CallDelta]) -> None:
        for delta in deltas:
            call = self._calls.setdefault(delta.index, (delta.id or "", delta.name or "", []))
            call[2].append(delta.arguments)

    def made(self) -> list[MadeCall]:
        return [MadeCall(call_id, ToolCall(name, "".join(parts))) for call_id, name, parts in self._calls.values()]


def plan_tools(
    renderer: Renderer, forms: dict[str, CallFormat], choice: ToolChoice, answer: Structure | None, model: str
) -> ToolPlan:
    """`answer` is what an answer without calls must look like. `forms` keeps what was learned of each template.

    Raises InvalidRequest when the model's template has no way to show tools."""
    form = forms.get(renderer.template_hash)
    if form is None:
        try:
            form = forms[renderer.template_hash] = learn_calls(renderer)
        except RenderError as error:
            raise InvalidRequest(
                f"The model '{model}' cannot be given tools: {error}. Leave out '{choice.param}', or choose another "
                "model.",
                param=choice.param,
            ) from error
    return ToolPlan(form, choice, _structure(form, choice, answer))


def _structure(form: CallFormat, choice: ToolChoice, answer: Structure | None) -> Structure | None:
    required = choice.mode == "required"
    if not required and answer is None and not choice.checked:
        return None
    otherwise = None if required else "" if answer is None else answer.value or json.dumps({"type": "object"})
    return Structure("grammar", form.grammar(choice.callable, many=choice.many, otherwise=otherwise))
