"""The processes of one run: the first decides and writes, the others compute what it hands them, until it is done.

They find each other through torchrun, or through a file where the first has started the others itself. The first one's
death ends the others' wait at once; theirs ends the run, which goes on from its last saved step when it is started
again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from tailorbird.training import PeerLost

T = TypeVar("T")
# A process that has died breaks its connections; a wait this long is one for a process that still works.
_PATIENCE = timedelta(hours=12)
_LEAVE_SECONDS = 30
_LOOPBACK = "lo" if sys.platform == "linux" else "lo0"


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process is number `rank` of `size`; each call below is made by all of them, in the same order."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def deal(self, hands: Sequence[T] | None) -> T:
        """The first process gives `hands`, one for each; the others give None. Answers this process's own."""
        own: list[Any] = [None]
        with _connected():
            dist.scatter_object_list(own, None if hands is None else list(hands), src=0)
        return cast(T, own[0])

    def collect(self, value: T) -> list[T]:
        """Everybody's, in their order; the others get an empty list."""
        found: list[Any] = [None] * self.size if self.first else []
        with _connected():
            dist.gather_object(value, found if self.first else None, dst=0)
        return found

    def add_up(self, numbers: Tensor) -> None:
        """Puts the sum of everybody's into the first process's `numbers`."""
        with _connected():
            dist.reduce(numbers, dst=0)

    def copy(self, numbers: Tensor) -> None:
        """Puts the first process's into everybody's `numbers`."""
        with _connected():
            dist.broadcast(numbers, src=0)


ALONE = Ranks()


@contextmanager
def _connected() -> Generator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo's word for a connection that broke
        raise PeerLost(str(error)) from error


@contextmanager
def gathered(plan_path: Path, run_folder: Path, processes: int, join: str | None) -> Generator[Ranks]:
    """The processes of this run: those that torchrun started, those that this one starts, or this one alone.

    `join` is what the first process has told one that it started.
    """
    if join is not None or dist.is_torchelastic_launched():
        with _joined(join) as ranks:
            yield ranks
    elif processes > 1:
        with _company(plan_path, run_folder, processes) as ranks:
            yield ranks
    else:
        yield ALONE


@contextmanager
def _company(plan_path: Path, run_folder: Path, size: int) -> Generator[Ranks]:
    """This process and `size` - 1 others that it starts on this machine; they end with it."""
    meeting = run_folder / f".ranks-{os.getpid()}"
    meeting.unlink(missing_ok=True)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", _LOOPBACK)  # nobody else is to reach them
    command = [sys.executable, "-m", "tailorbird.training", str(plan_path), f"--exit-with-parent={os.getpid()}"]
    others = [
        subprocess.Popen([*command, f"--join={rank}/{size}:{meeting}"], stdin=subprocess.DEVNULL)
        for rank in range(1, size)
    ]
    try:
        with _joined(f"0/{size}:{meeting}") as ranks:
            yield ranks
        with suppress(subprocess.TimeoutExpired):
            for other in others:
                other.wait(_LEAVE_SECONDS)
    finally:
        for other in others:
            other.kill()
            other.wait()
        meeting.unlink(missing_ok=True)


@contextmanager
def _joined(join: str | None) -> Generator[Ranks]:
    """Under torchrun the environment tells what `join` tells otherwise: number and count, and where all meet."""
    method, rank, size = "env://", -1, -1
    if join is not None:
        number, _, path = join.partition(":")
        rank, size = (int(part) for part in number.split("/"))
        method = f"file://{path}"
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _connected():
        dist.init_process_group(backend, init_method=method, rank=rank, world_size=size, timeout=_PATIENCE)
    ranks = Ranks(dist.get_rank(), dist.get_world_size())
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // ranks.size))  # they share the machine's cores
    if torch.cuda.is_available():
        torch.cuda.set_device(ranks.rank % torch.cuda.device_count())
    try:
        yield ranks
    finally:
        torch.set_num_threads(threads)
        dist.destroy_process_group()
