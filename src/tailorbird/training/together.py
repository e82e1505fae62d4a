"""Several runs side by side on one copy of their base, a step of one and then a step of the next.

Each run has its own plan, run folder, adapter, optimizer, data order, random numbers and events, and computes what it
would alone. Its end, good or bad, is its own too: the others go on.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from tailorbird.protocol import logs
from tailorbird.protocol.training import Finished, Interrupted, TrainPlan
from tailorbird.training.failures import tell_failed
from tailorbird.training.replicas import Replicas
from tailorbird.training.run import run_in_turns, torch_settings
from tailorbird.training.turns import Turns

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Member:
    number: int
    plan: TrainPlan
    turns: Turns[Finished | Interrupted]
    stopped: bool = False
    rests_until: float = 0.0
    random_numbers: torch.Tensor | None = None
    """The state its turn left; None before the first, which takes the plan's seed."""


class Group:
    """The runs of a process. `left` hears the number of each that has ended, once nothing of it is held any more."""

    def __init__(self, *, stop_requested: Callable[[], bool], left: Callable[[int], None]) -> None:
        self.failed = 0
        self._members: list[_Member] = []  # whose turn is next comes first
        self._stop_requested = stop_requested
        self._left = left
        self._replicas = Replicas()

    def __len__(self) -> int:
        return len(self._members)

    def take_in(self, number: int, plan_path: Path) -> None:
        """A plan that cannot be read fails in its own folder."""
        try:
            plan = TrainPlan.from_json(plan_path.read_text("utf-8"))
        except Exception as error:  # the outermost frame of this run
            self._fail(plan_path.parent, error)
            self._left(number)
            return

        def stop_requested() -> bool:
            return member.stopped or self._stop_requested()

        turns = run_in_turns(plan, stop_requested=stop_requested, load=self._replicas.load)
        member = _Member(number, plan, turns)
        self._members.append(member)

    def stop(self, number: int) -> None:
        """It saves and leaves in its next turn, before the others have theirs; nothing happens if it has left."""
        for member in self._members:
            member.stopped = member.stopped or member.number == number

    def turn(self) -> float:
        """Gives the next run its turn; answers how many seconds nobody has anything to do."""
        now = time.monotonic()
        awake = [member for member in self._members if member.stopped or member.rests_until <= now]
        if not awake:
            return min((member.rests_until - now for member in self._members), default=0.0)
        member = next((member for member in awake if member.stopped), awake[0])
        self._members.remove(member)
        with logs.belonging(job=member.plan.job_id), torch_settings(member.plan):
            goes_on = self._take_turn(member)
        if goes_on:
            self._members.append(member)
        else:
            gc.collect()  # a run's parts know each other: without this its memory would stay
            self._left(member.number)
        return 0.0

    def _take_turn(self, member: _Member) -> bool:
        """Whether the run goes on after it."""
        if member.random_numbers is not None:
            torch.set_rng_state(member.random_numbers)
        try:
            pause = next(member.turns)
        except StopIteration as end:
            log.info("left", extra={"outcome": end.value})
            return False
        except Exception as error:  # the outermost frame of this run
            self._fail(Path(member.plan.run_folder), error)
            return False
        member.random_numbers = torch.get_rng_state()
        member.rests_until = time.monotonic() + pause
        return True

    def _fail(self, run_folder: Path, error: Exception) -> None:
        self.failed += 1
        tell_failed(run_folder, error)
