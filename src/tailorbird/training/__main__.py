"""`python -m tailorbird.training plan.json`: runs the plan, tells its story in events.jsonl, and leaves cleanly.

Exit status 0 when the run is finished or was interrupted in good order (SIGTERM or SIGINT: the state is saved, the last
event says which), 1 when it failed, 2 when the command line is wrong. A kill needs no status: start the command again.
"""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType

from tailorbird.protocol.parent import end_with_parent
from tailorbird.protocol.training import EVENTS_FILE, Failed, TrainPlan, event_to_line
from tailorbird.training import TrainingError

log = logging.getLogger("tailorbird.training")

EXIT_WITH_PARENT = "--exit-with-parent="


def main(arguments: list[str]) -> int:
    tied = [argument.removeprefix(EXIT_WITH_PARENT) for argument in arguments if argument.startswith(EXIT_WITH_PARENT)]
    paths = [argument for argument in arguments if not argument.startswith("--")]
    if len(paths) != 1 or len(arguments) != 1 + len(tied) or not all(pid.isdecimal() for pid in tied):
        sys.stderr.write(f"usage: python -m tailorbird.training plan.json [{EXIT_WITH_PARENT}PID]\n")
        return 2
    for pid in tied:
        end_with_parent(int(pid))
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    stop = _StopSignal()
    plan_path = Path(paths[0])
    run_folder = plan_path.parent
    try:
        plan = TrainPlan.from_json(plan_path.read_text("utf-8"))
        run_folder = Path(plan.run_folder)
        from tailorbird.training.run import run  # seconds of imports: a signal that comes meanwhile is already heard

        outcome = run(plan, stop_requested=stop.received)
    except Exception as error:  # the trainer's outermost frame: whatever happened becomes the run's last event
        failed = _failed(error)
        log.error("failed (%s): %s\n%s", failed.code, failed.message, failed.detail)
        _append_failed(run_folder, failed)
        return 1
    log.info("%s", outcome)
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


def _failed(error: Exception) -> Failed:
    detail = "".join(traceback.format_exception(error))
    if isinstance(error, TrainingError):
        return Failed(error.code, error.message, detail)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate" in str(error):
        return Failed(
            "out_of_memory", "Training ran out of memory. Shorter examples or a smaller batch need less.", detail
        )
    return Failed("internal_error", "Training stopped because of an internal error.", detail)


def _append_failed(run_folder: Path, failed: Failed) -> None:
    path = run_folder / EVENTS_FILE
    if not run_folder.is_dir():
        return
    with path.open("a+b") as file:
        # A killed predecessor may have left half a line; on a line of its own this event can still be read.
        file.seek(0, 2)
        if file.tell() > 0:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(event_to_line(failed).encode("utf-8") + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
