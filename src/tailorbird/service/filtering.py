"""The content filter: prompts before they are answered, answers before they leave; plain ones and streams.

On for every deployment of an account that has turned it on, and for a deployment that names a content filter
(`raiPolicyName`) unless its account has turned the filter off.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from tailorbird.dataset.records import parse_messages
from tailorbird.domain.deployments import Deployment
from tailorbird.domain.errors import ContentFiltered, Unavailable
from tailorbird.domain.safety import Category, Filtered, Scores, Severity, Thresholds
from tailorbird.service.answers import Answer, AnswerStream, Choice, Delta, Usage
from tailorbird.service.ports import Moderator, ModeratorDown, Store
from tailorbird.service.screening import texts_of_arguments, texts_of_message

SETTING = "content_filter"
ON, OFF = "on", "off"
REFUSED_PROMPT = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify "
    "your prompt and retry. To learn more about our content filtering policies please read our documentation: "
    "https://go.microsoft.com/fwlink/?linkid=2198766"
)
_WINDOW = 160
"""Characters of a stream that wait for their judgement together; a sentence's end lets them go earlier."""
_CONTEXT = 240
"""Characters that have left already and are judged again with the next ones."""
_SENTENCE_ENDS = (".", "!", "?", "\n", "。", "！", "？")


@dataclass(frozen=True, slots=True)
class Filter:
    """The filter as it works for one request. Thresholds are the operator's."""

    moderator: Moderator
    thresholds: Thresholds

    async def check_prompt(self, prompts: Sequence[Sequence[str]]) -> list[Filtered]:
        """What each prompt's texts were found to be. Raises ContentFiltered when one is harmful, Unavailable."""
        found = [await self.judge(texts) for texts in prompts]
        harmful = next((one for one in found if one.harms), None)
        if harmful is not None:
            raise ContentFiltered(REFUSED_PROMPT, harmful)
        return found

    async def answer(self, answer: Answer, prompts: list[Filtered]) -> Answer:
        """Harmful choices end with content_filter and say nothing. Raises Unavailable."""
        choices = [await self._choice(choice) for choice in answer.choices]
        return replace(answer, choices=choices, prompts=prompts)

    def stream(self, stream: AnswerStream, prompts: list[Filtered]) -> AnswerStream:
        """As `answer`; nothing leaves before it was judged together with what stands before it."""
        return replace(stream, parts=self._parts(stream), prompts=prompts)

    async def judge(self, texts: Sequence[str]) -> Filtered:
        """The worst of some texts. A moderator that is down lets nothing through: raises Unavailable."""
        said = [text for text in texts if text.strip()]
        try:
            scored = await self.moderator.score(said) if said else []
        except ModeratorDown as down:
            raise Unavailable("The content filter cannot be reached at the moment. Try again shortly.") from down
        if len(scored) != len(said):
            raise Unavailable("The content filter gave no answer at the moment. Try again shortly.")
        worst: Scores = {c: max((scores[c] for scores in scored), default=Severity.SAFE) for c in Category}
        return Filtered(worst, self.thresholds.harms(worst))

    async def _choice(self, choice: Choice) -> Choice:
        called = [text for made in choice.calls for text in texts_of_arguments(made.call.arguments)]
        found = await self.judge([choice.text, *called])
        if not found.harms:
            return replace(choice, filtered=found)
        return Choice(choice.index, "", "content_filter", filtered=found)

    async def _parts(self, stream: AnswerStream) -> AsyncGenerator[Delta | Usage, None]:
        waiting: dict[int, _Waiting] = {}
        async with aclosing(stream.parts) as parts:
            async for part in parts:
                if isinstance(part, Usage):
                    yield part
                    continue
                held = waiting.setdefault(part.index, _Waiting())
                held.take(part)
                if not held.due(part):
                    continue
                found = await self.judge(held.texts())
                if found.harms:
                    # What is drawn from here on is counted and not shown.
                    held.blocked = True
                    yield Delta(part.index, "", "content_filter", filtered=found)
                    continue
                for delta in held.release():
                    yield replace(delta, filtered=found)


@dataclass(slots=True)
class _Waiting:
    """The deltas of one choice that were not judged yet, and the end of its text that was."""

    held: list[Delta] = field(default_factory=list[Delta])
    before: str = ""
    blocked: bool = False
    arguments: dict[int, str] = field(default_factory=dict[int, str])

    def take(self, delta: Delta) -> None:
        if self.blocked:
            return
        self.held.append(delta)
        for call in delta.calls:
            self.arguments[call.index] = self.arguments.get(call.index, "") + call.arguments

    def due(self, last: Delta) -> bool:
        """Calls are judged whole, at the end: half a JSON text says little."""
        if self.blocked or not self.held:
            return False
        if last.finish_reason is not None:
            return True
        if any(delta.calls for delta in self.held):
            return False
        text = self._text()
        return len(text) >= _WINDOW or text.rstrip(" ").endswith(_SENTENCE_ENDS)

    def texts(self) -> list[str]:
        called = [text for arguments in self.arguments.values() for text in texts_of_arguments(arguments)]
        return [self.before + self._text(), *called]

    def release(self) -> list[Delta]:
        self.before = (self.before + self._text())[-_CONTEXT:]
        self.arguments.clear()
        released, self.held = self.held, []
        return released

    def _text(self) -> str:
        return "".join(delta.text for delta in self.held)


class ContentFilter:
    """Which requests are filtered."""

    def __init__(self, store: Store, moderator: Moderator, thresholds: Thresholds) -> None:
        self._store = store
        self._filter = Filter(moderator, thresholds)

    def of(self, account_id: str, deployment: Deployment | None) -> Filter | None:
        """None where nothing is filtered."""
        with self._store.begin() as tx:
            setting = tx.account_settings.get(account_id, SETTING)
        named = deployment is not None and deployment.rai_policy is not None
        return self._filter if setting == ON or (named and setting != OFF) else None


def texts_of_messages(messages: object) -> list[str]:
    """What a conversation says, tool calls included; nothing of one that is not well-formed."""
    parsed = parse_messages(messages)
    return [] if isinstance(parsed, list) else [text for message in parsed for text in texts_of_message(message)]
