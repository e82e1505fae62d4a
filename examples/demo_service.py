"""Starts `tailorbird up` for the demo, reads what it prints and wrote, and stops it."""

from __future__ import annotations

import os
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from demo_files import DemoError

START_SECONDS = 180
STOP_SECONDS = 10  # what `up` promises


class Service:
    """A running `tailorbird up`. Use as a context manager; leaving it stops every process it started."""

    def __init__(self, out: Path, port: int) -> None:
        self._log = out / "up.log"
        data = out / "data"
        if (data / "credentials.env").exists():  # only a folder that an earlier demo made is thrown away
            shutil.rmtree(data)
        script = Path(sys.executable).with_name("tailorbird")
        command = [str(script)] if script.exists() else [sys.executable, "-m", "tailorbird.cli.main"]
        self._command = [*command, "up", "--data-dir", str(data), "--port", str(port), "--arm-port", "0"]

    def __enter__(self) -> dict[str, str]:
        """Waits for the ready line. Returns the names and values of credentials.env."""
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
            )
        try:
            return _credentials(self._wait_until_ready())
        except BaseException:
            self._process.kill()
            raise

    def __exit__(self, *_: object) -> None:
        took = self.stop()
        print(f"tailorbird up stopped in {took:.1f} s")

    def stop(self) -> float:
        """SIGTERM, then the seconds until it was gone. Raises DemoError when it outlives its promise."""
        started = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise DemoError(f"`tailorbird up` did not stop within {STOP_SECONDS} s of SIGTERM") from None
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()
        return time.monotonic() - started

    def _wait_until_ready(self) -> str:
        output = self._process.stdout
        assert output is not None  # stdout=PIPE
        deadline = time.monotonic() + START_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                if not selector.select(left):
                    break
                line = output.readline()
                if not line:
                    raise DemoError(f"`tailorbird up` ended with code {self._process.wait()}; see {self._log}")
                if line.startswith("ready "):
                    return line
        raise DemoError(f"`tailorbird up` was not ready within {START_SECONDS} s; see {self._log}")


def _credentials(ready_line: str) -> dict[str, str]:
    """The ready line is `ready endpoint=URL arm=URL credentials=PATH`; the file holds `export NAME=value` lines."""
    path = Path(ready_line.rstrip("\n").split("credentials=", 1)[1])
    pairs = [line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines() if "=" in line]
    return {name.removeprefix("export "): "".join(shlex.split(value)) for name, value in pairs}
