"""Customers' grading code in a bubblewrap sandbox: no network, no files of ours, bounded time, memory and output.

The limits are Azure's: 2 GB of memory, 1 GB of disk, two minutes. bubblewrap (https://github.com/containers/bubblewrap)
makes the namespaces; the interpreter and the system's libraries are all the code sees, read-only.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any, cast

from tailorbird.service.ports import CodeFailed, SandboxBroken, SandboxRefused

_SECONDS = 120
_MEMORY_BYTES = 2 * 1024**3
_DISK_BYTES = 1024**3
_OUTPUT_BYTES = 64 * 1024
_AT_ONCE = 2
_STARTED = "started"

# Runs inside. The answer goes out by a stream of its own, so that what the code prints cannot be taken for it.
_RUNNER = """
import json, os, resource, sys, traceback
resource.setrlimit(resource.RLIMIT_AS, (%(memory)d, %(memory)d))
resource.setrlimit(resource.RLIMIT_CPU, (%(seconds)d, %(seconds)d))
resource.setrlimit(resource.RLIMIT_FSIZE, (%(disk)d, %(disk)d))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
work = json.load(sys.stdin)
answer.write('"started"\\n'); answer.flush()
try:
    space = {"__name__": "grader"}
    exec(compile(work["source"], "grader.py", "exec"), space)
    if not callable(space.get("grade")):
        raise NameError("the source defines no function grade(sample, item)")
    score = float(space["grade"](work["sample"], work["item"]))
    result = {"score": score}
except BaseException as error:
    lines = traceback.format_exception_only(error)
    result = {"error": "".join(lines).strip()[-2000:]}
answer.write(json.dumps(result)); answer.flush()
"""


class Bubblewrap:
    """`allowed` is the operator's word: without it no code runs."""

    def __init__(self, allowed: bool, seconds: float = _SECONDS) -> None:
        self._allowed = allowed
        self._seconds = seconds
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def check(self) -> None:
        if not self._allowed:
            raise SandboxRefused(
                "Python graders run code of customers and are switched off here. Use string_check, text_similarity or "
                "score_model, or ask the operator for the setting python_graders."
            )
        if shutil.which("bwrap") is None:
            raise SandboxRefused("Python graders need bubblewrap, which is not installed on this server.")

    async def grade(self, source: str, sample: dict[str, Any], item: dict[str, Any]) -> float:
        self.check()
        work = json.dumps({"source": source, "sample": sample, "item": item}).encode()
        async with self._slots:
            said = await self._run(work)
        if not said or json.loads(said[0]) != _STARTED:
            raise SandboxBroken("sandbox_did_not_start")
        if len(said) < 2:
            raise CodeFailed("The grader ended without an answer: out of memory, or it ended the process itself.")
        result = cast("dict[str, Any]", json.loads(said[1]))
        if "error" in result:
            raise CodeFailed(str(result["error"]))
        score = float(result["score"])
        if not math.isfinite(score):
            raise CodeFailed(f"grade answered {score}, which is no finite number.")
        return score

    async def _run(self, work: bytes) -> list[str]:
        runner = _RUNNER % {"memory": _MEMORY_BYTES, "seconds": math.ceil(self._seconds), "disk": _DISK_BYTES}
        process = await asyncio.create_subprocess_exec(
            *_command(),
            sys.executable,
            "-I",
            "-B",
            "-c",
            runner,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_OUTPUT_BYTES,
        )
        try:
            out, _ = await asyncio.wait_for(process.communicate(work), self._seconds)
        except TimeoutError:
            raise CodeFailed(f"The grader took more than {self._seconds:g} seconds.") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        return out[:_OUTPUT_BYTES].decode(errors="replace").splitlines()


def _command() -> list[str]:
    """bubblewrap with everything of the interpreter and the system's libraries readable, and nothing else there."""
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    # First of all mounts: an interpreter that is installed below /tmp would be hidden by it otherwise.
    command += ["--size", str(_DISK_BYTES), "--tmpfs", "/tmp"]
    roots = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent.parent}
    for folder in ("/usr", "/lib", "/lib64", "/bin", *(str(root) for root in sorted(roots))):
        if Path(folder).exists():
            command += ["--ro-bind", folder, folder]
    return [*command, "--proc", "/proc", "--dev", "/dev", "--chdir", "/tmp"]
