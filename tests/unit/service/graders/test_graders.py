"""Graders: what each kind says of a sample, and which flag stands for which trouble."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tailorbird.domain.errors import InvalidRequest, Unavailable
from tailorbird.domain.graders import Grade
from tailorbird.service.asking import Question, Reply
from tailorbird.service.graders import Graders, sample_of
from tailorbird.service.graders.formula import FormulaError, check_formula, evaluate
from tailorbird.service.graders.reading import read_grader
from tailorbird.service.graders.templates import TemplateError, fill
from tailorbird.service.ports.sandbox import CodeFailed, SandboxRefused


class SaidBefore:
    """A judge that answers what the test wrote down, and remembers what it was asked."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.asked: list[tuple[str, Question]] = []

    async def ask(self, account_id: str, question: Question) -> Reply:
        self.asked.append((account_id, question))
        if self.answer == "down":
            raise Unavailable("The engine is away.")
        return Reply(self.answer, "stop", f"{question.model}-served", 11, 7)


class NoCode:
    def check(self) -> None:
        raise SandboxRefused("switched off")

    async def grade(self, source: str, sample: dict[str, Any], item: dict[str, Any]) -> float:
        raise SandboxRefused("switched off")


class RunsLengths:
    """Stands for a sandbox: grades by the length of the answer; an empty answer makes the code raise."""

    def check(self) -> None:
        return

    async def grade(self, source: str, sample: dict[str, Any], item: dict[str, Any]) -> float:
        if not sample["output_text"]:
            raise CodeFailed("ZeroDivisionError: division by zero")
        return float(len(sample["output_text"]))


async def grade(
    raw: dict[str, Any], text: str, item: dict[str, Any] | None = None, *, judge: str = "{}", code: Any = None
) -> Grade:
    graders = Graders(SaidBefore(judge), code or NoCode())
    return await graders.grade("acc", read_grader(raw), sample_of(text), item or {})


def check(operation: str, reference: str = "{{ item.label }}") -> dict[str, Any]:
    return {
        "type": "string_check",
        "name": "n",
        "input": "{{ sample.output_text }}",
        "reference": reference,
        "operation": operation,
    }


@pytest.mark.parametrize(
    ("operation", "text", "label", "score"),
    [
        ("eq", "Paris", "Paris", 1.0),
        ("eq", "paris", "Paris", 0.0),
        ("ne", "paris", "Paris", 1.0),
        ("like", "It is Paris.", "Paris", 1.0),
        ("like", "It is paris.", "Paris", 0.0),
        ("ilike", "It is PARIS.", "paris", 1.0),
        ("ilike", "It is Rome.", "paris", 0.0),
    ],
)
async def test_a_string_check_compares_as_its_operation_says(
    operation: str, text: str, label: str, score: float
) -> None:
    assert (await grade(check(operation), text, {"label": label})).score == score


@pytest.mark.parametrize(
    ("metric", "text", "reference", "low", "high"),
    [
        ("fuzzy_match", "select name", "select name", 1.0, 1.0),
        ("fuzzy_match", "select name from city", "select name of city", 0.8, 0.99),
        ("bleu", "the cat sat on the mat", "the cat sat on the mat", 1.0, 1.0),
        ("bleu", "a b c", "a b c", 1.0, 1.0),
        ("gleu", "the cat sat on a mat", "the cat sat on the mat", 0.5, 0.9),
        ("meteor", "the cats sat", "the cat sat", 0.9, 1.0),
        ("rouge_1", "the cat", "the dog", 0.5, 0.5),
        ("rouge_2", "a b c", "a b d", 0.5, 0.5),
        ("rouge_5", "a b c d e", "A, B, C; d e!", 1.0, 1.0),
        # One word of four is missing: recall 3/4, precision 1.
        ("rouge_l", "a c d", "a b c d", 6 / 7, 6 / 7),
        ("rouge_l", "", "a", 0.0, 0.0),
        ("bleu", "", "", 1.0, 1.0),
        ("meteor", "x", "", 0.0, 0.0),
    ],
)
async def test_text_similarity_is_within_what_the_metric_means(
    metric: str, text: str, reference: str, low: float, high: float
) -> None:
    raw = {
        "type": "text_similarity",
        "name": "n",
        "input": "{{sample.output_text}}",
        "reference": "{{item.label}}",
        "evaluation_metric": metric,
        "pass_threshold": 0.7,
    }
    got = await grade(raw, text, {"label": reference})
    assert low - 1e-9 <= got.score <= high + 1e-9
    assert got.passed is (got.score >= 0.7)


async def test_json_of_the_sample_and_paths_into_the_item_are_reached() -> None:
    raw = check("eq", "{{ item.rows[1].city }}") | {"input": "{{ sample.output_json.answer.0 }}"}
    got = await grade(raw, '{"answer": ["Delft"]}', {"rows": [{"city": "Gouda"}, {"city": "Delft"}]})
    assert got.score == 1.0


async def test_what_is_not_there_has_a_flag_of_its_own() -> None:
    missing = await grade(check("eq"), "x", {"other": 1})
    assert missing.score == 0.0
    assert missing.errors.invalid_variable_error
    no_json = await grade(check("eq") | {"input": "{{ sample.output_json.a }}"}, "no json", {"label": "x"})
    assert no_json.errors.sample_parse_error
    assert not no_json.errors.invalid_variable_error


SCORE = {
    "type": "score_model",
    "name": "judge",
    "model": "weaver",
    "range": [1, 5],
    "pass_threshold": 4,
    "sampling_params": {"temperature": 0, "max_completions_tokens": 20},
    "input": [{"role": "user", "content": [{"type": "input_text", "text": "Rate {{sample.output_text}}"}]}],
}


async def test_a_score_model_is_asked_with_the_filled_messages_and_its_number_counts() -> None:
    judge = SaidBefore('{"result": 4.5}')
    got = await Graders(judge, NoCode()).grade("acc", read_grader(SCORE), sample_of("this"), {})
    assert (got.score, got.passed, got.errors.any) == (4.5, True, False)
    account, question = judge.asked[0]
    assert (account, question.model) == ("acc", "weaver")
    assert question.messages == [{"role": "user", "content": "Rate this"}]
    assert (question.temperature, question.max_tokens) == (0, 20)
    assert question.schema is not None
    assert question.schema["properties"]["result"] == {"type": "number", "minimum": 1.0, "maximum": 5.0}
    assert got.usage[0].model == "weaver-served"
    assert got.usage[0].prompt_tokens + got.usage[0].completion_tokens == 18


@pytest.mark.parametrize("said", ["four", '{"result": 9}', '{"result": true}', "[4]"])
async def test_a_judge_without_a_number_in_the_range_is_a_parse_error(said: str) -> None:
    got = await grade(SCORE, "x", judge=said)
    assert got.score == 0.0
    assert got.errors.model_grader_parse_error


async def test_a_judge_that_cannot_be_asked_is_named_with_its_reason() -> None:
    got = await grade(SCORE, "x", judge="down")
    assert got.errors.model_grader_server_error
    assert got.errors.model_grader_server_error_details == "The engine is away."


@pytest.mark.parametrize(("said", "score"), [("good", 1.0), ("bad", 0.0)])
async def test_a_label_model_passes_by_its_passing_labels(said: str, score: float) -> None:
    raw = {
        "type": "label_model",
        "name": "l",
        "model": "weaver",
        "input": [{"role": "user", "content": "?"}],
        "labels": ["good", "bad"],
        "passing_labels": ["good"],
    }
    got = await grade(raw, "x", judge=json.dumps({"result": said}))
    assert (got.score, got.passed) == (score, score == 1.0)


async def test_python_graders_run_in_the_sandbox_or_say_why_not() -> None:
    raw = {"type": "python", "name": "p", "source": "def grade(sample, item): return 1"}
    assert (await grade(raw, "four", code=RunsLengths())).score == 4.0
    failed = await grade(raw, "", code=RunsLengths())
    assert failed.errors.python_grader_runtime_error
    assert failed.errors.python_grader_runtime_error_details == "ZeroDivisionError: division by zero"
    refused = await grade(raw, "x")
    assert refused.errors.python_grader_server_error
    with pytest.raises(InvalidRequest, match="switched off"):
        Graders(SaidBefore(""), NoCode()).check(read_grader(raw))


async def test_a_multi_grader_computes_its_formula_over_named_scores() -> None:
    raw = {
        "type": "multi",
        "name": "m",
        "graders": {"a": check("eq"), "b": check("like", "ar")},
        "calculate_output": "(a + 3 * b_score) / 2 ^ 2",
    }
    got = await grade(raw, "Paris", {"label": "Rome"})
    assert got.score == 0.75
    assert got.scores == {"a": 0.0, "b": 1.0}


async def test_a_part_that_fails_makes_the_multi_grader_fail_with_its_flag() -> None:
    raw = {"type": "multi", "name": "m", "graders": {"a": check("eq"), "b": SCORE}, "calculate_output": "a+b"}
    raw = json.loads(json.dumps(raw))
    del raw["graders"]["b"]["pass_threshold"]
    got = await grade(raw, "x", {"label": "x"}, judge="down")
    assert got.score == 0.0
    assert got.errors.model_grader_server_error
    assert got.scores == {"a": 1.0, "b": 0.0}


async def test_a_formula_without_a_value_is_a_formula_error() -> None:
    raw = {"type": "multi", "name": "m", "graders": {"a": check("eq")}, "calculate_output": "1 / a"}
    assert (await grade(raw, "x", {"label": "y"})).errors.formula_parse_error


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("min(a, b)", 2.0),
        ("max(a)", 2.0),
        ("-a ^ 2", -4.0),
        ("abs(-a) + floor(2.7) + ceil(0.1)", 5.0),
        ("sqrt(b + 1) * exp(0) - log(1)", 2.0),
    ],
)
def test_formulas_have_the_documented_operators_and_functions(formula: str, value: float) -> None:
    assert evaluate(formula, {"a": 2.0, "b": 3.0}) == pytest.approx(value)


@pytest.mark.parametrize(
    "formula",
    ["__import__('os')", "a.b", "a if b else 1", "c", "a +", "sqrt(1, 2)", "'x'", "a // 2", "min()", "[1][0]", "True"],
)
def test_nothing_else_is_a_formula(formula: str) -> None:
    with pytest.raises(FormulaError):
        check_formula(formula, ["a", "b"])


def test_huge_powers_end_as_an_error_instead_of_a_long_computation() -> None:
    with pytest.raises(FormulaError, match="no value"):
        evaluate("9^9^9^9", {})


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"operation": "is"}, "grader.operation"),
        ({"operation": None}, "grader.operation"),
        ({"type": "endpoint"}, "grader.type"),
        ({"type": "vibes"}, "grader.type"),
        ({"extra": 1}, "grader.extra"),
        ({"input": "{{ secrets.key }}"}, "grader.input"),
        ({"name": ""}, "grader.name"),
    ],
)
def test_a_faulty_grader_names_the_field(change: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_grader(check("eq") | change)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        ({"type": "python", "name": "p", "source": "def grade(:"}, "grader.source"),
        ({"type": "python", "name": "p", "source": "#" * 300_000}, "grader.source"),
        (SCORE | {"range": [1, 1]}, "grader.range"),
        (SCORE | {"input": []}, "grader.input"),
        (SCORE | {"input": [{"role": "critic", "content": "x"}]}, "grader.input[0].role"),
        (
            SCORE | {"input": [{"role": "user", "content": {"type": "input_image", "image_url": "u"}}]},
            "grader.input[0].content.type",
        ),
        (SCORE | {"sampling_params": {"reasoning_effort": "low"}}, "grader.sampling_params.reasoning_effort"),
        (
            {"type": "multi", "name": "m", "graders": {"a": SCORE}, "calculate_output": "a"},
            "grader.graders.a.pass_threshold",
        ),
        (
            {"type": "multi", "name": "m", "graders": {"a b": check("eq")}, "calculate_output": "1"},
            "grader.graders.a b",
        ),
        (
            {"type": "multi", "name": "m", "graders": {"a": check("eq")}, "calculate_output": "x"},
            "grader.calculate_output",
        ),
        ({"type": "multi", "name": "m", "graders": [check("eq")], "calculate_output": "1"}, "grader.graders"),
        (
            {
                "type": "text_similarity",
                "name": "t",
                "input": "a",
                "reference": "b",
                "evaluation_metric": "cosine",
            },
            "grader.evaluation_metric",
        ),
    ],
)
def test_faults_deep_inside_are_named_by_their_path(raw: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_grader(raw)
    assert caught.value.param == param


def test_a_template_writes_what_is_no_text_as_json() -> None:
    spaces = {"sample": {}, "item": {"a": [1, "é"]}}
    assert fill("<{{item.a}}>", spaces) == '<[1, "é"]>'
    with pytest.raises(TemplateError, match=r"item\.b"):
        fill("{{item.b}}", spaces)
