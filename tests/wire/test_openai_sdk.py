"""The openai SDK, four versions of it, on every surface, sync and async: each call does what its documentation says."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import clients_table
import pytest
from client_runs import Judge, Runs, openai_python
from openai_matrix import FULL, QUICK, lacks

TABLE = Path(__file__).parents[2] / "docs" / "clients.md"
ALL = [*QUICK, *(pytest.param(judge, marks=pytest.mark.wire_full) for judge in FULL)]


@pytest.mark.parametrize("judge", ALL, ids=str)
def test_every_call_of_the_sdk_answers(judge: Judge, runs: Runs) -> None:
    result = runs.result(judge)
    assert result.failed == {}
    assert set(result.absent) == lacks(judge)
    assert len(result.calls) >= (3 if judge.trains else 30)


def test_a_client_that_is_not_installed_fails_and_names_the_make_target() -> None:
    with pytest.raises(AssertionError, match="make clients-all"):
        openai_python("0.0.0")


def test_the_table_of_clients_shows_what_these_runs_did(runs: Runs) -> None:
    rows = TABLE.read_text(encoding="utf-8").splitlines()
    ran = [clients_table.row(asdict(runs.result(judge))) for judge in QUICK]
    assert [row for row in ran if row not in rows] == [], "run `make test-wire`"
