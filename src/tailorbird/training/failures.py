"""What becomes of an error that ended a run: the run's last event."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

from tailorbird.protocol.training import EVENTS_FILE, Failed, event_to_line
from tailorbird.training import TrainingError

log = logging.getLogger(__name__)


def tell_failed(run_folder: Path, error: Exception) -> None:
    """Logs the error with all it says and appends what of it the customer may see; nobody holds the event file."""
    failed = _failed(error)
    log.error("failed: %s", failed.message, exc_info=error, extra={"code": failed.code})
    _append(run_folder, failed)


def _failed(error: Exception) -> Failed:
    detail = "".join(traceback.format_exception(error))
    if isinstance(error, TrainingError):
        return Failed(error.code, error.message, detail)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate" in str(error):
        return Failed(
            "out_of_memory", "Training ran out of memory. Shorter examples or a smaller batch need less.", detail
        )
    return Failed("internal_error", "Training stopped because of an internal error.", detail)


def _append(run_folder: Path, failed: Failed) -> None:
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
