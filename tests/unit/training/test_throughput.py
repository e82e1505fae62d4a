from __future__ import annotations

import pytest
import torch

from tailorbird.training import throughput
from tailorbird.training.throughput import Work, notes_on

CPU = torch.device("cpu")


def test_the_share_is_of_a_product_timed_here_and_stands_only_after_enough_work(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(throughput, "_SIDE", 64)
    work = Work(examples=40, targets=100, given_tokens=4000, tokens=1000, operations=1.0, seconds=10.0)
    speeds: list[float] = []

    def speed(dtype: torch.dtype, device: torch.device) -> float:
        speeds.append(throughput_of(dtype, device))
        return speeds[-1]

    throughput_of = throughput.product_speed
    monkeypatch.setattr(throughput, "product_speed", speed)
    notes = notes_on(work, torch.float32, CPU)
    assert notes["fraction_of_limit"] == pytest.approx(0.1 / speeds[0], rel=1e-3)
    del notes["fraction_of_limit"]
    assert notes == {
        "examples_per_second": 4.0,
        "target_tokens_per_second": 10.0,
        "given_tokens_per_second": 400.0,
        "computed_tokens_per_second": 100.0,
    }
    assert "fraction_of_limit" not in notes_on(Work(1, 1, 1, 1, 1.0, 9.0), torch.float32, CPU)


def test_a_process_that_took_no_step_has_no_figures():
    assert notes_on(Work(), torch.float32, CPU) == {}
