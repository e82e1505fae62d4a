"""A real `tailorbird up` on a temporary folder, with nothing replaced."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
import requests

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


class Installation:
    """`tailorbird up` over one data folder; it can be killed and started again."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith(("TAILORBIRD_", "AZURE_"))}
        self._environment |= {"PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1", **settings}
        self.process: subprocess.Popen[str] | None = None
        self.credentials: dict[str, str] = {}

    def start(self) -> None:
        command = [sys.executable, "-m", "tailorbird.cli.main", "up", "--data-dir", str(self.folder)]
        with (self.folder.parent / f"{self.folder.name}.up.log").open("a") as log:
            self.process = subprocess.Popen(
                [*command, "--port", "0", "--arm-port", "0"],
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready endpoint=http://127.0.0.1:"), (line, self.log())
        self.credentials = {}
        for text in (self.folder / "credentials.env").read_text().splitlines():
            name, value = text.removeprefix("export ").split("=", 1)
            self.credentials[name] = shlex.split(value)[0]

    def log(self) -> str:
        return (self.folder.parent / f"{self.folder.name}.up.log").read_text()[-3000:]

    def family(self) -> list[psutil.Process]:
        """`up` and everything below it."""
        assert self.process is not None
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def part(self, word: str) -> psutil.Process | None:
        """The process whose command line holds this word."""
        for process in self.family():
            try:
                if word in process.cmdline():
                    return process
            except psutil.NoSuchProcess:
                continue
        return None

    def stop(self) -> float:
        """SIGTERM; answers the seconds until everything was gone."""
        assert self.process is not None
        family = self.family()
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=20)
        alive = _gone(family, 5)
        assert not alive, f"still running: {alive}"
        return time.monotonic() - began

    def kill(self) -> None:
        assert self.process is not None
        family = self.family()
        self.process.kill()
        self.process.communicate(timeout=20)
        alive = _gone(family, 10)
        assert not alive, f"outlived their parent: {alive}"

    def azure(self) -> openai.AzureOpenAI:
        return openai.AzureOpenAI(
            azure_endpoint=self.credentials["AZURE_OPENAI_ENDPOINT"],
            api_key=self.credentials["AZURE_OPENAI_API_KEY"],
            api_version="2024-10-21",
        )

    def arm(self, method: str, path: str, body: Any = None) -> requests.Response:
        """A control-plane call below the account's resource id, with a token of the service principal."""
        env = self.credentials
        token = requests.post(
            f"{env['AZURE_AUTHORITY_HOST']}/{env['AZURE_TENANT_ID']}/oauth2/v2.0/token",
            data={
                "grant_type": "client_credentials",
                "client_id": env["AZURE_CLIENT_ID"],
                "client_secret": env["AZURE_CLIENT_SECRET"],
                "scope": "https://management.azure.com/.default",
            },
            verify=env["REQUESTS_CA_BUNDLE"],
            timeout=30,
        ).json()["access_token"]
        url = (
            f"{env['ARM_ENDPOINT']}/subscriptions/{env['AZURE_SUBSCRIPTION_ID']}/resourceGroups/"
            f"{env['AZURE_RESOURCE_GROUP']}/providers/Microsoft.CognitiveServices/accounts/"
            f"{env['AZURE_OPENAI_RESOURCE']}{path}"
        )
        return requests.request(
            method,
            url,
            params={"api-version": "2023-05-01"},
            headers={"Authorization": f"Bearer {token}"},
            json=body,
            verify=env["REQUESTS_CA_BUNDLE"],
            timeout=60,
        )


def _gone(family: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those still alive after `seconds`; a dead one that nobody has reaped yet counts as gone."""
    _, left = psutil.wait_procs(family, timeout=seconds)
    return [process for process in left if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def wait_for(what: str, check: Callable[[], bool], seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, f"waited {seconds} s for {what}"
        time.sleep(0.05)


@pytest.fixture
def until() -> Callable[..., None]:
    return wait_for


@pytest.fixture
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Installation]]:
    """Makes installations; what still runs at the end is killed."""
    made: list[Installation] = []

    def make(**settings: str) -> Installation:
        made.append(Installation(tmp_path_factory.mktemp("up") / "data", **settings))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and one.process.poll() is None:
            one.kill()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation for all tests of a module."""
    one = Installation(tmp_path_factory.mktemp("up") / "data")
    one.start()
    yield one
    if one.process is not None and one.process.poll() is None:
        one.kill()


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first forty rows of the example data."""
    lines = (EXAMPLES / "bookings.train.jsonl").read_bytes().split(b"\n")[:40]
    path = tmp_path_factory.mktemp("data") / "train.jsonl"
    path.write_bytes(b"\n".join(lines))
    return path
