"""Trains plans of one base side by side in one child process, and tails the events of each as if it were alone.

A crash of the process is one of all its runs: whoever follows a run starts it again. Runs of a crashed process share
their next one with a quarter as many, so that a run that brings its process down is soon by itself, before the others
have crashed as often as is thought a fault of theirs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tailorbird.infra.trainer import LOG_TAIL_BYTES, MALLOC, LocalRun, write_plan
from tailorbird.protocol.together import Left, Message, Stop, Train, message_from_line, message_to_line
from tailorbird.protocol.training import TrainPlan
from tailorbird.service.ports import TrainerRun

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "tailorbird.training", "--listen")


@dataclass(frozen=True, slots=True)
class _Kind:
    """Plans of one kind can share a process."""

    base: str
    dtype: str
    threads: int

    @classmethod
    def of(cls, plan: TrainPlan) -> _Kind:
        return cls(plan.base_model, plan.dtype, plan.threads)


class TogetherTrainer:
    """At most `most` runs share a process."""

    def __init__(self, environment: Mapping[str, str], most: int) -> None:
        self._environment = {**environment, **MALLOC}
        self._most = most
        self._groups: list[_Group] = []
        self._room: dict[str, int] = {}  # of jobs whose process has crashed: how many may share their next one
        self._starting = asyncio.Lock()  # two that start at once shall find each other

    async def start(self, plan: TrainPlan) -> TrainerRun:
        path = write_plan(plan)
        kind, room = _Kind.of(plan), self._room.get(plan.job_id, self._most)
        async with self._starting:
            self._groups = [group for group in self._groups if group.is_open]
            group = next((group for group in self._groups if group.kind == kind and group.has_room(room)), None)
            if group is None:
                group = await _Group.start(self._environment, kind, self._room)
                self._groups.append(group)
            return LocalRun(path.parent, group.take_in(plan.job_id, path, room), group.last_words)


class _Member:
    """A run's place in a process, as a process of its own to whoever follows it."""

    def __init__(self, group: _Group, number: int, job: str, room: int) -> None:
        self.job = job
        self.room = room
        self.given_up = False
        self._group = group
        self._number = number
        self._left = asyncio.Event()
        self._status: int | None = None

    @property
    def returncode(self) -> int | None:
        return self._status

    async def wait(self) -> int:
        await self._left.wait()
        return self._status or 0

    def terminate(self) -> None:
        self._group.say(Stop(self._number))

    def kill(self) -> None:
        """The process goes when nobody wants it any more; until then this one waits for the end of its turn."""
        self.given_up = True
        self._group.end_unwanted()

    def leave(self, status: int) -> None:
        self._status = status
        self._left.set()


class _Group:
    """A process and who is in it. It ends with its last run."""

    def __init__(self, process: asyncio.subprocess.Process, errors: IO[bytes], kind: _Kind, room: dict[str, int]):
        self.kind = kind
        self.is_open = True
        self._process = process
        self._errors = errors
        self._last_words = ""
        self._room = room
        self._members: dict[int, _Member] = {}
        self._count = 0
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, environment: Mapping[str, str], kind: _Kind, room: dict[str, int]) -> _Group:
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process has ended
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            f"--exit-with-parent={os.getpid()}",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=environment,
            # A Ctrl-C in the terminal is the worker's to pass on.
            start_new_session=True,
        )
        return cls(process, errors, kind, room)

    def has_room(self, room: int) -> bool:
        return len(self._members) < min([room, *(member.room for member in self._members.values())])

    def take_in(self, job: str, plan: Path, room: int) -> _Member:
        member = _Member(self, self._count, job, room)
        self._members[self._count] = member
        self.say(Train(self._count, str(plan)))
        self._count += 1
        return member

    def say(self, message: Message) -> None:
        """A process that is gone hears nothing, and its end tells as much."""
        if self.is_open:
            self._input.write(message_to_line(message))

    def end_unwanted(self) -> None:
        if self._process.returncode is None and all(member.given_up for member in self._members.values()):
            self._process.kill()

    def last_words(self) -> str:
        """The end of what the process has written to stderr, once it has ended."""
        return self._last_words

    @property
    def _input(self) -> asyncio.StreamWriter:
        assert self._process.stdin is not None
        return self._process.stdin

    async def _read(self) -> None:
        """Until the process has ended. Its last run leaves with it, as a run alone would."""
        assert self._process.stdout is not None
        last: _Member | None = None
        try:
            while line := await self._process.stdout.readline():
                last = self._let_go(line) or last
            status = await self._process.wait()
            self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            self._last_words = self._errors.read().decode(errors="replace")
        finally:
            self.is_open = False
            self._input.close()
            self._errors.close()
        together = len(self._members)
        for member in self._members.values():
            if not member.given_up:
                self._room[member.job] = max(1, together // 4)
            member.leave(status)
        if last is not None:
            last.leave(0)

    def _let_go(self, line: bytes) -> _Member | None:
        """The member that was the last, if there is none any more: the process is told to end."""
        try:
            message = message_from_line(line)
        except ValueError:
            log.warning("the trainer says what nobody understands")
            return None
        if not isinstance(message, Left) or message.run not in self._members:
            return None
        member = self._members.pop(message.run)
        self._room.pop(member.job, None)
        if self._members:
            member.leave(0)
            return None
        self.is_open = False
        self._input.close()
        return member
