"""A record through the chat template into token ids and loss weights; the only renderer there is

Token ids are those of transformers' `apply_chat_template` on the same folder. What an assistant turn teaches is what
the engine will be asked for: everything after the generation prompt of the messages before it, up to and including the
first end-of-turn token. So a turn's span is found by rendering that prompt:

    whole      <|user|> hi <|end|> <|assistant|> hello <|end|> <|user|> ...
    prompt     <|user|> hi <|end|> <|assistant|>
    trained                                      hello <|end|>

A template may rewrite earlier turns once later ones exist (dropped thinking, tools moved to the last user turn), and
then the prompt is no prefix of the whole. In that case the turn's content is replaced by a word that occurs nowhere
else; the word's place tells where the turn begins, and the end of the prompt must be found right before it. When
neither works, the record is refused with the reason. A template that marks turns with `{% generation %}` is believed.

In a long conversation rendering every prompt would take time that grows with its square. There the first turn of each
sort and the last one are found as above; the header of the first leads to the others, whose contents are placed by one
trial rendering. A turn that is not found so is found the long way.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

from tailorbird.dataset.records import ChatExample, CompletionExample, PreferencePair, Record
from tailorbird.dataset.spans import MAX_FILLER, Opening, content_places, mark
from tailorbird.dataset.template import ChatTemplate, Clock, RenderError, read_templates
from tailorbird.dataset.tokens import Vocabulary, read_json
from tailorbird.dataset.turn_ends import WORD, TurnEnds, learn_turn_ends

__all__ = ["RenderError", "Rendered", "Renderer"]

TemplateMessage = Mapping[str, Any]
Tools = Sequence[Mapping[str, Any]]

_FEW_TURNS: Final = 4
"""Up to so many learned turns, rendering a prompt for each costs less than what saves it."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """`weights[i]` is the loss weight of predicting `token_ids[i]`; the first is 0, as nothing comes before it."""

    token_ids: list[int]
    weights: list[float]


class Renderer:
    """Turns conversations and texts into the token ids of one model. Safe to use from several threads at once."""

    def __init__(
        self, name: str, vocabulary: Vocabulary, templates: Mapping[str, ChatTemplate], eos_token_ids: Sequence[int]
    ) -> None:
        """`name` is what errors call the model."""
        self.name = name
        self._vocabulary = vocabulary
        self._templates = templates
        self.chat = bool(templates)
        self.eos_token_ids = tuple(sorted(set(eos_token_ids)))
        self.vocab_size = vocabulary.size
        sources = {name: template.source for name, template in templates.items()}
        self.template_hash = hashlib.sha256(
            json.dumps([sources, vocabulary.named], sort_keys=True).encode()
        ).hexdigest()

    @classmethod
    def from_folder(cls, folder: str | Path, *, now: Clock = datetime.now) -> Renderer:
        """Reads a Hugging Face model folder. Raises RenderError when it has no usable tokenizer or template.

        `now` is the clock that templates which write the date see.
        """
        path = Path(folder)
        config = read_json(path / "tokenizer_config.json")
        vocabulary = Vocabulary.from_folder(path, config)
        eos = _ids(read_json(path / "generation_config.json")) or _ids(read_json(path / "config.json"))
        own_eos = vocabulary.id_of(vocabulary.named.get("eos_token", ""))
        templates = read_templates(path, config, now)
        return cls(path.name, vocabulary, templates, eos + ([] if own_eos is None else [own_eos]))

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """The tokens that end an answer: the model's own and the one the template writes after a last turn."""
        learned = self._turn_ends.last
        return tuple(sorted({*self.eos_token_ids, *([] if learned is None else [learned])}))

    def render_text(
        self,
        messages: Sequence[TemplateMessage],
        *,
        tools: Tools | None = None,
        add_generation_prompt: bool = False,
        **variables: Any,
    ) -> str:
        """The conversation as the model's text. Raises RenderError when the template refuses it."""
        if not messages:
            raise RenderError("The conversation has no messages.")
        return self._text(messages, tools, prompt=add_generation_prompt, **variables)

    def render_chat(
        self,
        messages: Sequence[TemplateMessage],
        *,
        tools: Tools | None = None,
        add_generation_prompt: bool,
        **variables: Any,
    ) -> list[int]:
        """The conversation as token ids. Raises RenderError when the template refuses it."""
        text = self.render_text(messages, tools=tools, add_generation_prompt=add_generation_prompt, **variables)
        return self.encode(text)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without what the tokenizer would put around it."""
        return self._vocabulary.encode(text).ids

    def encode_completion_prompt(self, text: str) -> list[int]:
        """Token ids of a text that a prompt/completion model goes on from, with the tokenizer's own first token."""
        return self._vocabulary.encode(text, special=True).ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return self._vocabulary.decode(ids, skip_special=skip_special_tokens)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token; not always whole characters. Raises IndexError for an unknown id."""
        return self._vocabulary.token_bytes(token_id)

    def token_text(self, token_id: int) -> str:
        """One token as text, U+FFFD for bytes that are part of a character. Raises IndexError for an unknown id."""
        return self._vocabulary.token_bytes(token_id).decode("utf-8", errors="replace")

    @property
    def added_tokens(self) -> Mapping[int, str]:
        """Tokens that stand for a text as a whole, beside the vocabulary of words; special or not."""
        return self._vocabulary.added

    @cached_property
    def renders_tools(self) -> bool:
        """Whether the template shows the model its tools."""
        tool = {"type": "function", "function": {"name": WORD, "description": WORD, "parameters": _NO_PARAMETERS}}
        try:
            return WORD in self._text([{"role": "user", "content": "hi"}], [tool], prompt=False)
        except RenderError:
            return False

    def render_example(self, record: Record) -> Rendered:
        """A training record as token ids and loss weights.

        Chat: the assistant's turns of weight 1 with their end-of-turn token. A token that begins in a turn's header
        is header, even where it takes in whitespace the turn begins with. Completion: the completion and the end of
        text. Raises RenderError when the template refuses the record or the spans cannot be told.
        """
        if isinstance(record, CompletionExample):
            return self._render_completion(record)
        if isinstance(record, ChatExample):
            return _ChatRendering(self, record).rendered()
        raise RenderError("A preference pair holds two conversations and cannot be rendered as one.")

    def render_record(self, record: Record) -> tuple[Rendered, ...]:
        """A record's one sequence, or the two of a preference pair. Raises RenderError."""
        if isinstance(record, PreferencePair):
            return self.render_pair(record)
        return (self.render_example(record),)

    def render_pair(self, pair: PreferencePair) -> tuple[Rendered, Rendered]:
        """The prompt with the preferred and with the non-preferred output; only the outputs' assistant turns weigh.

        Raises RenderError naming the side when the template refuses it or the spans cannot be told.
        """
        preferred, non_preferred = pair.conversations()
        return (
            self._render_output(preferred, "preferred_output", len(pair.messages)),
            self._render_output(non_preferred, "non_preferred_output", len(pair.messages)),
        )

    def _render_output(self, conversation: ChatExample, name: str, given: int) -> Rendered:
        try:
            return _ChatRendering(self, conversation).rendered()
        except RenderError as error:
            raise RenderError(f"{name} (its turns count from messages[{given}]): {error}") from error

    def _render_completion(self, example: CompletionExample) -> Rendered:
        """Prompt ids are exactly what serving sends: the completion is never merged into the prompt's last token."""
        prompt = self.encode_completion_prompt(example.prompt)
        joint = self.encode_completion_prompt(example.prompt + example.completion)
        # Encoded alone, a SentencePiece completion would get a space in front; use its ids in place where they are.
        completion = joint[len(prompt) :] if joint[: len(prompt)] == prompt else self.encode(example.completion)
        eos = self._vocabulary.id_of(self._vocabulary.named.get("eos_token", ""))
        end = eos if eos is not None else next(iter(self.eos_token_ids), None)
        if end is None:
            raise RenderError("The tokenizer names no eos_token, so the model could not learn where a completion ends.")
        weights = [0.0] * len(prompt) + [1.0] * (len(completion) + 1)
        weights[0] = 0.0
        return Rendered([*prompt, *completion, end], weights)

    def _text(self, messages: Sequence[TemplateMessage], tools: Tools | None, *, prompt: bool, **variables: Any) -> str:
        return self._template(tools).render(self._variables(messages, tools, prompt, **variables))

    def _template(self, tools: Tools | None) -> ChatTemplate:
        if not self._templates:
            raise RenderError("This model has no chat template; it takes prompt/completion examples.")
        if tools is not None and "tool_use" in self._templates:
            return self._templates["tool_use"]
        if "default" not in self._templates:
            raise RenderError(f"None of the model's chat templates is the default: {', '.join(self._templates)}.")
        return self._templates["default"]

    def _variables(
        self, messages: Sequence[TemplateMessage], tools: Tools | None, prompt: bool, **variables: Any
    ) -> dict[str, Any]:
        fixed = {"messages": messages, "tools": tools, "documents": None, "add_generation_prompt": prompt}
        return {**fixed, **self._vocabulary.named, **variables}

    @cached_property
    def _turn_ends(self) -> TurnEnds:
        return learn_turn_ends(self._vocabulary, partial(self._text, tools=None))


class _ChatRendering:
    """One chat example: its text, its tokens, and which of them each trained turn owns."""

    def __init__(self, renderer: Renderer, example: ChatExample) -> None:
        self._renderer = renderer
        self._example = example
        self._tools = example.tools
        # Only what the line says reaches the template, so that it sees the same when a request says nothing.
        self._options = (
            {} if example.parallel_tool_calls is None else {"parallel_tool_calls": example.parallel_tool_calls}
        )
        self._messages = [message.to_template() for message in example.messages]
        self._trained = [i for i, m in enumerate(example.messages) if m.role == "assistant" and m.weight]
        self._ends = renderer._turn_ends
        self._end_ids = {*renderer.stop_token_ids, *([] if self._ends.inner is None else [self._ends.inner])}
        if self._tools and not renderer.renders_tools:
            raise RenderError(
                f"The chat template of {renderer.name} does not show tools to the model: remove 'tools', or train a "
                "base model whose template does."
            )
        self._text = self._rendered(self._messages)
        encoding = renderer._vocabulary.encode(self._text)
        self._ids = encoding.ids
        self._spans = encoding.offsets
        self._starts = [start for start, _ in self._spans]
        self._openings: dict[tuple[str, ...], Opening] = {}

    def _rendered(self, messages: Sequence[TemplateMessage], *, prompt: bool = False) -> str:
        return self._renderer._text(messages, self._tools, prompt=prompt, **self._options)

    def rendered(self) -> Rendered:
        if not self._trained:
            raise RenderError("No assistant message has weight 1, so there is nothing to learn.")
        weights = [0.0] * len(self._ids)
        self._check_answers_of_tools()
        marked = self._generation_spans()
        for index in self._trained:
            self._refuse_end_tokens_inside(index)
            tokens = self._turn_tokens(index) if marked is None else self._marked_tokens(index, *marked[index])
            for position in tokens:
                weights[position] = 1.0
        weights[0] = 0.0
        return Rendered(self._ids, weights)

    def _generation_spans(self) -> dict[int, tuple[int, int]] | None:
        """The template's own word on what the model writes, by message; None when it says nothing usable."""
        template = self._renderer._template(self._tools)
        if not template.has_generation_blocks:
            return None
        variables = self._renderer._variables(self._messages, self._tools, False, **self._options)
        spans = template.generation_spans(variables, self._text)
        turns = [index for index, message in enumerate(self._example.messages) if message.role == "assistant"]
        # With several blocks in one turn, or none, a block cannot be told to belong to a message.
        return dict(zip(turns, spans, strict=True)) if spans is not None and len(spans) == len(turns) else None

    def _marked_tokens(self, index: int, start: int, end: int) -> range:
        """The tokens of a `{% generation %}` block; its end-of-turn token too where the block stops right before it."""
        first, stop = self._first_token(index, start), bisect_left(self._starts, end)
        self._check_content(index, start, end)
        if self._end_ids.isdisjoint(self._ids[first:stop]):
            while (
                stop < len(self._ids) and self._text[slice(*self._spans[stop])].isspace() and not self._ends_turn(stop)
            ):
                stop += 1
            if stop == len(self._ids) or not self._ends_turn(stop):
                raise self._endless(index)
            stop += 1
        return range(first, stop)

    def _turn_tokens(self, index: int) -> range:
        start = self._turn_start(index)
        first = self._first_token(index, start)
        last = next((i for i in range(first, len(self._ids)) if self._ends_turn(i)), None)
        is_last_turn = index + 1 == len(self._messages)
        if last is None or (not is_last_turn and self._ends.known and self._ends.inner is None):
            raise self._endless(index)
        self._check_shown(index, start, self._spans[last][1])
        return range(first, last + 1)

    def _turn_start(self, index: int) -> int:
        """Where in the text the model would begin to write this turn."""
        if self._ends.prompt_is_ignored:
            raise RenderError("The chat template writes no header for the answer: let it honour add_generation_prompt.")
        sort = self._sort(index)
        if index != self._trained[-1] and sort in self._openings:
            start = self._openings[sort].end_before(self._places.get(index), self._text)
            if start is not None:
                return start
        before = self._messages[:index]
        try:
            prompt = self._rendered(before, prompt=True)
        except RenderError as error:
            raise RenderError(f"messages[{index}]: no prompt leads to this turn; give it weight 0. {error}") from error
        if self._text.startswith(prompt):
            if index in self._places and sort not in self._openings:
                header = prompt[_common_prefix(prompt, self._rendered(before)) :]
                self._openings[sort] = Opening(header, self._text[len(prompt) : self._places[index]])
            return len(prompt)
        header = len(prompt) - _common_prefix(prompt, self._rendered(before))
        start = self._start_beside_word(index, prompt, max(1, header))
        if start is None:
            raise RenderError(
                f"messages[{index}]: the chat template rewrites the conversation, and where this turn begins cannot be "
                "told; give it weight 0, or end the example with it."
            )
        return start

    def _start_beside_word(self, index: int, prompt: str, header: int) -> int | None:
        """Where the end of `prompt`, at least `header` characters of it, stands before a word put into the turn."""
        word = self._fresh_word()
        trials = [self._messages[index] | {"content": word}]
        if self._example.messages[index].tool_calls:
            trials.append(_with_called(self._messages[index], word))
        for message in trials:
            changed = self._rendered([*self._messages[:index], message, *self._messages[index + 1 :]])
            place = changed.find(word)
            cuts = range(max(0, place - MAX_FILLER), place + 1)
            start = max(cuts, key=lambda cut: (_common_suffix(prompt, changed[:cut]), cut), default=-1)
            if (
                place >= 0
                and _common_suffix(prompt, changed[:start]) >= header
                and self._text.startswith(changed[:start])
            ):
                return start
        return None

    def _sort(self, index: int) -> tuple[str, ...]:
        """Turns of one sort are led to by the same header: what they do, and what comes before them."""
        near = self._example.messages[max(0, index - 1) : index + 1]
        return tuple(f"{message.role} {bool(message.tool_calls)} {bool(message.content)}" for message in near)

    @cached_property
    def _places(self) -> dict[int, int]:
        """Where learned turns, and what follows their tool calls, begin to be shown; as far as that is told.

        What is placed is a message's content, or where it has none the name of the first function it calls.
        """
        if len(self._trained) <= _FEW_TURNS:
            return {}
        messages = self._example.messages
        after_calls = {i + 1 for i in self._trained if messages[i].tool_calls and i + 1 < len(messages)}
        word = self._fresh_word()
        shown: dict[int, str] = {}
        marked = list(self._messages)
        for i in sorted(after_calls.union(self._trained)):
            content, calls = messages[i].content or "", marked[i].get("tool_calls", ())
            if content.strip():
                shown[i], marked[i] = content, {**marked[i], "content": mark(word, i)}
            elif calls:
                shown[i], marked[i] = calls[0]["function"]["name"], _with_called(marked[i], mark(word, i))
        try:
            return content_places(self._text, self._rendered(marked), word, shown)
        except RenderError:
            return {}

    def _first_token(self, index: int, start: int) -> int:
        """The first token that begins at or after `start`, when none takes in text on both sides of it."""
        first = bisect_left(self._starts, start)
        if first and self._spans[first - 1][1] > start:
            shared = self._text[start : self._spans[first - 1][1]]
            # A special token may swallow the spaces after it; leading whitespace of a turn may join its header's.
            if self._ids[first - 1] not in self._renderer._vocabulary.added and not shared.isspace():
                token = self._text[slice(*self._spans[first - 1])]
                raise RenderError(
                    f"messages[{index}]: the tokenizer joins the end of the template's header and the beginning of the "
                    f"answer into one token, {token!r}: end the header of the chat template without a space."
                )
        return first

    def _refuse_end_tokens_inside(self, index: int) -> None:
        message = self._example.messages[index]
        texts = [message.content or "", *(call["function"]["arguments"] for call in message.tool_calls)]
        for token_id in self._end_ids:
            token = self._renderer._vocabulary.added.get(token_id)
            if token and any(token in text for text in texts):
                raise RenderError(
                    f"messages[{index}]: the text holds the end-of-turn token {token!r}; remove it, the chat template "
                    "writes it."
                )

    def _check_answers_of_tools(self) -> None:
        """Refuses a conversation in which the model would not see what a tool answered."""
        for index, message in enumerate(self._example.messages):
            content = (message.content or "").strip()
            if message.role not in ("tool", "function") or not content or content in self._text:
                continue
            word = self._fresh_word()
            if word not in self._with_content(index, word):
                raise self._left_out(f"messages[{index}].content", "it", "tools")

    def _check_shown(self, index: int, start: int, end: int) -> None:
        """Refuses a turn of which the template leaves something out, or that runs into the next one."""
        self._check_content(index, start, end)
        message = self._example.messages[index]
        if message.tool_calls and index + 1 < len(self._messages):
            self._check_end_of_calls(index, end)

    def _check_content(self, index: int, start: int, end: int) -> None:
        message, shown = self._example.messages[index], self._text[start:end]
        content = (message.content or "").strip()
        if content not in shown:
            word = self._fresh_word()
            changed = self._with_content(index, word)
            if changed.find(word) < start or not self._text.startswith(changed[:start]):
                raise self._left_out(f"messages[{index}].content", "it", "all of the turn")
        for call in message.tool_calls:
            if call["function"]["name"] not in shown:
                raise self._left_out(f"messages[{index}].tool_calls", "them", "tools")

    def _check_end_of_calls(self, index: int, end: int) -> None:
        """Refuses a turn of tool calls whose first end-of-turn token, before `end`, is that of a later turn."""
        if index + 1 in self._places:
            place = self._places[index + 1]
        else:
            word = self._fresh_word()
            changed = self._with_content(index + 1, word)
            place = changed.find(word)
            if not self._text.startswith(changed[: max(place, 0)]):
                return
        if 0 <= place < end:
            raise self._endless(index)

    def _left_out(self, field: str, what: str, shows: str) -> RenderError:
        return RenderError(
            f"{field}: the chat template of {self._renderer.name} leaves {what} out; remove {what}, or train a base "
            f"model whose template shows {shows}."
        )

    def _ends_turn(self, position: int) -> bool:
        return self._ids[position] in self._end_ids

    def _endless(self, index: int) -> RenderError:
        return RenderError(
            f"messages[{index}]: the chat template writes no end-of-turn token after it, so the model would not learn "
            "to stop: let the template end each assistant turn with eos_token."
        )

    def _with_content(self, index: int, content: str) -> str:
        messages = list(self._messages)
        messages[index] = {**messages[index], "content": content}
        return self._rendered(messages)

    def _fresh_word(self) -> str:
        word = WORD
        while word in self._text:
            word += "q"
        return word


_NO_PARAMETERS: Final = {"type": "object", "properties": dict[str, Any]()}


def _with_called(message: dict[str, Any], name: str) -> dict[str, Any]:
    """A turn of tool calls, the first of which calls `name`."""
    first, *others = message["tool_calls"]
    return {**message, "tool_calls": [{**first, "function": {**first["function"], "name": name}}, *others]}


def _ids(config: Mapping[str, Any]) -> list[int]:
    """`eos_token_id` of a config: absent, one id or several."""
    value = config.get("eos_token_id")
    return [value] if isinstance(value, int) else list(value or ())


def _common_prefix(left: str, right: str) -> int:
    shortest = min(len(left), len(right))
    return next((i for i in range(shortest) if left[i] != right[i]), shortest)


def _common_suffix(left: str, right: str) -> int:
    return _common_prefix(left[::-1], right[::-1])
