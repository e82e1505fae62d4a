"""The table of clients has a row for each judge of the wire, and none of its calls failed."""

from __future__ import annotations

import json
from pathlib import Path

import clients_table
from openai_matrix import FULL, QUICK

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"


def rows() -> list[list[str]]:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][2:]


def test_the_table_has_every_judge_once() -> None:
    found = [tuple(row[:4]) for row in rows()]
    judges = [(judge.client, judge.version, judge.surface, judge.mode) for judge in (*QUICK, *FULL)]
    assert sorted(row for row in found if row[0] == "openai") == sorted(judges), "run `make test-wire`"
    assert len(set(found)) == len(found)


def test_the_table_has_the_other_clients_too() -> None:
    versions = {(row[0], row[1]) for row in rows() if row[0] != "openai"}
    assert versions == {
        ("azure-cli", "2.91.0"), ("azure-mgmt-cognitiveservices", "13.5.0"), ("azure-mgmt-cognitiveservices", "14.1.0"),
        ("azure-storage-blob", "12.31.1"), ("curl", "any"), ("schemathesis", "4.32.5"),
    }, "run `make test-wire`"  # fmt: skip


def test_no_call_in_the_table_failed() -> None:
    assert [row for row in rows() if row[4] != row[5]] == []


def test_the_page_is_made_of_results_in_the_order_of_versions() -> None:
    results = [
        {"judge": {"client": "openai", "version": version, "surface": "v1", "mode": "sync"}, "calls": ["a", "b"],
         "failed": failed}
        for version, failed in (("10.0.0", {}), ("9.1.0", {"a": "no"}))
    ]  # fmt: skip
    page = clients_table.page(json.loads(json.dumps(results)))
    assert page.splitlines()[-2:] == [
        "| openai | 9.1.0 | v1 | sync | 2 | 1 |",
        "| openai | 10.0.0 | v1 | sync | 2 | 2 |",
    ]
