"""Where the rows of a run come from and how its answers are made: read strictly, refused by path."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.graders import GraderMessage
from tailorbird.service.asking import Question
from tailorbird.service.graders.fields import Fields
from tailorbird.service.graders.reading import read_message
from tailorbird.service.graders.templates import Namespaces, TemplateError, check_template, fill, resolve

MAX_CONTENT_ROWS = 10_000
_DEFAULT_SEED = 42
"""OpenAI's own default for the seed of an evaluation."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a data source; `sample` is there when the row brings its own answer."""

    item: dict[str, Any]
    sample: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Prompting:
    """How a run asks its model: messages of a template, or those that stand in each item."""

    model: str
    template: tuple[GraderMessage | str, ...]
    """Messages; a text among them is a path to messages within the item."""
    temperature: float
    top_p: float
    seed: int
    max_tokens: int | None
    json_object: bool
    schema: dict[str, Any] | None
    tools: tuple[dict[str, Any], ...]

    def question(self, item: dict[str, Any]) -> Question:
        """Raises TemplateError."""
        spaces: Namespaces = {"item": item}
        messages: list[dict[str, Any]] = []
        for part in self.template:
            if isinstance(part, GraderMessage):
                messages.append({"role": part.role, "content": fill(part.content, spaces)})
                continue
            found = resolve(part, spaces)
            if not isinstance(found, list):
                raise TemplateError(f"'{part}' holds no list of messages")
            messages += cast("list[dict[str, Any]]", found)
        return Question(
            self.model,
            messages,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            max_tokens=self.max_tokens,
            json_object=self.json_object,
            schema=self.schema,
            tools=self.tools,
        )


@dataclass(frozen=True, slots=True)
class Source:
    """`file_id` or `rows`; `prompting` None when the rows bring their answers."""

    file_id: str | None
    rows: tuple[Row, ...]
    prompting: Prompting | None


def read_source(raw: object, where: str = "data_source") -> Source:
    """Raises InvalidRequest whose `param` is the path of the field at fault."""
    fields = Fields(raw, where)
    kind = fields.choice("type", ("jsonl", "completions", "responses"))
    if kind == "responses":
        raise fields.fault("type", "the responses interface is not part of this service; use completions or jsonl")
    file_id, rows = _rows_of(fields)
    prompting = _prompting(fields) if kind == "completions" else None
    fields.finish()
    return Source(file_id, rows, prompting)


def _rows_of(fields: Fields) -> tuple[str | None, tuple[Row, ...]]:
    source = Fields(fields.required("source"), fields.path("source"))
    kind = source.choice("type", ("file_id", "file_content", "stored_completions"))
    if kind == "stored_completions":
        raise source.fault("type", "send the stored completions' messages as file_content or in a file")
    if kind == "file_id":
        file_id = source.text("id")
        source.finish()
        return file_id, ()
    content = source.required("content")
    items = cast("list[Any]", content) if isinstance(content, list) else []
    if not 1 <= len(items) <= MAX_CONTENT_ROWS:
        raise source.fault("content", f"use a list of 1 to {MAX_CONTENT_ROWS} rows; upload more as a file")
    rows = tuple(read_row(item, f"{source.path('content')}[{i}]") for i, item in enumerate(items))
    source.finish()
    return None, rows


def read_row(raw: object, where: str) -> Row:
    """`{"item": {…}, "sample"?: {…}}`. Raises InvalidRequest."""
    fields = Fields(raw, where)
    item, sample = fields.object("item"), fields.optional_object("sample")
    fields.finish()
    return Row(item, sample)


def rows_of_file(chunks: Iterable[bytes], file_id: str) -> Iterator[Row]:
    """The rows of a JSONL file. Raises InvalidRequest naming the line."""
    for number, line in enumerate(_lines(chunks), 1):
        if not line.strip():
            continue
        try:
            raw: object = json.loads(line.decode("utf-8-sig"))
        except ValueError as error:
            raise InvalidRequest(f"Line {number} of {file_id} is not JSON: {error}.", param="data_source") from error
        yield read_row(raw, f"line {number} of {file_id}")


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest:
        yield rest


def _prompting(fields: Fields) -> Prompting:
    model = fields.text("model")
    messages = Fields(fields.required("input_messages"), fields.path("input_messages"))
    if messages.choice("type", ("template", "item_reference")) == "template":
        template = _template(messages)
    else:
        reference = messages.text("item_reference")
        template = (reference if reference.startswith("item") else f"item.{reference}",)
    messages.finish()
    sampling = Fields(fields.take("sampling_params") or {}, fields.path("sampling_params"))
    json_object, schema = _response_format(sampling)
    if sampling.take("reasoning_effort") is not None:
        raise sampling.fault("reasoning_effort", "the models here do not reason apart from their answer; leave it out")
    temperature, top_p = sampling.number("temperature", 0, 2), sampling.number("top_p", 0, 1)
    seed = sampling.whole("seed", low=-(2**63))
    limits = sampling.whole("max_completion_tokens"), sampling.whole("max_completions_tokens")
    prompting = Prompting(
        model,
        template,
        temperature=1.0 if temperature is None else temperature,
        top_p=1.0 if top_p is None else top_p,
        seed=_DEFAULT_SEED if seed is None else seed,
        max_tokens=limits[0] or limits[1],
        json_object=json_object,
        schema=schema,
        tools=tuple(sampling.objects("tools")),
    )
    sampling.finish()
    return prompting


def _template(fields: Fields) -> tuple[GraderMessage | str, ...]:
    raw = fields.required("template")
    items = cast("list[Any]", raw) if isinstance(raw, list) else []
    if not items:
        raise fields.fault("template", "use a list of messages with at least one item")
    parts: list[GraderMessage | str] = []
    for i, item in enumerate(items):
        where = f"{fields.path('template')}[{i}]"
        # An earlier form of the interface puts a path to messages between messages.
        if isinstance(item, dict) and cast("dict[str, Any]", item).get("type") == "item_reference":
            inner = Fields(cast("object", item), where)
            inner.text("type")
            parts.append(inner.text("item_reference"))
            inner.finish()
            continue
        message = read_message(cast("object", item), where)
        _only_item(message.content, where)
        parts.append(message)
    return tuple(parts)


def _only_item(text: str, where: str) -> None:
    try:
        check_template(text, roots=("item",))
    except TemplateError as error:
        raise InvalidRequest(f"'{where}.content' is not valid: {error}.", param=f"{where}.content") from error


def _response_format(sampling: Fields) -> tuple[bool, dict[str, Any] | None]:
    raw = sampling.take("response_format")
    if raw is None:
        return False, None
    fields = Fields(raw, sampling.path("response_format"))
    kind = fields.choice("type", ("text", "json_object", "json_schema"))
    schema: dict[str, Any] | None = None
    if kind == "json_schema":
        inner = Fields(fields.required("json_schema"), fields.path("json_schema"))
        inner.text("name")
        inner.optional_text("description")
        inner.take("strict")
        schema = inner.object("schema")
        inner.finish()
    fields.finish()
    return kind == "json_object", schema
