"""The engine's log: a line a request, with what of the server it was made for."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tailorbird.protocol.logs import Lines
from tailorbird.serving import server
from tailorbird.serving.observed import Observed

ASK: dict[str, Any] = {"model": "base", "prompt": [5, 6, 7, 8], "max_tokens": 2, "temperature": 0}


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(Lines())
    ours = logging.getLogger("tailorbird")
    before = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    yield out
    ours.removeHandler(handler)
    ours.setLevel(before)


async def answer(scope: Any, receive: Any, send: Any) -> None:
    logging.getLogger("tailorbird.serving").info("inside")
    await send({"type": "http.response.start", "status": 418})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await send({"type": "http.response.body", "body": b"b"})


async def observe(app: Any, path: str, *headers: tuple[bytes, bytes]) -> list[tuple[str, int]]:
    """Path and status of what was counted."""
    counted: list[tuple[str, int]] = []

    async def nothing(*_: Any) -> Any:
        return {}

    def answered(path: str, status: int, seconds: float) -> None:
        assert seconds >= 0
        counted.append((path, status))

    await Observed(app, answered, frozenset({"/health", "/v1/models"}))(
        {"type": "http", "method": "GET", "path": path, "headers": list(headers)}, nothing, nothing
    )
    return counted


async def test_a_request_leaves_one_line_and_its_handlers_lines_carry_its_ids(log: io.StringIO) -> None:
    await observe(answer, "/v1/models", (b"x-request-id", b"r1"), (b"x-tailorbird-job", b"ftjob-1"))
    inside, request = (json.loads(line) for line in log.getvalue().splitlines())
    assert [(one["request_id"], one["job"]) for one in (inside, request)] == [("r1", "ftjob-1")] * 2
    assert (request["message"], request["method"], request["path"], request["status"]) == (
        "request", "GET", "/v1/models", 418,
    )  # fmt: skip
    assert request["ms"] >= 0


async def test_a_request_that_breaks_leaves_its_line_as_a_500(log: io.StringIO) -> None:
    async def broken(*_: Any) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await observe(broken, "/v1/models")
    (line,) = (json.loads(line) for line in log.getvalue().splitlines())
    assert line["status"] == 500
    assert "request_id" not in line


async def test_requests_are_counted_by_the_paths_there_are(log: io.StringIO) -> None:
    assert await observe(answer, "/v1/models") == [("/v1/models", 418)]
    assert await observe(answer, "/v1/models/../../etc") == []


async def test_whoever_only_looks_leaves_no_line(log: io.StringIO) -> None:
    for path in ("/health", "/metrics"):
        await observe(answer, path)
    assert all(json.loads(line)["message"] == "inside" for line in log.getvalue().splitlines())


def test_every_line_of_the_engine_s_process_is_json_and_a_completion_s_has_the_request_s_id(
    llama: Any, tmp_path: Path
) -> None:
    port_file = tmp_path / "port"
    command = [sys.executable, "-m", "tailorbird.serving", "--base", str(llama.base), "--served-name", "base"]
    command += ["--port-file", str(port_file), "--threads", "1"]
    environment = {"PYTHONPATH": str(Path(server.__file__).parents[2]), "PATH": ""}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            deadline = time.monotonic() + 120
            while not port_file.exists():
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.05)
            url = f"http://127.0.0.1:{int(port_file.read_text())}"
            headers = {"x-request-id": "r1"}
            assert httpx.post(f"{url}/v1/completions", json=ASK, headers=headers, timeout=60).status_code == 200
            assert httpx.post(f"{url}/v1/completions", json=ASK | {"model": "who"}, timeout=60).status_code == 404
            process.terminate()
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    lines = [json.loads(line) for line in said.splitlines()]
    ready, first, second = lines
    assert (ready["message"], ready["base"], ready["url"]) == ("the engine is ready", "base", url)
    assert (first["request_id"], first["path"], first["status"]) == ("r1", "/v1/completions", 200)
    assert second["status"] == 404
    assert "request_id" not in second
