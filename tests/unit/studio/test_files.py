"""Data files: what a list shows, who used a file, what mends a problem, what is lost with a deletion."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tailorbird.dataset.validate import validate_stream
from tailorbird.studio.pages.deleting import question
from tailorbird.studio.pages.file_rows import (
    Use,
    can_train,
    chosen,
    download_path,
    kind_of,
    name_in,
    remedy_of,
    table_in,
    uses_of,
)
from tailorbird.studio.words import LANGUAGES, Words, catalogue

REMEDIES = {key.removeprefix("file.remedy_") for key in catalogue("en") if key.startswith("file.remedy_")}


def file(name: str, **fields: Any) -> dict[str, Any]:
    usual = {"id": f"file-{name}", "filename": name, "purpose": "fine-tune", "status": "processed", "bytes": 10}
    return {**usual, "created_at": 100, **fields}


FILES = [
    file("b.jsonl", created_at=3, bytes=5),
    file("A b.jsonl", created_at=1, bytes=50),
    file("results.csv", purpose="fine-tune-results", created_at=4),
    file("eval.jsonl", purpose="evals", created_at=2),
]


def names(kind: str = "all", search: str = "", sort: str = "newest") -> list[str]:
    return [str(one["filename"]) for one in chosen(FILES, kind, search, sort)]


def test_files_are_filtered_by_what_they_are_for() -> None:
    assert names("training") == ["b.jsonl", "A b.jsonl"]
    assert names("results") == ["results.csv"]
    assert names("other") == ["eval.jsonl"]
    assert len(names("all")) == 4
    assert kind_of(FILES[3]) == "other"


def test_every_word_of_a_search_is_in_the_name_or_the_id() -> None:
    assert names(search="B.JSONL a") == ["A b.jsonl"]
    assert names(search="file-results") == ["results.csv"]
    assert names(search="nothing") == []
    assert len(names(search="  ")) == 4


@pytest.mark.parametrize(
    ("sort", "first", "last"),
    [
        ("newest", "results.csv", "A b.jsonl"),
        ("oldest", "A b.jsonl", "results.csv"),
        ("name", "A b.jsonl", "results.csv"),
        ("size", "A b.jsonl", "b.jsonl"),
    ],
)
def test_files_are_ordered_as_asked(sort: str, first: str, last: str) -> None:
    assert (names(sort=sort)[0], names(sort=sort)[-1]) == (first, last)


def test_only_good_training_files_can_train() -> None:
    assert can_train(FILES[0])
    assert not can_train(FILES[2])
    assert not can_train(file("x", status="error"))


def test_a_download_names_the_file_and_the_account_of_the_page() -> None:
    parts = urlsplit(download_path(file('say "予約" & more.jsonl', id="file-1"), "/subscriptions/s/a"))
    assert parts.path == "/relay/files/file-1/content"
    assert parse_qs(parts.query) == {"filename": ['say "予約" & more.jsonl'], "account": ["/subscriptions/s/a"]}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://a.blob.core.windows.net/c/train.jsonl?sv=2024&sig=x%2Fy", "train.jsonl"),
        ("https://host/%E4%BA%88%E7%B4%84.jsonl", "予約.jsonl"),
        ("https://host/", ""),
        ("", ""),
        ("not a url", "not a url"),
    ],
)
def test_a_name_is_suggested_from_the_url(url: str, name: str) -> None:
    assert name_in(url) == name


# --- who used a file --------------------------------------------------------------------------------------------------

JOBS = [
    {"id": "ftjob-2", "status": "running", "model": "m", "training_file": "file-1", "validation_file": "file-1"},
    {"id": "ftjob-1", "status": "succeeded", "model": "m", "fine_tuned_model": "m.ft-1", "training_file": "file-1",
     "result_files": ["file-9"]},
]  # fmt: skip


def test_jobs_are_named_by_the_part_a_file_had_in_them() -> None:
    assert uses_of(JOBS, "file-1") == [
        Use("ftjob-2", "training", "running", "m"),
        Use("ftjob-2", "validation", "running", "m"),
        Use("ftjob-1", "training", "succeeded", "m.ft-1"),
    ]
    assert uses_of(JOBS, "file-9") == [Use("ftjob-1", "results", "succeeded", "m.ft-1")]
    assert uses_of(JOBS, "file-0") == []


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_a_deletion_names_the_jobs_and_those_that_still_need_the_file(language: str) -> None:
    t = Words(language)
    alone = question(t, file("a.jsonl"), [])
    assert "a.jsonl" in alone
    used = question(t, file("a.jsonl"), uses_of(JOBS, "file-1"))
    assert used.startswith(alone)
    assert used.count("ftjob-2") == 2
    assert used.count("ftjob-1") == 1
    assert "ftjob" not in question(t, file("r.csv"), uses_of(JOBS, "file-9"))


def test_many_jobs_are_counted_and_not_all_named() -> None:
    uses = [Use(f"ftjob-{i}", "training", "succeeded", "m") for i in range(8)]
    asked = question(Words("en"), file("a"), uses)
    assert "ftjob-4 and 3 more" in asked
    assert "ftjob-5" not in asked


# --- problems and their remedies --------------------------------------------------------------------------------------

USER, GOOD = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
TOOLED = {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f f"}}]}


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("not json", "json"),
        ("[]", "shape"),
        ('{"x": 1}', "shape"),
        (b'{"messages": "\xff"}', "encoding"),
        ('{"messages": "\\ud800"}', "encoding"),
        ({"messages": [{"role": "bot", "content": "x"}, GOOD]}, "role"),
        ({"messages": [{"role": "user"}, GOOD]}, "content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, GOOD]}, "content"),
        ({"messages": [USER, {**GOOD, "weight": 2}]}, "weight"),
        ({"messages": [USER]}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [USER, {**GOOD, "mood": 1}]}, "unknown"),
        ({"messages": [USER, GOOD], "mood": 1}, "unknown"),
        ({"messages": [USER, TOOLED]}, "tools"),
        ({"messages": [USER, GOOD], "tools": 1}, "tools"),
        ({"messages": [USER, GOOD], "parallel_tool_calls": 1}, "tools"),
        ({"prompt": "a"}, "completion"),
        ({"prompt": 1, "completion": "b"}, "completion"),
        ({"input": 1, "preferred_output": [GOOD], "non_preferred_output": [GOOD]}, "preference"),
        ({"input": {"messages": [USER]}, "preferred_output": [GOOD]}, "preference"),
    ],
)
def test_what_the_service_finds_has_advice_that_fits(line: Any, remedy: str) -> None:
    data = line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
    report = validate_stream([data], min_examples=1)
    assert remedy in {remedy_of(problem.field, problem.message) for problem in report.problems}
    assert remedy in REMEDIES


def test_faults_of_whole_files_have_advice_as_well() -> None:
    good = json.dumps({"messages": [USER, GOOD]})
    other = '{"prompt": "a", "completion": "b"}'
    found = validate_stream([f"{good}\n\n{other}\n".encode(), b" " * 9_000_000 + b"x\n"], min_examples=10)
    remedies = {remedy_of(problem.field, problem.message) for problem in found.problems}
    assert remedies == {"blank", "kind", "long", "rows"}
    [utf16] = validate_stream(["[]".encode("utf-16")], min_examples=1).problems
    assert remedy_of(utf16.field, utf16.message) == "encoding"
    assert remedy_of(None, "fileImportFailed: the host could not be reached") == "import"
    assert remedy_of(None, "something new") == ""


def test_comma_separated_values_are_shown_up_to_their_last_whole_row() -> None:
    text = 'step,loss\n1,"0,5"\n2,0.4\n3,0.'
    assert table_in(text, 10) == [["step", "loss"], ["1", "0,5"], ["2", "0.4"]]
    assert table_in(text, 1) == [["step", "loss"], ["1", "0,5"]]
    assert table_in("step\n", 5) == [["step"]]
    assert table_in("", 5) == []
