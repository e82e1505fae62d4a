"""What a trainer wrote into its run folder, and a way to stop it, for every test that runs one."""

from __future__ import annotations

from pathlib import Path

from tailorbird.protocol.training import EVENTS_FILE, Step, TrainEvent, TrainPlan, event_from_line


def events_of(plan: TrainPlan) -> list[TrainEvent]:
    """All whole lines; none before the run has begun."""
    path = Path(plan.run_folder) / EVENTS_FILE
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    return [event_from_line(line) for line in whole.splitlines()]


def steps_of(plan: TrainPlan) -> list[Step]:
    return [event for event in events_of(plan) if isinstance(event, Step)]


class StopAfter:
    """Asks the run to stop before its step `count + 1`."""

    def __init__(self, count: int) -> None:
        self.left = count

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0
