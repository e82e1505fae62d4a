"""The tutorial's Python, block after block in one file, runs as it stands with the oldest and the newest openai."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from demo_files import read_lines
from demo_service import Service

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.md"
CLIENTS = {
    "openai-1.109.1": ROOT / ".venvs" / "openai-1.109.1" / "bin" / "python",
    "openai-newest": Path(sys.executable),
}

pytestmark = pytest.mark.wire


def python_blocks() -> str:
    blocks = re.findall(r"^```python\n(.*?)^```$", TUTORIAL.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return "\n".join(blocks)


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    with Service(tmp_path_factory.mktemp("tutorial"), 0) as found:
        yield found


@pytest.mark.parametrize("client", CLIENTS)
def test_the_tutorial_runs_as_printed(client: str, credentials: Mapping[str, str], tmp_path: Path) -> None:
    python = CLIENTS[client]
    if not python.exists():
        pytest.skip(f"{client} is not installed: `make clients` makes its environment")
    for name, source in (("training_set", "bookings.train"), ("validation_set", "bookings.valid")):
        rows = read_lines(ROOT / "examples" / f"{source}.jsonl")[:16]  # few, so that the job takes seconds
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8-sig")
    (tmp_path / "tutorial.py").write_text(python_blocks(), encoding="utf-8")
    outside = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONWARNINGS")}
    done = subprocess.run(
        [str(python), "tutorial.py"],
        cwd=tmp_path,
        env={**outside, **credentials, "NO_PROXY": "localhost,127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Status: succeeded" in done.stdout
    header = (tmp_path / "results.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header.startswith("step,train_loss,train_mean_token_accuracy,valid_loss,valid_mean_token_accuracy")
    assert done.stdout.rstrip().splitlines()[-1].startswith("<Response [20")
