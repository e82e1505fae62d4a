"""The sandbox of customers' grading code, with the real bubblewrap."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tailorbird.infra.sandbox import Bubblewrap
from tailorbird.service.ports.sandbox import CodeFailed, SandboxRefused


def _works() -> bool:
    if shutil.which("bwrap") is None:
        return False
    return subprocess.run(["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"], check=False).returncode == 0


real = pytest.mark.skipif(not _works(), reason="bubblewrap is not installed or may not make namespaces here")


async def test_without_the_operators_word_no_code_runs() -> None:
    with pytest.raises(SandboxRefused, match="python_graders"):
        await Bubblewrap(allowed=False).grade("def grade(s, i): return 1", {}, {})


@real
async def test_a_grader_sees_sample_and_item_and_its_prints_are_no_answer() -> None:
    source = "def grade(sample, item):\n    print('noise')\n    return len(sample['output_text']) / item['n']"
    assert await Bubblewrap(allowed=True).grade(source, {"output_text": "four"}, {"n": 8}) == 0.5


@real
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def grade(s, i): return open('/etc/passwd').read()", "No such file"),
        (f"def grade(s, i): return open({__file__!r}).read()", "No such file"),
        ("import socket\ndef grade(s, i): return socket.create_connection(('192.0.2.1', 80), 1)", "unreachable"),
        ("def grade(s, i): raise ValueError('of mine')", "ValueError: of mine"),
        ("def grade(s, i): return 'x'", "could not convert"),
        ("def grade(s, i): return float('nan')", "no finite number"),
        ("x = 1", "no function grade"),
        ("import os\ndef grade(s, i): os._exit(0)", "without an answer"),
        ("def grade(s, i): return bytearray(3 * 1024**3)[0]", "MemoryError"),
    ],
)
async def test_what_code_may_not_do_fails_with_its_reason(source: str, reason: str) -> None:
    with pytest.raises(CodeFailed, match=reason):
        await Bubblewrap(allowed=True).grade(source, {}, {})


@real
async def test_code_that_does_not_end_is_ended() -> None:
    with pytest.raises(CodeFailed, match=r"more than 0\.5 seconds"):
        await Bubblewrap(allowed=True, seconds=0.5).grade("def grade(s, i):\n    while True: pass", {}, {})
