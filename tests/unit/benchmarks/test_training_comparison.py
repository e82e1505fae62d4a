"""The training comparison: sides in turns, figures of a table, and the page they go to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.train import plan, report, sides

PATIENCE = 120.0  # seconds until a stuck process fails a test

SIDE = """
import json, sys
sys.path.insert(0, {folder!r})
from pace import Pace
task = json.load(open(sys.argv[1]))
pace = Pace()
for step in range(task["steps"]):
    if not pace.wait():
        break
    {each_step}
    pace.count(task["options"]["tokens"])
    pace.done()
pace.report([10.0, 9.0, 8.0, 7.0], {{"torch": "0"}})
"""


def side(folder: Path, each_step: str = "pass") -> sides.Side:
    script = folder / "side.py"
    script.write_text(SIDE.format(folder=str(Path(sides.__file__).parent), each_step=each_step))
    return sides.Side("peer", Path(sys.executable), script, {"tokens": 7})


TASK = {"steps": 3, "threads": 1}


def result(seconds: list[float], losses: list[float], **more: Any) -> dict[str, Any]:
    known = {"seconds": seconds, "losses": losses, "tokens": [1, *[100] * (len(seconds) - 1)], "peak_mb": 5.0}
    return known | {"versions": {"torch": "0"}} | more


def record() -> dict[str, Any]:
    ours = result([9.0, 1.0, 2.0, 4.0], [5.0, 5.0, 5.0, 5.0], operations=[1e9, 1e9, 2e9, 4e9], ceilings=[2e9, 1e9])
    return {
        "name": "a case",
        "case": {"batch": 8},
        "conditions": {"dtype": "bfloat16", "threads": 2, "layers": None},
        "machine": "a machine, 2 cores",
        "day": "2026-01-01",
        "targets": [10, 20, 40],
        "sweep": [],
        "sides": {
            "ours": {"options": {}, "result": ours},
            "TRL tuned": {"options": {"sort": True}, "result": result([9.0, 2.0, 6.0, 16.0], [5.0, 5.0, 5.001, 5.0])},
            "torchtune": {"options": {}, "failure": "ImportError: a|b"},
        },
    }


def test_a_side_takes_its_steps_when_told_and_gives_its_result(tmp_path: Path) -> None:
    found = sides.run(side(tmp_path), TASK, limit=PATIENCE)
    assert found["tokens"] == [7, 7, 7]
    assert found["losses"] == [10.0, 9.0, 8.0]


def test_a_side_that_is_asked_for_no_further_step_gives_the_result_it_has(tmp_path: Path) -> None:
    with sides.Running(side(tmp_path), TASK, limit=PATIENCE) as running:
        running.ready()
        running.step()
        assert len(running.finish()["seconds"]) == 1


def test_a_side_that_fails_says_why_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(sides.SideFailed, match="ValueError: no such option"):
        sides.run(side(tmp_path, 'raise ValueError("no such option")'), TASK, limit=PATIENCE)


def test_a_side_without_its_environment_says_how_to_get_it(tmp_path: Path) -> None:
    missing = sides.Side("peer", sides.ROOT / ".venvs/none/bin/python", tmp_path / "side.py")
    with pytest.raises(sides.SideFailed, match="make bench-train builds it"):
        sides.run(missing, TASK, limit=PATIENCE)


def test_a_side_that_hangs_is_given_up(tmp_path: Path) -> None:
    with sides.Running(side(tmp_path, "import threading; threading.Event().wait()"), TASK, limit=PATIENCE) as running:
        running.ready()
        with pytest.raises(sides.SideFailed, match="given up"):
            running.step(0.2)


def test_a_ratio_is_of_the_same_step_and_the_first_one_does_not_count() -> None:
    assert report.ratios(record(), "TRL tuned") == [2.0, 3.0, 4.0]


def test_the_fraction_of_limit_counts_the_needed_operations_for_every_side() -> None:
    assert report.fraction(record(), "ours") == 0.5
    assert report.fraction(record(), "TRL tuned") == pytest.approx(2e9 / 6 / 2e9)


def test_a_table_has_a_row_for_each_side_even_for_one_that_did_not_run() -> None:
    text = "\n".join(report.table(record()))
    assert "| ours | 3 | 2.00 | 4.00 | 10 | 50 | - | 5 | 0.50 | torch 0 | - |" in text
    assert "3.00 (2.00 to 4.00)" in text
    assert "| torchtune | 0 | no figure: ImportError: a/b |" in text
    columns = [line.count(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert len(set(columns)) == 1


def test_the_largest_difference_of_a_loss_is_over_all_steps() -> None:
    assert report.largest_loss_difference(record()) == pytest.approx(0.001 / 5.001)


def test_the_page_keeps_its_words_around_the_tables(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{report.BEGIN}\n\nold\n\n{report.END}\n\nafter\n")
    for records, shown in (([record()], "### a case"), ([], "Not run yet.")):
        report.write_page(page, records)
        text = page.read_text()
        assert text.startswith("before\n\n")
        assert text.endswith("\n\nafter\n")
        assert shown in text
        assert "old" not in text


def test_the_page_of_the_documentation_has_the_markers() -> None:
    text = (sides.ROOT / "docs/training-speed.md").read_text(encoding="utf-8")
    assert text.count(report.BEGIN) == text.count(report.END) == 1


def test_a_later_case_tries_the_fastest_options_of_each_peer() -> None:
    sweep = [
        {"peer": plan.TRL, "options": {"a": 1}, "seconds": 3.0},
        {"peer": plan.TRL, "options": {"a": 2}, "seconds": 1.0},
        {"peer": plan.TRL, "options": {"a": 3}, "seconds": 2.0},
        {"peer": plan.LLAMAFACTORY, "options": {"b": 1}, "failure": "slow"},
        {"peer": plan.TORCHTUNE, "options": {"c": 1}, "seconds": 4.0},
    ]
    first_of_failed = next(options for peer, options in plan.SWEEP if peer == plan.LLAMAFACTORY)
    assert plan.carried(sweep) == (
        (plan.TRL, {"a": 2}),
        (plan.TRL, {"a": 3}),
        (plan.LLAMAFACTORY, first_of_failed),
        (plan.TORCHTUNE, {"c": 1}),
    )
    assert plan.carried([]) == plan.SWEEP


def test_options_whose_micro_batch_does_not_divide_the_batch_are_left_out() -> None:
    assert plan.fits({"per_device_train_batch_size": 4}, 8)
    assert not plan.fits({"batch_size": 8}, 4)
