"""Files as streams of bytes: lines, encodings, whole-file rules."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird.dataset.records import ChatExample, CompletionExample
from tailorbird.dataset.validate import (
    MAX_LINE_BYTES,
    DatasetError,
    Problem,
    load_records,
    read_lines,
    read_records,
    validate_stream,
)

BOM = b"\xef\xbb\xbf"
GOOD = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}'
PAIR = b'{"prompt": "a", "completion": "b"}'


def texts(data: bytes, **options: Any) -> list[str]:
    return [str(problem) for problem in validate_stream([data], **options).problems]


def test_a_good_file_is_counted_and_has_no_problems() -> None:
    data = b"\n".join([GOOD] * 10)
    report = validate_stream([data])
    assert report.ok
    assert (report.examples, report.kind, report.bytes) == (10, "chat", len(data))


def test_a_problem_shows_its_line_and_field() -> None:
    lines = [GOOD] * 9 + [b'{"messages": [{"role": "bot", "content": "a"}, {"role": "assistant", "content": "b"}]}']
    assert texts(b"\n".join(lines)) == [
        "Line 10, messages[0].role: 'bot' is not one of system, user, assistant, tool, function, developer."
    ]
    assert str(Problem(3, None, "bad.")) == "Line 3: bad."
    assert str(Problem(None, None, "bad.")) == "bad."


@pytest.mark.parametrize("count", [0, 7, 9])
def test_too_few_examples_are_refused_with_openais_sentence(count: int) -> None:
    (problem,) = validate_stream([b"\n".join([GOOD] * count)]).problems
    assert str(problem) == f"Training file has {count} example(s), but must have at least 10 examples"
    assert problem.line is None


def test_the_least_number_of_examples_and_the_files_name_are_arguments() -> None:
    assert texts(GOOD, min_examples=1) == []
    assert texts(b"", min_examples=0) == ["Training file has 0 example(s), but must have at least 1 examples"]
    assert texts(GOOD, name="Validation file")[0].startswith("Validation file has 1 example(s)")


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(st.binary(max_size=6).map(lambda b: b.replace(b"\n", b"")), max_size=8),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    end=st.sampled_from([b"\n", b"\r\n"]),
    last=st.booleans(),
)
def test_lines_do_not_depend_on_how_the_stream_is_cut(
    lines: list[bytes], cuts: list[int], end: bytes, last: bool
) -> None:
    data = end.join(lines) + (end if last else b"")
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    chunks = [data[a:b] for a, b in pairwise(edges)]
    assert list(read_lines(chunks)) == list(read_lines([data]))
    assert list(read_lines(bytes([byte]) for byte in data)) == list(read_lines([data]))
    for item in read_lines(chunks):
        if not isinstance(item, Problem):
            number, line = item
            assert data.split(b"\n")[number - 1].strip() in (line.strip(), BOM + line.strip())


def test_byte_order_marks_and_windows_line_ends_are_taken_off() -> None:
    data = BOM + GOOD + b"\r\n" + BOM + GOOD + b"\r\n\r\n\n  \n"
    assert list(read_lines([data])) == [(1, GOOD), (2, GOOD)]


def test_a_mark_cut_in_two_by_the_stream_is_taken_off() -> None:
    assert list(read_lines([b"\xef", b"\xbb\xbf{", b"}"])) == [(1, b"{}")]


def test_blank_lines_at_the_end_are_skipped_and_others_reported() -> None:
    assert texts(b"\n".join([GOOD] * 10) + b"\n\n\r\n \n") == []
    data = b"\n".join([GOOD, b"", GOOD, b"", b" ", b"", *[GOOD] * 8])
    report = validate_stream([data])
    assert [str(problem) for problem in report.problems] == ["Line 2: the line is empty.", "Line 4: 3 empty lines."]
    assert report.examples == 10


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-be"])
def test_a_utf16_file_is_one_problem(codec: str) -> None:
    data = "\n".join([GOOD.decode()] * 12).encode(codec)
    if codec == "utf-16-be":
        data = b"\xfe\xff" + data
    assert texts(data) == ["Line 1: the file is UTF-16; save it as UTF-8."]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b'{"messages": "caf\xe9"}', "byte 18 of the line (0xe9) is not valid UTF-8; save the file as UTF-8."),
        (b'{"messages": [}', "invalid JSON: Expecting value at column 15."),
        (b"{'messages': []}", "invalid JSON: Expecting property name enclosed in double quotes at column 2."),
        (GOOD + GOOD, f"invalid JSON: Extra data at column {len(GOOD) + 1}."),
        (b'{"prompt": NaN, "completion": "a"}', "invalid JSON: NaN is not a JSON value."),
        (
            b'{"prompt": "\\ud800", "completion": "a"}',
            "a \\u escape spells half a surrogate pair, which is no character.",
        ),
        (b"[" * 100_000, "invalid JSON: nested too deeply."),
        (b"[1,\n", "invalid JSON: Expecting value at column 4."),
    ],
    ids=["latin-1", "cut", "python", "two", "nan", "surrogate", "deep", "array"],
)
def test_a_line_that_is_no_json_is_one_problem(line: bytes, text: str) -> None:
    assert texts(GOOD + b"\n" + line, min_examples=1) == [f"Line 2: {text}"]


def test_an_escaped_surrogate_pair_is_a_character() -> None:
    (item,) = read_records([b'{"prompt": "\\ud83d\\udc26", "completion": "a"}'])
    assert item == (1, CompletionExample("🐦", "a"))


def test_mixed_kinds_in_a_file_are_refused() -> None:
    assert texts(GOOD + b"\n" + PAIR, min_examples=1) == [
        "Line 2: is a prompt/completion example; expected a chat example ('messages')."
    ]


def test_another_kind_than_the_one_asked_for_is_refused() -> None:
    report = validate_stream([PAIR], kind="chat", min_examples=1)
    assert report.problem_count == 1
    assert report.kind == "chat"
    assert validate_stream([PAIR], kind="completion", min_examples=1).ok


def test_a_faulty_first_line_does_not_set_the_kind() -> None:
    report = validate_stream([b'{"messages": []}\n' + PAIR], min_examples=1)
    assert [str(problem) for problem in report.problems] == ["Line 1, messages: is empty."]
    assert report.kind == "completion"


def test_many_problems_are_counted_and_the_first_kept() -> None:
    report = validate_stream([b"{}\n" * 200], max_problems=50)
    assert (report.problem_count, len(report.problems), report.examples) == (200, 50, 200)
    assert not report.ok


def long_lines(size: int) -> Iterator[bytes]:
    yield GOOD + b"\n" + b'{"x": "'
    for _ in range(size // 2**16):
        yield b"a" * 2**16
    yield b'"}\n' + GOOD


def test_a_line_that_is_too_long_is_a_problem_and_the_next_one_is_read() -> None:
    report = validate_stream(long_lines(MAX_LINE_BYTES + 2**16), min_examples=1)
    assert [str(problem) for problem in report.problems] == ["Line 2: the line is longer than 8 MB."]
    assert report.examples == 3


def test_memory_stays_constant_on_a_line_without_end() -> None:
    chunk = b"a" * 2**16
    tracemalloc.start()
    try:
        validate_stream(chunk for _ in range(64 * 2**20 // len(chunk)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * MAX_LINE_BYTES


def test_load_records_gives_line_numbers_or_raises_with_all_problems(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(BOM + PAIR + b"\n" + PAIR)
    assert load_records(path) == [(1, CompletionExample("a", "b")), (2, CompletionExample("a", "b"))]
    path.write_bytes(GOOD + b"\nx\n" + PAIR + b"\n{}")
    with pytest.raises(DatasetError) as caught:
        load_records(path)
    assert [problem.line for problem in caught.value.problems] == [2, 3, 4]
    assert "Line 3: is of another kind than line 1." in str(caught.value)
    path.write_bytes(b"\n")
    with pytest.raises(DatasetError, match="no examples"):
        load_records(path)


def test_the_shared_files_are_valid() -> None:
    folder = Path(__file__).parents[4] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared beside the repository")
    for path in folder.glob("*.jsonl"):
        report = validate_stream([path.read_bytes()])
        assert report.ok, report.problems
        records = load_records(path)
        assert len(records) == report.examples
        assert all(isinstance(record, ChatExample) for _, record in records)
        last = records[-1][1]
        assert isinstance(last, ChatExample)
        raw = json.loads(path.read_bytes().splitlines()[records[-1][0] - 1])
        assert last.messages[-1].content == raw["messages"][-1]["content"]
