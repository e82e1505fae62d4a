"""`tailorbird audit` on the database of a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tailorbird.cli import access
from tailorbird.cli.main import app


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    for name in ("anna", "bert"):
        words = ["users", "add", name, "--password", "long enough", "--data-dir", str(tmp_path)]
        assert CliRunner().invoke(access.app, words).exit_code == 0
    return lambda *words: CliRunner().invoke(app, ["audit", *words, "--data-dir", str(tmp_path)])


def test_the_trail_is_shown_as_json_and_narrowed_by_each_option(run: Callable[..., Result]) -> None:
    everything = json.loads(run("-o", "json").output)
    assert [entry["resource"] for entry in everything] == ["/tailorbird/users/bert", "/tailorbird/users/anna"]
    assert everything[0]["principalName"].endswith("(tailorbird access)")
    for words in (
        ("--scope", "/tailorbird/users/anna"),
        ("--action", "tailorbird/users/*", "--scope", "/tailorbird/users/anna"),
        ("--principal", everything[0]["principalName"], "--outcome", "succeeded", "--limit", "1"),
        ("--since", everything[0]["time"]),
        ("--until", everything[0]["time"]),
    ):
        assert len(json.loads(run(*words, "-o", "json").output)) == 1, words
    assert json.loads(run("--request-id", "x", "-o", "json").output) == []


def test_a_table_has_one_line_for_each_entry_under_its_heading(run: Callable[..., Result]) -> None:
    head, newest, oldest = run().output.splitlines()
    assert head.split() == ["time", "outcome", "principal", "from", "action", "resource", "detail"]
    assert newest.index("Tailorbird/users/write") == head.index("action")
    assert oldest.endswith("/tailorbird/users/anna  added")


@pytest.mark.parametrize(
    ("words", "fault"), [(("--outcome", "maybe"), "outcome"), (("--since", "yesterday"), "ISO 8601")]
)
def test_a_wrong_word_is_refused_with_the_remedy(
    run: Callable[..., Result], words: tuple[str, ...], fault: str
) -> None:
    result = run(*words)
    assert result.exit_code == 1
    assert fault in result.output
