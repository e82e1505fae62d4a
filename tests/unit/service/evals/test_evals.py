"""Evaluations: definitions checked, runs executed row by row, cancelled, failed, and gone on with after a crash."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tailorbird.domain.errors import IllegalState, InvalidRequest, NotFound, Unavailable
from tailorbird.domain.evals import EvalRun, ItemStatus, OutputItem, RunStatus
from tailorbird.domain.files import File, FileStatus, Purpose
from tailorbird.infra.blobs import ObstoreBlobs, open_blobs
from tailorbird.infra.schema import make_engine, migrate
from tailorbird.infra.store import SqlStore
from tailorbird.service.asking import Question, Reply
from tailorbird.service.evals import Evals, NewEval, NewRun
from tailorbird.service.evals.running import EvalRuns
from tailorbird.service.graders import Graders
from tailorbird.service.ports.sandbox import SandboxRefused

CUSTOM = {
    "type": "custom",
    "item_schema": {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q", "a"]},
    "include_sample_schema": True,
}
RIGHT = {
    "type": "string_check",
    "name": "right",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.a }}",
    "operation": "eq",
}


class Ticking:
    """Each look at the clock is a second later."""

    def __init__(self) -> None:
        self._seconds = itertools.count()

    def now(self) -> datetime:
        return datetime(2026, 1, 5, 12, tzinfo=UTC) + timedelta(seconds=next(self._seconds))


class Echo:
    """Answers with the last message in capitals; `before` is called with each question."""

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.before: Callable[[Question], None] = lambda question: None

    async def ask(self, account_id: str, question: Question) -> Reply:
        self.before(question)
        self.questions.append(question)
        return Reply(question.messages[-1]["content"].upper(), "stop", "tiny", 3, 2)


class NoCode:
    def check(self) -> None:
        raise SandboxRefused("switched off")

    async def grade(self, source: str, sample: dict[str, Any], item: dict[str, Any]) -> float:
        raise SandboxRefused("switched off")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    migrate(url)
    engine = make_engine(url)
    yield SqlStore(engine)
    engine.dispose()


@dataclasses.dataclass
class Lab:
    store: SqlStore
    blobs: ObstoreBlobs
    echo: Echo
    evals: Evals
    runs: EvalRuns

    def eval_id(self, *criteria: dict[str, Any]) -> str:
        return self.evals.create("acc", NewEval(CUSTOM, list(criteria or (RIGHT,)), "mine")).id

    def start(self, eval_id: str, source: dict[str, Any]) -> EvalRun:
        return self.evals.start("acc", eval_id, NewRun(source, "first"))

    async def run(self, eval_id: str, source: dict[str, Any]) -> EvalRun:
        run = self.start(eval_id, source)
        await self.runs.execute(run)
        return self.evals.run("acc", eval_id, run.id)

    def items(self, run: EvalRun, status: ItemStatus | None = None) -> list[OutputItem]:
        page = self.evals.items("acc", run.eval_id, run.id, after=None, limit=100, order="asc", status=status)
        return page.items

    def file(self, data: bytes) -> str:
        file = File(
            id="file-1",
            account_id="acc",
            filename="rows.jsonl",
            purpose=Purpose.FINE_TUNE,
            bytes=len(data),
            status=FileStatus.PROCESSED,
            created_at=datetime(2026, 1, 5, tzinfo=UTC),
            blob_key="accounts/acc/files/file-1",
        )
        self.blobs.put(file.blob_key, [data])
        with self.store.begin() as tx:
            tx.files.add(file)
        return file.id


@pytest.fixture
def lab(store: SqlStore) -> Lab:
    blobs, clock, echo, counter = open_blobs("memory://"), Ticking(), Echo(), itertools.count(1)
    graders = Graders(echo, NoCode())
    evals = Evals(store, graders, clock, lambda: f"{next(counter):032x}")
    return Lab(store, blobs, echo, evals, EvalRuns(store, blobs, graders, echo, clock))


def content(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"type": "jsonl", "source": {"type": "file_content", "content": list(rows)}}


def asking(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "type": "completions",
        "model": "tiny",
        "input_messages": {"type": "template", "template": [{"role": "user", "content": "{{ item.q }}"}]},
        "source": {"type": "file_content", "content": [{"item": item} for item in items]},
    } | more


def test_the_answered_schema_wraps_item_and_sample(lab: Lab) -> None:
    made = lab.evals.get("acc", lab.eval_id())
    assert made.config["schema"]["properties"]["item"] == CUSTOM["item_schema"]
    assert made.config["schema"]["required"] == ["item", "sample"]
    assert made.graders == [RIGHT]
    with pytest.raises(NotFound):
        lab.evals.get("other", made.id)


@pytest.mark.parametrize(
    ("config", "criteria", "param"),
    [
        ({"type": "logs"}, [RIGHT], "data_source_config.type"),
        ({"type": "custom"}, [RIGHT], "data_source_config.item_schema"),
        ({"type": "custom", "item_schema": {"type": "thing"}}, [RIGHT], "data_source_config.item_schema"),
        (CUSTOM | {"x": 1}, [RIGHT], "data_source_config.x"),
        (CUSTOM, [], "testing_criteria"),
        (CUSTOM, "all", "testing_criteria"),
        (CUSTOM, [RIGHT, RIGHT], "testing_criteria[1].name"),
        (CUSTOM, [RIGHT | {"operation": "about"}], "testing_criteria[0].operation"),
        (CUSTOM, [{"type": "multi", "name": "m"}], "testing_criteria[0].type"),
    ],
)
def test_a_faulty_definition_names_its_field(lab: Lab, config: Any, criteria: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        lab.evals.create("acc", NewEval(config, criteria))
    assert caught.value.param == param


def test_code_that_may_not_run_is_refused_when_the_eval_is_made(lab: Lab) -> None:
    code = {"type": "python", "name": "p", "source": "def grade(s, i): return 1"}
    with pytest.raises(InvalidRequest, match="switched off"):
        lab.eval_id(code)


def test_name_and_metadata_change_alone(lab: Lab) -> None:
    eval_id = lab.eval_id()
    before = lab.evals.get("acc", eval_id)
    changed = lab.evals.update("acc", eval_id, "new", None)
    assert (changed.name, changed.metadata, changed.criteria) == ("new", before.metadata, before.criteria)
    assert changed.updated_at > before.updated_at
    assert lab.evals.update("acc", eval_id, None, {"k": "v"}).name == "new"


async def test_rows_with_their_own_answers_are_judged_and_counted(lab: Lab) -> None:
    done = await lab.run(
        lab.eval_id(),
        content(
            {"item": {"q": "1+1", "a": "2"}, "sample": {"output_text": "2"}},
            {"item": {"q": "1+2", "a": "3"}, "sample": {"output_text": "4"}},
            {"item": {"q": "no answer", "a": "3"}},
            {"item": {"q": 7, "a": "3"}, "sample": {"output_text": "3"}},
        ),
    )
    assert done.status is RunStatus.COMPLETED
    assert done.totals["result_counts"] == {"total": 4, "passed": 1, "failed": 1, "errored": 2}
    assert done.totals["per_testing_criteria_results"] == {"right": {"passed": 1, "failed": 2}}
    items = lab.items(done)
    assert [item.number for item in items] == [0, 1, 2, 3]
    assert [item.status.value for item in items] == ["pass", "fail", "error", "error"]
    assert items[2].verdicts[0]["errors"] == {"invalid_variable_error": True}
    assert "item.q" in items[3].sample["error"]["message"]
    assert [item.number for item in lab.items(done, ItemStatus.FAIL)] == [1]


async def test_a_model_is_asked_for_each_row_and_its_cost_is_summed(lab: Lab) -> None:
    sampling = {"temperature": 0, "max_completion_tokens": 9, "response_format": {"type": "json_object"}}
    done = await lab.run(
        lab.eval_id(), asking({"q": "ja", "a": "JA"}, {"q": "nee", "a": "nee"}, sampling_params=sampling)
    )
    assert done.totals["result_counts"] == {"total": 2, "passed": 1, "failed": 1, "errored": 0}
    assert done.totals["per_model_usage"] == {
        "tiny": {"invocation_count": 2, "prompt_tokens": 6, "completion_tokens": 4}
    }
    asked = lab.echo.questions[0]
    assert (asked.model, asked.temperature, asked.top_p, asked.seed) == ("tiny", 0, 1.0, 42)
    assert (asked.max_tokens, asked.json_object) == (9, True)
    sample = lab.items(done)[0].sample
    assert sample["input"] == [{"role": "user", "content": "ja"}]
    assert sample["output"] == [{"role": "assistant", "content": "JA"}]
    assert sample["usage"]["total_tokens"] == 5


async def test_messages_of_the_item_itself_are_asked(lab: Lab) -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "x"}]
    reference = {"type": "item_reference", "item_reference": "item.turns"}
    done = await lab.run(lab.eval_id(), asking({"q": "", "a": "X", "turns": messages}, input_messages=reference))
    assert done.totals["result_counts"]["passed"] == 1
    assert lab.echo.questions[0].messages == messages


async def test_a_model_that_cannot_be_asked_is_an_error_of_the_row_not_of_the_run(lab: Lab) -> None:
    def sometimes(question: Question) -> None:
        if question.messages[0]["content"] == "b":
            raise Unavailable("The engine is away.")

    lab.echo.before = sometimes
    done = await lab.run(lab.eval_id(), asking({"q": "a", "a": "A"}, {"q": "b", "a": "B"}))
    assert done.status is RunStatus.COMPLETED
    assert done.totals["result_counts"] == {"total": 2, "passed": 1, "failed": 0, "errored": 1}
    assert lab.items(done)[1].sample["error"]["message"] == "The engine is away."


async def test_a_file_is_read_line_by_line_and_a_bad_line_fails_the_run_by_its_number(lab: Lab) -> None:
    good = json.dumps({"item": {"q": "x", "a": "X"}}).encode()
    source = asking(source={"type": "file_id", "id": lab.file(b"\xef\xbb\xbf" + good + b"\n\n" + good + b"\nnot json")})
    done = await lab.run(lab.eval_id(), source)
    assert done.status is RunStatus.FAILED
    assert done.error_code == "invalid_data"
    assert "Line 4" in (done.error_message or "")
    assert done.totals["result_counts"]["total"] <= 2


async def test_a_deleted_file_fails_the_run(lab: Lab) -> None:
    run = lab.start(lab.eval_id(), asking(source={"type": "file_id", "id": lab.file(b"{}")}))
    with lab.store.begin() as tx:
        tx.files.delete("acc", "file-1")
    await lab.runs.execute(run)
    done = lab.evals.run("acc", run.eval_id, run.id)
    assert (done.status, done.error_code) == (RunStatus.FAILED, "file_missing")


@pytest.mark.parametrize("status", [FileStatus.PENDING, FileStatus.ERROR])
def test_a_file_that_is_not_ready_starts_no_run(lab: Lab, status: FileStatus) -> None:
    source = asking(source={"type": "file_id", "id": lab.file(b"{}")})
    with lab.store.begin() as tx:
        file = tx.files.get("acc", "file-1")
        assert file is not None
        tx.files.save(dataclasses.replace(file, status=status, status_details="line 1 is no JSON"))
    with pytest.raises(InvalidRequest, match=r"still pending|not usable: line 1"):
        lab.start(lab.eval_id(), source)


@pytest.mark.parametrize(
    ("source", "param"),
    [
        ({"type": "responses"}, "data_source.type"),
        ({"type": "jsonl"}, "data_source.source"),
        ({"type": "jsonl", "source": {"type": "stored_completions"}}, "data_source.source.type"),
        ({"type": "jsonl", "source": {"type": "file_content", "content": []}}, "data_source.source.content"),
        (content({"sample": {}}), "data_source.source.content[0].item"),
        ({"type": "jsonl", "source": {"type": "file_id", "id": "file-9"}}, "data_source.source.id"),
        (asking({"q": "x"}, model=None), "data_source.model"),
        (asking({"q": "x"}, input_messages=None), "data_source.input_messages"),
        (
            asking(
                {"q": "x"},
                input_messages={"type": "template", "template": [{"role": "user", "content": "{{sample.x}}"}]},
            ),
            "data_source.input_messages.template[0].content",
        ),
        (asking({"q": "x"}, sampling_params={"heat": 1}), "data_source.sampling_params.heat"),
        (
            asking({"q": "x"}, sampling_params={"reasoning_effort": "low"}),
            "data_source.sampling_params.reasoning_effort",
        ),
    ],
)
def test_a_faulty_run_names_its_field_and_none_is_made(lab: Lab, source: dict[str, Any], param: str) -> None:
    eval_id = lab.eval_id()
    with pytest.raises(InvalidRequest) as caught:
        lab.start(eval_id, source)
    assert caught.value.param == param
    assert lab.evals.runs("acc", eval_id, after=None, limit=5, order="asc", status=None).items == []


async def test_a_cancelled_run_stops_and_keeps_what_it_found(lab: Lab) -> None:
    eval_id = lab.eval_id()
    run = lab.start(eval_id, asking(*({"q": f"{n}", "a": "x"} for n in range(50))))

    def cancel_at_ten(question: Question) -> None:
        if question.messages[0]["content"] == "10":
            lab.evals.cancel("acc", eval_id, run.id)

    lab.echo.before = cancel_at_ten
    await lab.runs.execute(run)
    done = lab.evals.run("acc", eval_id, run.id)
    assert done.status is RunStatus.CANCELED
    assert len(lab.items(done)) == done.totals["result_counts"]["total"] < 20
    assert lab.evals.cancel("acc", eval_id, run.id).status is RunStatus.CANCELED


async def test_an_ended_run_cannot_be_cancelled(lab: Lab) -> None:
    eval_id = lab.eval_id()
    done = await lab.run(eval_id, content({"item": {"q": "x", "a": "y"}}))
    with pytest.raises(IllegalState, match="already completed"):
        lab.evals.cancel("acc", eval_id, done.id)


async def test_a_run_broken_off_goes_on_with_the_rows_that_have_no_item(lab: Lab) -> None:
    eval_id = lab.eval_id()
    run = lab.start(eval_id, asking(*({"q": f"{n}", "a": f"{n}"} for n in range(20))))
    broken = asyncio.Event()

    def break_at_seven(question: Question) -> None:
        if question.messages[0]["content"] == "7":
            broken.set()

    lab.echo.before = break_at_seven
    task = asyncio.create_task(lab.runs.execute(run))
    await broken.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    found = {item.number for item in lab.items(run)}
    assert len(found) < 20
    lab.echo.questions.clear()
    await lab.runs.resume_unfinished()
    done = lab.evals.run("acc", eval_id, run.id)
    assert done.status is RunStatus.COMPLETED
    assert done.totals["result_counts"] == {"total": 20, "passed": 20, "failed": 0, "errored": 0}
    # A write that was under way when the run broke off may have ended after we looked.
    assert {q.messages[0]["content"] for q in lab.echo.questions} <= {f"{n}" for n in range(20) if n not in found}
    assert len(lab.items(done)) == 20


async def test_a_run_whose_eval_is_deleted_meanwhile_leaves_nothing(lab: Lab) -> None:
    eval_id = lab.eval_id()
    run = lab.start(eval_id, asking({"q": "x", "a": "X"}))
    lab.echo.before = lambda question: lab.evals.delete("acc", eval_id)
    await lab.runs.execute(run)
    with pytest.raises(NotFound):
        lab.evals.run("acc", eval_id, run.id)
