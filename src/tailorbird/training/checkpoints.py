"""What a run leaves on disk so that any process can take it up again: its events, its results and its state.

`events.jsonl` only ever grows: a resumed run repeats the steps after its saved state bit for bit, and what stands in
the file is not written again. So nobody who follows the file sees an event twice, or one that is later withdrawn.
"""

from __future__ import annotations

import csv
import dataclasses
import fcntl
import hashlib
import io
import json
import logging
import os
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from tailorbird.lm.lora import LoraPair
from tailorbird.protocol.training import (
    EVENTS_FILE,
    RESULT_COLUMNS,
    RESULTS_FILE,
    STATE_FOLDER,
    CheckpointSaved,
    Finished,
    Step,
    TrainEvent,
    TrainPlan,
    event_from_line,
    event_to_line,
)
from tailorbird.training import TrainingError
from tailorbird.training.turns import Turns

log = logging.getLogger(__name__)

_STATE_FILE = "resume.pt"
_LOCK_POLL_SECONDS = 0.2
# May differ between two processes of one run: where things lie and how the work is cut, not what is computed.
_FREE_FIELDS = {
    "run_folder",
    "base_model",
    "training_file",
    "validation_file",
    "initial_adapter",
    "threads",
    "save_every",
    "micro_batch_tokens",
    "patience",
}


class EventLog:
    """The run's events.jsonl, locked for one process. A line that a killed one left torn is cut off on opening."""

    @classmethod
    def open(cls, run_folder: Path, give_up: Callable[[], bool]) -> Turns[EventLog | None]:
        """Waits while another process trains in this folder, orphaned by a dead worker; None when told to give up."""
        file = (run_folder / EVENTS_FILE).open("a+b")
        waiting = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if give_up():
                    file.close()
                    return None
                if not waiting:
                    log.info("waiting for another process that trains in %s", run_folder)
                    waiting = True
                yield _LOCK_POLL_SECONDS
            else:
                return cls(file)

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.events: list[TrainEvent] = self._read_and_repair()
        self._steps = {event.step for event in self.events if isinstance(event, Step)}
        self._checkpoints = {event.step for event in self.events if isinstance(event, CheckpointSaved)}

    def _read_and_repair(self) -> list[TrainEvent]:
        self._file.seek(0)
        events: list[TrainEvent] = []
        whole = 0
        for line in self._file:
            try:
                if not line.endswith(b"\n"):
                    break
                events.append(event_from_line(line.decode("utf-8")))
            except (ValueError, TypeError):
                break
            whole += len(line)
        self._file.truncate(whole)
        return events

    @property
    def finished(self) -> Finished | None:
        return next((event for event in self.events if isinstance(event, Finished)), None)

    @property
    def steps(self) -> list[Step]:
        return [event for event in self.events if isinstance(event, Step)]

    def has_checkpoint(self, step: int) -> bool:
        return step in self._checkpoints

    def covers(self, step: int) -> bool:
        """Whether all steps up to `step` stand in the file."""
        return self._steps.issuperset(range(1, step + 1))

    def append(self, event: TrainEvent) -> bool:
        """Writes one line, visible to readers at once; False when the file has this step or checkpoint already."""
        if isinstance(event, Step):
            if event.step in self._steps:
                return False
            self._steps.add(event.step)
        elif isinstance(event, CheckpointSaved):
            if event.step in self._checkpoints:
                return False
            self._checkpoints.add(event.step)
        self.events.append(event)
        self._file.write(event_to_line(event).encode("utf-8") + b"\n")
        self._file.flush()
        return True

    def sync(self) -> None:
        """Forces all lines to disk. Needed before a state is saved, or a power cut could leave steps with no event."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class Results:
    """The run's results.csv: one row a step; a cell is empty where nothing was computed."""

    def __init__(self, run_folder: Path, steps: Iterable[Step], columns: tuple[str, ...] = RESULT_COLUMNS) -> None:
        """Writes the file anew from `steps`, so a row torn by a kill is whole again."""
        self.path = run_folder / RESULTS_FILE
        self._columns = columns
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(columns)
        text.writelines(self._row(step) for step in steps)
        replace_file(self.path, text.getvalue().encode("ascii"))
        self._file = self.path.open("a", encoding="ascii", newline="")

    def append(self, step: Step) -> None:
        self._file.write(self._row(step))
        self._file.flush()

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _row(self, step: Step) -> str:
        values = [step.step, *(getattr(step.metrics, column) for column in self._columns[1:])]
        return ",".join("" if value is None else repr(value) for value in values) + "\n"


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Everything that step `step` leaves to step `step + 1`. The data order is not in it: seed and epoch give that."""

    step: int
    seconds: float  # of training, in all processes so far
    adapter: dict[str, LoraPair]
    optimizer: dict[str, Any]
    random_state: torch.Tensor


def plan_fingerprint(plan: TrainPlan, epoch_tokens: int) -> str:
    """Equal for two plans that compute the same numbers on the same file."""
    numbers = {key: value for key, value in dataclasses.asdict(plan).items() if key not in _FREE_FIELDS}
    return hashlib.sha256(json.dumps([numbers, epoch_tokens], sort_keys=True).encode()).hexdigest()


def save_resume_point(run_folder: Path, point: ResumePoint, fingerprint: str) -> None:
    """Replaces the saved state; a kill at any moment leaves the old one or the new one."""
    content = io.BytesIO()
    torch.save(
        {"fingerprint": fingerprint, **{f.name: getattr(point, f.name) for f in dataclasses.fields(point)}}, content
    )
    folder = run_folder / STATE_FOLDER
    folder.mkdir(exist_ok=True)
    replace_file(folder / _STATE_FILE, content.getvalue())


def load_resume_point(run_folder: Path, fingerprint: str) -> ResumePoint | None:
    """The saved state, or None where there is none to use.

    Raises TrainingError when the state was saved under another plan or another training file.
    """
    path = run_folder / STATE_FOLDER / _STATE_FILE
    try:
        stored = cast(dict[str, Any], torch.load(path, map_location="cpu", weights_only=True))
        found = stored.pop("fingerprint")
        point = ResumePoint(**stored)
    except FileNotFoundError:
        return None
    except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError, AttributeError) as error:
        # Starting over costs time and changes nothing: the same plan gives the same losses.
        log.warning("the saved state cannot be read (%s); starting from the first step", error)
        return None
    if found != fingerprint:
        raise TrainingError("state_mismatch", "The saved state of this run belongs to another training plan.")
    return point


def replace_file(path: Path, content: bytes) -> None:
    """Puts `content` at `path`, whole or not at all, even when the power goes."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
