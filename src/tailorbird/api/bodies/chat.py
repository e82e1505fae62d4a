"""Bodies of chat completions: messages, tools, the form of the answer; and of a stored completion's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, WithJsonSchema, model_validator

from tailorbird.api.bodies import Body, Metadata
from tailorbird.api.bodies.inference import SamplingBody
from tailorbird.domain.errors import InvalidRequest
from tailorbird.protocol.generation import Structure
from tailorbird.service.answers import Keep, ToolChoice

MAX_TOOLS = 128

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]

_NOT_KEPT = frozenset({"model", "stream", "stream_options", "store", "metadata"})
"""Fields of a request that say nothing about what was asked."""


class FunctionBody(Body):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolBody(Body):
    type: Literal["function"]
    function: FunctionBody


class JsonSchemaBody(Body):
    name: Name
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class ResponseFormatBody(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaBody | None = None

    @model_validator(mode="after")
    def _check(self) -> ResponseFormatBody:
        if (self.type == "json_schema") != (self.json_schema is not None):
            what = "is missing" if self.json_schema is None else f"does not belong to the type '{self.type}'"
            raise InvalidRequest(f"'response_format.json_schema' {what}.", param="response_format.json_schema")
        if self.json_schema is not None and self.json_schema.strict and self.json_schema.schema_ is None:
            raise InvalidRequest(
                "'response_format.json_schema.schema' is missing; 'strict' needs one.",
                param="response_format.json_schema.schema",
            )
        return self

    def structure(self) -> Structure | None:
        """What the engine is held to; a schema is enforced with and without `strict`."""
        if self.type == "text":
            return None
        schema = None if self.json_schema is None else self.json_schema.schema_
        return Structure("json_object") if schema is None else Structure("json_schema", json.dumps(schema))


_MESSAGES = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role"],
        "properties": {"role": {"enum": ["system", "developer", "user", "assistant", "tool", "function"]}},
    },
}


class ChatBody(SamplingBody):
    unsupported: ClassVar = {
        "modalities": ((None, ["text"]), "answers are text"),
        "audio": ((None,), "answers are text"),
        "prediction": ((None,), "leave it out"),
        "reasoning_effort": ((None, "none"), "the models here do not reason apart from their answer; leave it out"),
        "verbosity": ((None, "medium"), "ask for a shorter or longer answer in the messages"),
        "service_tier": ((None, "auto", "default"), "there is one tier; leave it out"),
        "web_search_options": ((None,), "the service has no access to the web"),
        "data_sources": ((None, []), "put the documents into the messages"),
        "user_security_context": ((None,), "leave it out"),
        "moderation": ((None,), "answers are not moderated; leave it out"),
        "prompt_cache_options": ((None,), "prompts are not kept between requests; leave it out"),
        "prompt_cache_retention": ((None,), "prompts are not kept between requests; leave it out"),
    }
    # Read by the service; what the description says of it is what every model takes.
    messages: Annotated[Any, WithJsonSchema(_MESSAGES)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[ToolBody], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[FunctionBody], Field(max_length=MAX_TOOLS)] | None = None
    function_call: Any = None
    response_format: ResponseFormatBody | None = None
    store: bool | None = None
    # Kept with a stored answer, and describes nothing otherwise.
    metadata: Metadata | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    _sent: dict[str, Any] = PrivateAttr(default_factory=dict[str, Any])

    @model_validator(mode="wrap")
    @classmethod
    def _keep_sent(cls, raw: Any, handler: ModelWrapValidatorHandler[ChatBody]) -> ChatBody:
        body = handler(raw)
        body._sent = raw
        return body

    @model_validator(mode="after")
    def _check(self) -> ChatBody:
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("'top_logprobs' is only allowed with 'logprobs': true.", param="top_logprobs")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise InvalidRequest(
                "'max_tokens' and 'max_completion_tokens' mean the same; send one of them.", param="max_tokens"
            )
        if self.tools and self.functions:
            raise InvalidRequest("'functions' is the old name of 'tools'; send one of them.", param="functions")
        return self

    @property
    def legacy(self) -> bool:
        """Whether the answer calls in the old shape, `function_call`."""
        return bool(self.functions)

    def structure(self) -> Structure | None:
        return None if self.response_format is None else self.response_format.structure()

    def keep(self) -> Keep | None:
        """What to store with the answer, when it shall be stored."""
        if not self.store:
            return None
        sent = {name: value for name, value in self._sent.items() if name not in _NOT_KEPT and value is not None}
        return Keep(sent, self.metadata or {})

    def tools_asked(self) -> ToolChoice | None:
        """The tools as they were sent (a template shows them as it did in training) and who may be called.

        None when nothing may be called; the model is not shown the tools then."""
        functions = self.functions or [tool.function for tool in self.tools or []]
        field, value = ("function_call", self.function_call) if self.legacy else ("tool_choice", self.tool_choice)
        other = self.tool_choice if self.legacy else self.function_call
        if other not in (None, "none", "auto") or (not functions and value not in (None, "none", "auto")):
            wrong = (
                ("tool_choice" if self.legacy else "function_call") if other not in (None, "none", "auto") else field
            )
            raise InvalidRequest(
                f"'{wrong}' is only allowed with '{'functions' if wrong == 'function_call' else 'tools'}'.", param=wrong
            )
        names = _names([function.name for function in functions], "functions" if self.legacy else "tools")
        mode, allowed, single = _chosen(value, field, names)
        if not functions or mode == "none":
            return None
        strict = any(function.strict for function in functions if function.name in allowed)
        return ToolChoice(
            tools=self._shown(),
            mode=mode,
            allowed=allowed,
            many=not (self.legacy or single or self.parallel_tool_calls is False),
            checked=strict or allowed != names,
            parallel_sent=self.parallel_tool_calls,
            param="functions" if self.legacy else "tools",
        )

    def _shown(self) -> list[dict[str, Any]]:
        if self.legacy:
            return [{"type": "function", "function": function} for function in self._sent["functions"]]
        return list(self._sent["tools"])


class DescribeBody(Body):
    """New metadata of a stored completion; null takes all of it away."""

    metadata: Metadata | None


def _names(names: list[str], field: str) -> frozenset[str]:
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise InvalidRequest(f"'{field}' has two functions with the name '{twice}'; rename one.", param=field)
    return frozenset(names)


def _chosen(
    value: Any, field: str, names: frozenset[str]
) -> tuple[Literal["none", "auto", "required"], frozenset[str], bool]:
    """The mode, who may be called, and whether exactly one call is meant."""
    if value is None:
        return "auto", names, False
    if value in ("none", "auto") or (value == "required" and field == "tool_choice"):
        return value, names, False
    if isinstance(value, dict):
        given = cast("dict[str, Any]", value)
        if field == "function_call" and set(given) == {"name"}:
            return "required", frozenset({_known(given["name"], field, names)}), True
        if field == "tool_choice" and given.get("type") == "function" and set(given) == {"type", "function"}:
            return "required", frozenset({_named(given["function"], field, names)}), True
        if field == "tool_choice" and given.get("type") == "allowed_tools":
            mode, allowed = _allowed(given, names)
            return mode, allowed, False
    forms = (
        "'none', 'auto' or {'name': …}"
        if field == "function_call"
        else "'none', 'auto', 'required', {'type': 'function', 'function': {'name': …}} or "
        "{'type': 'allowed_tools', 'allowed_tools': {'mode': …, 'tools': […]}}"
    )
    raise InvalidRequest(f"'{field}' is not valid: use {forms}.", param=field)


def _allowed(given: Mapping[str, Any], names: frozenset[str]) -> tuple[Literal["auto", "required"], frozenset[str]]:
    inner: Any = given.get("allowed_tools")
    tools: Any = cast("dict[str, Any]", inner).get("tools") if isinstance(inner, dict) else None
    mode: Any = cast("dict[str, Any]", inner).get("mode") if isinstance(inner, dict) else None
    if mode not in ("auto", "required") or not isinstance(tools, list) or not tools:
        raise InvalidRequest(
            "'tool_choice.allowed_tools' is not valid: use {'mode': 'auto' or 'required', 'tools': [{'type': "
            "'function', 'function': {'name': …}}, …]} with at least one tool.",
            param="tool_choice",
        )
    allowed: set[str] = set()
    for tool in cast("list[Any]", tools):
        function: Any = cast("dict[str, Any]", tool).get("function") if isinstance(tool, dict) else None
        allowed.add(_named(function, "tool_choice", names))
    return mode, frozenset(allowed)


def _named(function: Any, field: str, names: frozenset[str]) -> str:
    return _known(cast("dict[str, Any]", function).get("name") if isinstance(function, dict) else None, field, names)


def _known(name: Any, field: str, names: frozenset[str]) -> str:
    if not isinstance(name, str) or name not in names:
        raise InvalidRequest(
            f"'{field}' names the function {name!r}, which is not among those sent: {', '.join(sorted(names))}.",
            param=field,
        )
    return name
