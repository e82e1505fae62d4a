"""Graders at work: texts compared, customers' code run, models asked for scores and labels."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, cast

from tailorbird.domain.errors import InvalidRequest, ServiceError
from tailorbird.domain.graders import (
    Grade,
    GradeErrors,
    Grader,
    GraderMessage,
    JudgeSampling,
    JudgeUsage,
    LabelModel,
    Multi,
    Operation,
    PythonGrader,
    ScoreModel,
    SingleGrader,
    StringCheck,
    TextSimilarity,
)
from tailorbird.service.asking import Asker, Question
from tailorbird.service.graders.formula import FormulaError, evaluate
from tailorbird.service.graders.similarity import similarity
from tailorbird.service.graders.templates import Namespaces, TemplateError, fill
from tailorbird.service.ports import CodeFailed, Sandbox, SandboxBroken, SandboxRefused


class Graders:
    def __init__(self, judge: Asker, sandbox: Sandbox) -> None:
        self._judge = judge
        self._sandbox = sandbox

    def check(self, grader: Grader) -> None:
        """Raises InvalidRequest when this installation cannot run it."""
        parts = list(grader.graders.values()) if isinstance(grader, Multi) else [grader]
        if any(isinstance(part, PythonGrader) for part in parts):
            try:
                self._sandbox.check()
            except SandboxRefused as refused:
                raise InvalidRequest(str(refused), param="grader.type") from refused

    async def grade(self, account_id: str, grader: Grader, sample: dict[str, Any], item: dict[str, Any]) -> Grade:
        """Never raises for what the sample, the item or a judging model does: that is in `errors`."""
        if isinstance(grader, Multi):
            return await self._multi(account_id, grader, sample, item)
        return await self._single(account_id, grader, sample, item)

    async def _multi(self, account_id: str, grader: Multi, sample: dict[str, Any], item: dict[str, Any]) -> Grade:
        parts = {name: await self._single(account_id, part, sample, item) for name, part in grader.graders.items()}
        scores = {name: part.score for name, part in parts.items()}
        usage = tuple(used for part in parts.values() for used in part.usage)
        errors = _merged([part.errors for part in parts.values()])
        if errors.any:
            return Grade(0.0, errors=errors, scores=scores, usage=usage)
        try:
            return Grade(evaluate(grader.calculate_output, scores), scores=scores, usage=usage)
        except FormulaError:
            return Grade(0.0, errors=GradeErrors(formula_parse_error=True), scores=scores, usage=usage)

    async def _single(
        self, account_id: str, grader: SingleGrader, sample: dict[str, Any], item: dict[str, Any]
    ) -> Grade:
        spaces: Namespaces = {"sample": sample, "item": item}
        try:
            match grader:
                case StringCheck():
                    return _string_check(grader, spaces)
                case TextSimilarity():
                    score = similarity(grader.metric, fill(grader.input, spaces), fill(grader.reference, spaces))
                    return Grade(score, _passed(score, grader.pass_threshold))
                case PythonGrader():
                    return await self._python(grader, sample, item)
                case ScoreModel():
                    return await self._score_model(account_id, grader, spaces)
                case LabelModel():
                    return await self._label_model(account_id, grader, spaces)
        except TemplateError as error:
            # output_json is only there when the sample is JSON: its absence is the sample's fault, not the path's.
            if "sample.output_json" in str(error) and "output_json" not in sample:
                return Grade(0.0, False, GradeErrors(sample_parse_error=True))
            return Grade(0.0, False, GradeErrors(invalid_variable_error=True))

    async def _python(self, grader: PythonGrader, sample: dict[str, Any], item: dict[str, Any]) -> Grade:
        try:
            score = await self._sandbox.grade(grader.source, sample, item)
        except (SandboxRefused, SandboxBroken) as error:
            kind = error.kind if isinstance(error, SandboxBroken) else "not_allowed"
            errors = GradeErrors(python_grader_server_error=True, python_grader_server_error_type=kind)
            return Grade(0.0, False, errors)
        except CodeFailed as error:
            errors = GradeErrors(python_grader_runtime_error=True, python_grader_runtime_error_details=str(error))
            return Grade(0.0, False, errors)
        return Grade(score, _passed(score, grader.pass_threshold))

    async def _score_model(self, account_id: str, grader: ScoreModel, spaces: Namespaces) -> Grade:
        schema = {
            "type": "object",
            "properties": {"result": {"type": "number", "minimum": grader.low, "maximum": grader.high}},
            "required": ["result"],
            "additionalProperties": False,
        }
        messages = _messages(grader.input, spaces)
        said = await self._ask(account_id, grader.model, messages, grader.sampling, schema)
        if isinstance(said, Grade):
            return said
        grade, answer = said
        score = answer.get("result")
        if isinstance(score, bool) or not isinstance(score, int | float) or not grader.low <= score <= grader.high:
            return dataclasses.replace(grade, errors=GradeErrors(model_grader_parse_error=True))
        return dataclasses.replace(grade, score=float(score), passed=_passed(float(score), grader.pass_threshold))

    async def _label_model(self, account_id: str, grader: LabelModel, spaces: Namespaces) -> Grade:
        schema = {
            "type": "object",
            "properties": {"result": {"type": "string", "enum": list(grader.labels)}},
            "required": ["result"],
            "additionalProperties": False,
        }
        said = await self._ask(account_id, grader.model, _messages(grader.input, spaces), JudgeSampling(), schema)
        if isinstance(said, Grade):
            return said
        grade, answer = said
        label = answer.get("result")
        if label not in grader.labels:
            return dataclasses.replace(grade, errors=GradeErrors(model_grader_parse_error=True))
        passed = label in grader.passing_labels
        return dataclasses.replace(grade, score=float(passed), passed=passed)

    async def _ask(
        self,
        account_id: str,
        model: str,
        messages: list[dict[str, str]],
        sampling: JudgeSampling,
        schema: dict[str, Any],
    ) -> Grade | tuple[Grade, dict[str, Any]]:
        """The judge's JSON with a grade that holds usage and exchange, or the grade of its failure."""
        try:
            reply = await self._judge.ask(
                account_id,
                Question(
                    model,
                    messages,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    seed=sampling.seed,
                    max_tokens=sampling.max_tokens,
                    schema=schema,
                ),
            )
        except ServiceError as error:
            errors = GradeErrors(model_grader_server_error=True, model_grader_server_error_details=error.message)
            return Grade(0.0, False, errors)
        usage = (JudgeUsage(reply.model, reply.prompt_tokens, reply.completion_tokens),)
        exchange = {
            "input": messages,
            "output": [{"role": "assistant", "content": reply.text}],
            "model": reply.model,
            "finish_reason": reply.finish_reason,
        }
        grade = Grade(0.0, False, usage=usage, sample=exchange)
        try:
            answer: object = json.loads(reply.text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            return dataclasses.replace(grade, errors=GradeErrors(model_grader_parse_error=True))
        return grade, cast("dict[str, Any]", answer)


def sample_of(text: str, **more: Any) -> dict[str, Any]:
    """The `sample` namespace of a model's answer; `output_json` is there when the text is JSON."""
    sample: dict[str, Any] = {"output_text": text, **more}
    try:
        sample["output_json"] = json.loads(text)
    except ValueError:
        return sample
    return sample


def _string_check(grader: StringCheck, spaces: Namespaces) -> Grade:
    text, reference = fill(grader.input, spaces), fill(grader.reference, spaces)
    match grader.operation:
        case Operation.EQ:
            passed = text == reference
        case Operation.NE:
            passed = text != reference
        case Operation.LIKE:
            passed = reference in text
        case Operation.ILIKE:
            passed = reference.casefold() in text.casefold()
    return Grade(float(passed), passed)


def _messages(templates: Sequence[GraderMessage], spaces: Namespaces) -> list[dict[str, str]]:
    return [{"role": message.role, "content": fill(message.content, spaces)} for message in templates]


def _passed(score: float, threshold: float | None) -> bool | None:
    return None if threshold is None else score >= threshold


def _merged(errors: Sequence[GradeErrors]) -> GradeErrors:
    """Every flag that any of them has; of the texts the first."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(GradeErrors):
        found = [getattr(error, field.name) for error in errors]
        values[field.name] = next((value for value in found if value), field.default)
    return GradeErrors(**values)
