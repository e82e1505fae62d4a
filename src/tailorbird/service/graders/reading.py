"""A grader's JSON as a value: every field checked, everything unknown refused by its path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.graders import (
    Grader,
    GraderMessage,
    JudgeSampling,
    LabelModel,
    Metric,
    Multi,
    Operation,
    PythonGrader,
    ScoreModel,
    SingleGrader,
    StringCheck,
    TextSimilarity,
)
from tailorbird.service.graders.fields import Fields
from tailorbird.service.graders.formula import FormulaError, check_formula
from tailorbird.service.graders.templates import TemplateError, check_template

MAX_SOURCE_BYTES = 256 * 1024
MAX_GRADERS = 20
_ROLES = ("user", "assistant", "system", "developer")


def read_grader(raw: object, where: str = "grader") -> Grader:
    """Raises InvalidRequest whose `param` is the path of the field at fault."""
    fields = Fields(raw, where)
    kind = fields.text("type")
    if kind == "multi":
        return _multi(fields)
    return _single(fields, kind)


def read_criterion(raw: object, where: str) -> SingleGrader:
    """A testing criterion of an evaluation. Raises InvalidRequest."""
    fields = Fields(raw, where)
    return _single(fields, fields.text("type"))


def _single(fields: Fields, kind: str) -> SingleGrader:
    readers: dict[str, Callable[[Fields], SingleGrader]] = {
        "string_check": _string_check,
        "text_similarity": _text_similarity,
        "python": _python,
        "score_model": _score_model,
        "label_model": _label_model,
    }
    if kind == "endpoint":
        raise fields.fault("type", "graders behind an endpoint are not supported; use python or score_model")
    if kind not in readers:
        raise fields.fault("type", f"{kind!r} is none of {', '.join(readers)} and multi")
    grader = readers[kind](fields)
    fields.finish()
    return grader


def _string_check(fields: Fields) -> StringCheck:
    return StringCheck(
        name=fields.text("name"),
        input=_template(fields, "input"),
        reference=_template(fields, "reference"),
        operation=Operation(fields.choice("operation", tuple(Operation))),
    )


def _text_similarity(fields: Fields) -> TextSimilarity:
    metric = fields.text("evaluation_metric")
    if metric == "cosine":
        raise fields.fault("evaluation_metric", "'cosine' is not offered, as on Azure; use fuzzy_match or rouge_l")
    if metric not in tuple(Metric):
        raise fields.fault("evaluation_metric", f"{metric!r} is none of {', '.join(Metric)}")
    return TextSimilarity(
        name=fields.text("name"),
        input=_template(fields, "input"),
        reference=_template(fields, "reference"),
        metric=Metric(metric),
        pass_threshold=fields.number("pass_threshold"),
    )


def _python(fields: Fields) -> PythonGrader:
    name, source = fields.text("name"), fields.text("source")
    fields.optional_text("image_tag")
    if len(source.encode()) > MAX_SOURCE_BYTES:
        raise fields.fault("source", f"at most {MAX_SOURCE_BYTES // 1024} KB of code are taken")
    try:
        compile(source, "grader.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise fields.fault("source", f"this is not Python: {error}") from error
    return PythonGrader(name, source, fields.number("pass_threshold"))


def _score_model(fields: Fields) -> ScoreModel:
    low, high = fields.range("range")
    return ScoreModel(
        name=fields.text("name"),
        model=fields.text("model"),
        input=_messages(fields),
        low=low,
        high=high,
        sampling=_sampling(fields),
        pass_threshold=fields.number("pass_threshold"),
    )


def _sampling(fields: Fields) -> JudgeSampling:
    raw = fields.take("sampling_params")
    if raw is None:
        return JudgeSampling()
    inner = Fields(raw, fields.path("sampling_params"))
    # The specification writes completions in the plural, the SDK passes what it is given.
    first, second = inner.whole("max_completions_tokens"), inner.whole("max_completion_tokens")
    sampling = JudgeSampling(
        temperature=inner.number("temperature", 0, 2),
        top_p=inner.number("top_p", 0, 1),
        seed=inner.whole("seed", low=-(2**63)),
        max_tokens=second if first is None else first,
    )
    if inner.take("reasoning_effort") is not None:
        raise inner.fault("reasoning_effort", "the models here do not reason apart from their answer; leave it out")
    inner.finish()
    return sampling


def _label_model(fields: Fields) -> LabelModel:
    name, model, messages = fields.text("name"), fields.text("model"), _messages(fields)
    labels, passing = fields.texts("labels"), fields.texts("passing_labels")
    strange = [label for label in passing if label not in labels]
    if strange:
        raise fields.fault("passing_labels", f"{strange[0]!r} is not among the labels")
    return LabelModel(name, model, messages, labels, passing)


def _multi(fields: Fields) -> Multi:
    name, formula = fields.text("name"), fields.text("calculate_output")
    raw = fields.take("graders")
    if not isinstance(raw, dict) or not 1 <= len(cast("dict[str, Any]", raw)) <= MAX_GRADERS:
        raise fields.fault("graders", f"use an object of 1 to {MAX_GRADERS} graders, each under a name of its own")
    graders: dict[str, SingleGrader] = {}
    for key, value in cast("dict[str, Any]", raw).items():
        where = f"{fields.path('graders')}.{key}"
        if not key.isidentifier():
            raise InvalidRequest(f"'{where}': a name a formula can use has letters, digits and _ only.", param=where)
        inner = read_grader(value, where)
        if isinstance(inner, Multi):
            raise InvalidRequest(f"'{where}': a multi grader cannot hold another one.", param=where)
        if "pass_threshold" in value:
            raise InvalidRequest(
                f"'{where}.pass_threshold': within a multi grader leave it out.", param=f"{where}.pass_threshold"
            )
        graders[key] = inner
    try:
        check_formula(formula, graders)
    except FormulaError as error:
        raise fields.fault("calculate_output", str(error)) from error
    fields.finish()
    return Multi(name, graders, formula)


def _template(fields: Fields, name: str) -> str:
    value = fields.required(name)
    if not isinstance(value, str):
        raise fields.fault(name, "use a text")
    try:
        check_template(value)
    except TemplateError as error:
        raise fields.fault(name, str(error)) from error
    return value


def _messages(fields: Fields) -> tuple[GraderMessage, ...]:
    value = fields.take("input")
    items = cast("list[Any]", value) if isinstance(value, list) else []
    if not items:
        raise fields.fault("input", "use a list of messages with at least one item")
    return tuple(read_message(item, f"{fields.path('input')}[{i}]") for i, item in enumerate(items))


def read_message(raw: object, where: str) -> GraderMessage:
    """A message template: content is a text, one content part, or a list of them. Raises InvalidRequest."""
    fields = Fields(raw, where)
    role = fields.choice("role", _ROLES)
    if fields.optional_text("type") not in (None, "message"):
        raise fields.fault("type", "the only type of a message is 'message'")
    content = fields.take("content")
    parts: list[Any] = cast("list[Any]", content) if isinstance(content, list) else [content]
    text = "".join(_part(part, fields.path("content")) for part in parts)
    try:
        check_template(text)
    except TemplateError as error:
        raise fields.fault("content", str(error)) from error
    fields.finish()
    return GraderMessage(role, text)


def _part(raw: object, where: str) -> str:
    if isinstance(raw, str):
        return raw
    fields = Fields(raw, where)
    kind = fields.text("type")
    if kind not in ("input_text", "output_text", "text"):
        raise fields.fault("type", f"{kind!r} is not supported; messages are text")
    text = fields.take("text")
    if not isinstance(text, str):
        raise fields.fault("text", "use a text")
    fields.take("annotations")
    fields.finish()
    return text
