"""`python -m tailorbird.training plan.json ...`: runs plans, tells their story in events.jsonl, and leaves cleanly.

Exit status 0 when the run is finished or was interrupted in good order (SIGTERM or SIGINT: the state is saved, the last
event says which), 1 when it failed, 2 when the command line is wrong, 3 when another process of a run in several is
gone. A kill needs no status, and 3 is one: start the command again.

With `--processes N`, or under torchrun, several processes share the work of one plan; signals are for the first one.
Several plans are trained side by side; `--listen` takes more of them from a worker (protocol/together.py).
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from tailorbird.protocol import logs
from tailorbird.protocol.parent import end_with_parent
from tailorbird.protocol.training import TrainPlan
from tailorbird.training import PeerLost
from tailorbird.training.failures import tell_failed

log = logging.getLogger("tailorbird.training")

PEER_LOST = 3


def main(arguments: list[str]) -> int:
    try:
        asked = _parsed(arguments)
    except SystemExit as told:
        return int(told.code or 0)
    if asked.exit_with_parent is not None:
        end_with_parent(asked.exit_with_parent)
    stop = _StopSignal()
    if len(asked.plans) == 1 and not asked.listen:
        return _train(asked.plans[0], stop, asked.processes, asked.join)
    from tailorbird.training.orders import train_together  # seconds of imports, as below

    return train_together(asked.plans, stop_requested=stop.received, listens=asked.listen)


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tailorbird.training", allow_abbrev=False)
    parser.add_argument("plans", nargs="*", type=Path, metavar="plan.json")
    parser.add_argument("--listen", action="store_true", help="take more plans from a worker")
    parser.add_argument("--exit-with-parent", type=int, metavar="PID", help="end when this process does")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="train one plan in so many processes")
    parser.add_argument("--join", help=argparse.SUPPRESS)  # what the first of several processes tells the others
    asked = parser.parse_args(arguments)
    if not (asked.plans or asked.listen):
        parser.error("name a plan")
    if asked.processes < 1 or ((asked.processes > 1 or asked.join) and (len(asked.plans) != 1 or asked.listen)):
        parser.error("several processes train one plan")
    return asked


def _train(plan_path: Path, stop: _StopSignal, processes: int, join: str | None) -> int:
    run_folder = plan_path.parent
    with ExitStack() as told:
        try:
            plan = TrainPlan.from_json(plan_path.read_text("utf-8"))
            told.enter_context(logs.belonging(job=plan.job_id))
            run_folder = Path(plan.run_folder)
            from tailorbird.training.ranks import gathered  # seconds of imports: an early signal is already heard
            from tailorbird.training.run import assist, run

            ranks = told.enter_context(gathered(plan_path, run_folder, processes, join))
            if not ranks.first:
                assist(plan, ranks)
                return 0
            outcome = run(plan, stop_requested=stop.received, ranks=ranks)
        except PeerLost as error:  # no fault of the run's: whoever started it starts it again
            log.error("another process of the run is gone: %s", error)
            return PEER_LOST
        except Exception as error:  # the trainer's outermost frame: whatever happened becomes the run's last event
            tell_failed(run_folder, error)
            return 1
        log.info("left", extra={"outcome": outcome})
    return 0


class _StopSignal:
    """Remembers SIGTERM and SIGINT instead of dying of them."""

    def __init__(self) -> None:
        self._heard = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._heard = True

    def received(self) -> bool:
        return self._heard


if __name__ == "__main__":
    logs.set_up("info")
    logs.catch_the_rest()
    sys.exit(main(sys.argv[1:]))
