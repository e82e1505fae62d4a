"""The trainer's log: JSON lines that carry the job's id, also when the run fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tailorbird
from tailorbird.protocol.training import PLAN_FILE, TrainPlan

MakePlan = Callable[..., TrainPlan]


def log_of(plan: TrainPlan) -> tuple[int, list[dict[str, Any]]]:
    path = Path(plan.run_folder) / PLAN_FILE
    path.write_text(plan.to_json())
    environment = os.environ | {"PYTHONPATH": str(Path(tailorbird.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "-m", "tailorbird.training", str(path)],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return ended.returncode, [json.loads(line) for line in ended.stderr.splitlines()]


@pytest.mark.parametrize("good", [True, False])
def test_every_line_is_json_and_names_the_job(make_plan: MakePlan, good: bool) -> None:
    plan = make_plan(n_epochs=1) if good else make_plan(template_hash="0")
    code, lines = log_of(plan)
    assert code == (0 if good else 1), lines[-1]
    assert {line["job"] for line in lines} == {plan.job_id}
    if good:
        assert any(line["message"].startswith("step ") for line in lines)
    else:
        assert lines[-1]["code"] == "template_changed"
        assert "TrainingError" in lines[-1]["traceback"]
