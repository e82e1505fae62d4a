"""A child's life ends with its parent's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import tailorbird

ENVIRONMENT = {"PYTHONPATH": str(Path(tailorbird.__file__).parents[1]), "PATH": os.environ["PATH"]}
TIED = "import time; from tailorbird.protocol.parent import end_with_parent; end_with_parent({}); {}; time.sleep(60)"


def test_a_child_whose_parent_was_gone_before_it_started_ends_at_once() -> None:
    child = subprocess.run([sys.executable, "-c", TIED.format(1234567, "0")], env=ENVIRONMENT, timeout=30, check=False)
    assert child.returncode == -signal.SIGTERM


def test_a_killed_parent_takes_its_child_along() -> None:
    inner = TIED.format("os.getppid()", "print('tied', flush=True)")
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {'import os; ' + inner!r}])"
    # The grandchild inherits the pipe: it reads as ended once both are gone.
    with subprocess.Popen([sys.executable, "-c", outer], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "tied\n"
        parent.kill()
        assert parent.communicate(timeout=20)[0] == ""
